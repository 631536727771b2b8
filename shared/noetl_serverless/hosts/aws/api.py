"""Signed requests to AWS."""

from __future__ import annotations

import asyncio
import http.client
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from ...errors import Unavailable
from .account import Account
from .connections import Connections
from .signature import Query, encode_path, encode_query, signed_headers

MAX_TRIES = 3
FIRST_PAUSE_SECONDS = 0.1
TIMEOUT_SECONDS = 10.0
# requests under way at once: a worker may read results for all its commands
MAX_CONNECTIONS = 32
_THROTTLED = ("Throttl", "SlowDown", "RequestLimitExceeded", "TooManyRequests", "RequestThrottled")


class AwsError(Exception):
    """A service answered with an error. `code` is its own: ResourceNotFoundException, AccessDenied, ..."""

    def __init__(self, service: str, status: int, code: str, message: str) -> None:
        super().__init__(f"{service} answered {status} {code}: {message}")
        self.status = status
        self.code = code

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return self.status >= 500 or self.status == 429 or any(word in self.code for word in _THROTTLED)


@dataclass(frozen=True, slots=True)
class Response:
    """`headers` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Api:
    """Every call is retried while the failure is transient; then AwsError, or Unavailable if there was no answer."""

    def __init__(
        self, account: Account, *, tries: int = MAX_TRIES, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.account = account
        self._tries = tries
        self._now = now
        self._connections = Connections()
        self._threads = ThreadPoolExecutor(MAX_CONNECTIONS, thread_name_prefix="aws")

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
        body: bytes = b"",
        timeout: float = TIMEOUT_SECONDS,
        tries: int | None = None,
    ) -> Response:
        """`path` is not encoded yet."""
        url = endpoint + encode_path(path)
        if query:
            url += f"?{encode_query(query)}"
        for attempts_left in reversed(range(tries or self._tries)):
            try:
                answer = await self._once(service, method, url, headers or {}, body, timeout)
                if answer.status < 400:
                    return answer
                error = _error(service, answer)
                if not attempts_left or not error.is_transient:
                    raise error
            except (OSError, http.client.HTTPException) as error:
                if not attempts_left:
                    raise Unavailable(f"{service} does not answer: {type(error).__name__}") from error
            await asyncio.sleep(
                FIRST_PAUSE_SECONDS * 2 ** ((tries or self._tries) - 1 - attempts_left) * random.uniform(0.5, 1.0)
            )
        raise AssertionError("unreachable")

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connections.close()

    async def _once(
        self, service: str, method: str, url: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> Response:
        account = self.account
        signed = signed_headers(account.credentials, account.region, service, method, url, headers, body, self._now())
        exchange = self._connections.exchange
        loop = asyncio.get_running_loop()
        return Response(*await loop.run_in_executor(self._threads, exchange, method, url, signed, body, timeout))


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
