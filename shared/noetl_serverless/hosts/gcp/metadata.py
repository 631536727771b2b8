"""The tokens of the service account that a function runs as, from the metadata server of its instance.

https://cloud.google.com/compute/docs/metadata/overview
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote

import orjson

from ...errors import Unavailable
from ..cloud.transport import ApiError, Response, Transport

ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default"
DEFAULT_HOST = "metadata.google.internal"
# a token is replaced while it has still this long to live; the server makes new ones five minutes before their end
RENEWAL_SECONDS = 240.0

# the token, and when it ends, in seconds since 1970
_Token = tuple[str, float]


class Metadata:
    def __init__(self, host: str = DEFAULT_HOST, *, clock: Callable[[], float] = time.time) -> None:
        self._url = f"http://{host}{ACCOUNT}"
        self._clock = clock
        self._transport = Transport(_error)
        self._tokens: dict[str, _Token] = {}
        self._renewals: dict[str, asyncio.Lock] = {}

    async def access_token(self) -> str:
        """An OAuth token for Google's APIs. Raises ApiError, Unavailable."""
        return await self._token("/token", self._parse_access_token)

    async def email(self) -> str:
        """The address of the service account. Raises ApiError, Unavailable."""
        answer = await self._transport.send("metadata", "GET", f"{self._url}/email", _headers)
        return answer.body.decode().strip()

    async def id_token(self, audience: str) -> str:
        """A JWT that names the service account to the service at `audience`. Raises ApiError, Unavailable."""
        return await self._token(f"/identity?audience={quote(audience, safe='')}&format=full", _parse_id_token)

    async def close(self) -> None:
        await self._transport.close()

    async def _token(self, path: str, parse: Callable[[bytes], _Token]) -> str:
        # many may ask at the moment of a renewal
        async with self._renewals.setdefault(path, asyncio.Lock()):
            known = self._tokens.get(path)
            left = known[1] - self._clock() if known else 0.0
            if known is None or left < RENEWAL_SECONDS:
                try:
                    known = self._tokens[path] = await self._renewed(path, parse)
                except (ApiError, Unavailable):
                    # the old one is still good
                    if known is None or left <= 0:
                        raise
        return known[0]

    async def _renewed(self, path: str, parse: Callable[[bytes], _Token]) -> _Token:
        answer = await self._transport.send("metadata", "GET", self._url + path, _headers)
        try:
            return parse(answer.body)
        except (ValueError, KeyError, TypeError) as error:
            raise ApiError("metadata", answer.status, "", "the answer is no token") from error

    def _parse_access_token(self, body: bytes) -> _Token:
        token = orjson.loads(body)
        return str(token["access_token"]), self._clock() + float(token["expires_in"])


def claims_of(token: str) -> Mapping[str, object]:
    """The claims of a JWT, unverified. ValueError if it is none."""
    try:
        _, payload, _ = token.split(".")
        claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise ValueError("not a JSON Web Token")
    return claims


def _parse_id_token(body: bytes) -> _Token:
    token = body.decode().strip()
    return token, float(str(claims_of(token)["exp"]))


async def _headers() -> Mapping[str, str]:
    return {"metadata-flavor": "Google"}


def _error(service: str, answer: Response) -> ApiError:
    return ApiError(service, answer.status, "", answer.body.decode(errors="replace")[:200])
