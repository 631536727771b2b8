"""Signed requests to AWS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from ...tools.aws_signature import Query, encode_path, encode_query, signed_headers
from ..cloud.connections import Body, Read
from ..cloud.transport import MAX_TRIES, TIMEOUT_SECONDS, ApiError, Response, Transport
from .account import Account

_THROTTLED = ("Throttl", "SlowDown", "RequestLimitExceeded", "TooManyRequests", "RequestThrottled", "RequestTimeout")


class AwsError(ApiError):
    @property
    def is_transient(self) -> bool:
        return super().is_transient or any(word in self.code for word in _THROTTLED)


class Api:
    """Every call is retried while the failure is transient; then AwsError, or Unavailable if there was no answer."""

    def __init__(
        self, account: Account, *, tries: int = MAX_TRIES, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.account = account
        self._now = now
        self._transport = Transport(_error, tries)

    async def json(self, service: str, target: str, body: Mapping[str, Any], version: str = "1.1") -> dict[str, Any]:
        """A call of a service that speaks JSON: `target` names the operation, as in its X-Amz-Target."""
        headers = {"content-type": f"application/x-amz-json-{version}", "x-amz-target": target}
        answer = await self.request(
            service, "POST", self.account.endpoint(service), "/", headers=headers, body=_json(body)
        )
        return orjson.loads(answer.body) if answer.body else {}

    async def request(
        self,
        service: str,
        method: str,
        endpoint: str,
        path: str,
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        digest: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        tries: int | None = None,
        read: Read | None = None,
    ) -> Response:
        """`path` is not encoded yet; `digest` is the body's SHA-256, if it is known, as it must be of one in parts."""
        url = endpoint + encode_path(path)
        if query:
            url += f"?{encode_query(query)}"

        async def signed() -> Mapping[str, str]:
            account = self.account
            credentials = await account.current_credentials()
            whole = body if isinstance(body, bytes) else b""
            return signed_headers(
                credentials, account.region, service, method, url, headers or {}, whole, self._now(), digest
            )

        return await self._transport.send(service, method, url, signed, body, timeout=timeout, tries=tries, read=read)

    async def close(self) -> None:
        await self._transport.close()


def _json(body: Mapping[str, Any]) -> bytes:
    return orjson.dumps(body)


def _error(service: str, answer: Response) -> AwsError:
    code, message = _json_error(answer) or _xml_error(answer)
    return AwsError(service, answer.status, code, message)


def _json_error(answer: Response) -> tuple[str, str] | None:
    try:
        body = orjson.loads(answer.body)
        code = body.get("__type") or body.get("Code") or answer.headers.get("x-amzn-errortype", "")
        return str(code).rpartition("#")[2].partition(":")[0], str(body.get("message") or body.get("Message") or "")
    except (orjson.JSONDecodeError, AttributeError):
        return None


def _xml_error(answer: Response) -> tuple[str, str]:
    text = answer.body.decode(errors="replace")
    return _element(text, "Code") or "Unknown", _element(text, "Message")


def _element(text: str, name: str) -> str:
    return text.partition(f"<{name}>")[2].partition(f"</{name}>")[0]
