"""Access tokens of Google's service accounts, for operators. Playbooks have the kind google_access_token of their
keychain instead."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import orjson

from ...errors import InvalidRequest, Unavailable
from ..models.credentials import GoogleToken, RequestToken
from ..operation import Call, Operation, audit

CALL_SECONDS = 20.0
MAX_BYTES = 64 * 1024
FORM = "application/x-www-form-urlencoded"
# of a token whose endpoint does not say how long it is valid
DEFAULT_SECONDS = 3600.0


async def token(call: Call) -> GoogleToken:
    """Raises NotFound, InvalidRequest for an account that cannot be used or is refused, and Unavailable."""
    # not needed by other requests
    from ...tools.google_account import GRANT_TYPE, Unusable, account_of, assertion, token_url

    body: RequestToken = call.body
    name = "service_account" if body.credential is None else f"credential {body.credential!r}"
    data = body.service_account
    if body.credential is not None:
        data = await call.services.credentials.fields(body.credential)
    audit("readGoogleToken", call, credential=body.credential)
    try:
        account = account_of(data or {})
        signed = assertion(account, {"scope": " ".join(body.scopes)})
    except Unusable as error:
        raise InvalidRequest(f"the {name} {error}") from None
    form = urlencode({"grant_type": GRANT_TYPE, "assertion": signed}).encode()
    answer = await _exchanged(token_url(account), form, allow_private=call.services.allow_private_http)
    seconds = _seconds(answer.get("expires_in"))
    return GoogleToken(
        access_token=answer["access_token"],
        token_type=str(answer.get("token_type") or "Bearer"),
        expires_in=seconds,
        expires_at=call.services.now() + timedelta(seconds=seconds),
        scopes=body.scopes,
        service_account=str(account["client_email"]),
    )


async def _exchanged(url: str, form: bytes, *, allow_private: bool) -> Mapping[str, Any]:
    """The answer of the token endpoint (RFC 7523). Nothing of it is told if it is no token."""
    # not needed by other requests
    from ..http_get import NotFetched, http_request

    try:
        content = await asyncio.to_thread(
            http_request,
            "POST",
            url,
            headers={"Content-Type": FORM, "Accept": "application/json"},
            body=form,
            allow_private=allow_private,
            seconds=CALL_SECONDS,
            max_bytes=MAX_BYTES,
        )
    except TimeoutError:
        raise Unavailable(f"the token endpoint did not answer within {CALL_SECONDS:g} s") from None
    except NotFetched as error:
        if error.status is not None and error.status >= 500:
            raise Unavailable(f"no token: {error}") from None
        raise InvalidRequest(f"no token: {error}") from None
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("access_token"), str) or not answer["access_token"]:
        raise InvalidRequest("the token endpoint answered without an access_token")
    return answer


def _seconds(stated: Any) -> float:
    """`stated`: `expires_in` of the answer, which some send as text."""
    try:
        return min(max(0.0, float(stated)), 31 * 86_400.0)
    except (TypeError, ValueError):
        return DEFAULT_SECONDS


OPERATIONS = (
    Operation(
        "createGoogleToken",
        "POST",
        "/api/gcp/token",
        summary="Get an access token of a Google service account",
        tag="credentials",
        # it is as good as the data of the credential
        roles=frozenset({"operator"}),
        handler=token,
        answer=GoogleToken,
        body=RequestToken,
    ),
)
