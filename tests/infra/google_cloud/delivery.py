"""HTTP requests that Google's services send, with an ID token of the account that was named for them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from .errors import ApiError
from .identities import IdTokens
from .service_accounts import ServiceAccounts

# numbers of google.rpc.Code, for statuses that have one
_RPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 429: 8, 499: 1, 501: 12, 503: 14, 504: 4}
_OK, _UNKNOWN, _INTERNAL, _UNAVAILABLE, _DEADLINE_EXCEEDED = 0, 2, 13, 14, 4


@dataclass(frozen=True, slots=True)
class Identity:
    """The account, and the audience of its token."""

    email: str
    audience: str


@dataclass(frozen=True, slots=True)
class Reply:
    """`status` is None if there was none; `retry_after`: seconds that the server asks to wait."""

    status: int | None
    code: int
    message: str
    retry_after: float = 0.0

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Delivery:
    def __init__(self, accounts: ServiceAccounts, id_tokens: IdTokens) -> None:
        self._accounts = accounts
        self._id_tokens = id_tokens
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        # as many as the services let through, and none that the other end has closed meanwhile
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None))

    async def stop(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        identity: Identity | None,
        timeout: float,
    ) -> Reply:
        """Never raises for what the other end does, nor for an account that is gone."""
        assert self._session is not None
        sent = dict(headers)
        if identity is not None:
            try:
                caller = self._accounts.caller(identity.email)
            except ApiError as error:
                return Reply(None, error.number, f"{identity.email}: {error}")
            sent["Authorization"] = f"Bearer {self._id_tokens.issue(caller, identity.audience)}"
        try:
            async with (
                asyncio.timeout(timeout),
                self._session.request(
                    method,
                    url,
                    headers=sent,
                    data=body,
                    allow_redirects=False,
                    skip_auto_headers=["Content-Type", "Accept", "Accept-Encoding"],
                ) as response,
            ):
                await response.read()
                return Reply(response.status, _rpc_code(response.status), _text(response), _retry_after(response))
        except TimeoutError:
            return Reply(None, _DEADLINE_EXCEEDED, f"no answer within {timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Reply(None, _UNAVAILABLE, f"{type(error).__name__}: {error}")


def _rpc_code(status: int) -> int:
    if 200 <= status < 300:
        return _OK
    return _RPC_CODES.get(status, _INTERNAL if status >= 500 else _UNKNOWN)


def _text(response: aiohttp.ClientResponse) -> str:
    return f"HTTP status code {response.status}"


def _retry_after(response: aiohttp.ClientResponse) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else 0.0
