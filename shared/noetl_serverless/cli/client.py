"""The command line's client of the control plane."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from ..engine.events import QUARANTINED
from .execution_id import path_of
from .failure import Failure, Refused

# a function that crashed is restarted within this time
RETRY_FOR_SECONDS = 15.0
LONG_POLL_SECONDS = 20.0
# seconds without an event after which whoever follows may want to know why
IDLE_SECONDS = 3.0
PAGE_ROWS = 500
# of a file that is sent at once
UPLOAD_PIECE_BYTES = 256 * 1024
TERMINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """`headers`: by their names in lower case; `read` gives the body, piece by piece."""

    status: int
    headers: Mapping[str, str]
    body: Readable

    def read(self, size: int = -1) -> bytes:
        return self.body.read(size)


class Client:
    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._scheme, self._host, self._port = parts.scheme, parts.hostname or "127.0.0.1", parts.port
        self._prefix = parts.path.rstrip("/")
        self._token = token
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, /, timeout: float = 60.0, **query: Any) -> Any:
        parameters = {key: value for key, value in query.items() if value is not None}
        return self._call("GET", f"{path}?{urlencode(parameters)}" if parameters else path, None, timeout, retry=True)

    def post(self, path: str, body: Mapping[str, Any] | None = None, key: str | None = None) -> Any:
        """`key`: an idempotency key, with which it may be tried again."""
        headers = None if key is None else {"Idempotency-Key": key}
        return self._call("POST", path, body or {}, 60.0, retry=key is not None, headers=headers)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path, None, 60.0, retry=True)

    def execute(self, path: str, version: int | None, workload: Mapping[str, Any]) -> str:
        """Start an execution; returns its id. A retry after a lost answer does not start a second one."""
        body = {"path": path, "payload": dict(workload)} | ({"version": version} if version else {})
        key = str(uuid.uuid4())
        answer = self._call("POST", "/api/execute", body, 60.0, retry=True, headers={"Idempotency-Key": key})
        return str(answer["execution_id"])

    def execute_again(self, execution_id: str, workload: Mapping[str, Any]) -> str:
        """Start anew what an execution ran; returns the new id. A retry after a lost answer does not start two."""
        path = f"{path_of(execution_id)}/rerun"
        key = {"Idempotency-Key": str(uuid.uuid4())}
        answer = self._call("POST", path, {"payload": dict(workload)}, 60.0, retry=True, headers=key)
        return str(answer["execution_id"])

    def restart(self, execution_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Go on with an execution that has ended. A retry after a lost answer does not start a second one."""
        key = {} if request.get("dry_run") else {"Idempotency-Key": str(uuid.uuid4())}
        path = f"{path_of(execution_id)}/restart"
        answer: dict[str, Any] = self._call("POST", path, dict(request), 60.0, retry=True, headers=key)
        return answer

    def register(self, text: str, *, strict: bool = False) -> dict[str, Any]:
        request = {"content": text, **({"strict": True} if strict else {})}
        answer: dict[str, Any] = self.post("/api/catalog/register", request)
        return answer

    def under_way(self, execution_id: str) -> list[dict[str, Any]]:
        """The runs of steps that have not ended, with their status."""
        found: list[dict[str, Any]] = self.status(execution_id)["under_way"]
        return found

    def status(self, execution_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"{path_of(execution_id)}/status")
        return found

    def execution(self, execution_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(path_of(execution_id))
        return found

    def items(self, path: str) -> list[dict[str, Any]]:
        """All items of a list that is paged by offset."""
        return list(self.items_from(path, "offset", 0))

    def items_from(
        self, path: str, parameter: str, start: str | int | None, /, **query: Any
    ) -> Iterator[dict[str, Any]]:
        """The items of a list, page by page. `start`: the value of `parameter` for the first page; None for no page."""
        position = start
        while position is not None:
            parameters: dict[str, Any] = {**query, parameter: position}
            page = self.get(path, **parameters)
            yield from items_of(page)
            position = page["next"] if isinstance(page, dict) else None

    def events(self, execution_id: str, after: int = 0, wait: float = 0.0) -> list[dict[str, Any]]:
        """One page of the events after `after`. Waits up to `wait` seconds for the first one."""
        answer = self.get(
            f"{path_of(execution_id)}/events",
            timeout=wait + 60.0,
            after=after,
            wait=wait,
            limit=PAGE_ROWS,
        )
        found: list[dict[str, Any]] = answer["events"] if isinstance(answer, dict) else answer
        return found

    def follow(self, execution_id: str, after: int = 0) -> Iterator[list[dict[str, Any]]]:
        """Pages of events as they arrive, until the execution has ended and all its events were returned. An empty page
        when none has arrived for a while."""
        wait = IDLE_SECONDS
        while True:
            page = self.events(execution_id, after, wait)
            wait = IDLE_SECONDS if page else LONG_POLL_SECONDS
            if page:
                after = max(int(event["seq"]) for event in page)
            elif self.execution(execution_id)["status"] in TERMINAL:
                return
            yield page
            if any(event["event_type"] in ENDS and not _is_quarantine_end(event) for event in page):
                return

    @contextlib.contextmanager
    def streaming(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: Readable | None = None,
        timeout: float = 600.0,
    ) -> Iterator[StreamedAnswer]:
        """One request, on a connection of its own, whose bodies are not held in memory; with a body, `headers` has its
        length. Raises OSError and http.client.HTTPException."""
        kind = http.client.HTTPSConnection if self._scheme == "https" else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout, blocksize=UPLOAD_PIECE_BYTES)
        given = {"Authorization": f"Bearer {self._token}", **headers}
        try:
            try:
                connection.request(method, self._prefix + path, body, given)
            except (BrokenPipeError, ConnectionResetError):
                # it may have refused the body before its end, and said why
                if connection.sock is None:
                    raise
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            yield StreamedAnswer(response.status, names, response)
        finally:
            connection.close()

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        timeout: float,
        *,
        retry: bool,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Raises Refused for a problem answer, and Failure if there is no answer within RETRY_FOR_SECONDS seconds."""
        data = None if body is None else json.dumps(body).encode()
        deadline = time.monotonic() + RETRY_FOR_SECONDS
        while True:
            try:
                status, answer = self._once(method, path, data, timeout, headers or {})
                if status != 503 or time.monotonic() > deadline:
                    break
            except ConnectionRefusedError as error:
                self._give_up(error, deadline)
            except (OSError, http.client.HTTPException) as error:
                if not retry:
                    raise Failure(f"the connection to the control plane was lost: {error!r}") from error
                self._give_up(error, deadline)
            time.sleep(0.1)
        if status >= 400:
            raise Refused(status, answer if isinstance(answer, dict) else {"detail": str(answer)})
        return answer

    def _once(
        self, method: str, path: str, data: bytes | None, timeout: float, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._scheme == "https" else http.client.HTTPConnection
            self._connection = kind(self._host, self._port)
        self._connection.timeout = timeout
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout)
        all_headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", **headers}
        try:
            self._connection.request(method, self._prefix + path, data, all_headers)
            response = self._connection.getresponse()
            raw = response.read()
        except BaseException:
            self.close()
            raise
        if response.getheader("Connection", "").lower() == "close":
            self.close()
        return response.status, decode(raw)

    def _give_up(self, error: Exception, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise Failure(f"the control plane does not answer: {error}") from error


ENDS = frozenset({"playbook.completed", "playbook.failed"})


def _is_quarantine_end(event: Mapping[str, Any]) -> bool:
    """Whether the execution ended in quarantine, which it may have left since."""
    return QUARANTINED in (event.get("payload") or {})


def decode(raw: bytes) -> Any:
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")


def items_of(page: Any) -> list[dict[str, Any]]:
    """The items of a page of a list, which a control plane of release 0.1 gives without an envelope."""
    items: list[dict[str, Any]] = page["items"] if isinstance(page, dict) else page
    return items
