"""One execution environment of Lambda: the official runtime client, and the Runtime API it asks for work.

As on Lambda the environment comes up once, takes one invocation at a time, stands still between two of them, and is
killed when an invocation takes longer than the function may.
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

API = "/2018-06-01/runtime"
INIT_SECONDS = 30.0


class InitFailed(RuntimeError):
    """The handler's module did not load."""


@dataclass(frozen=True, slots=True)
class Invoked:
    """What came of an invocation: `payload` is the answer, or {"errorType", "errorMessage", ...} if `failed`."""

    payload: Any
    failed: bool
    seconds: float


@dataclass(slots=True)
class _Invocation:
    id: str
    event: bytes
    deadline_ms: int
    arn: str
    done: threading.Event = field(default_factory=threading.Event)
    payload: bytes = b""
    failed: bool = False


class Environment:
    """`python -m awslambdaric HANDLER` in `folder`, talking to a Runtime API of its own."""

    def __init__(
        self,
        handler: str,
        folder: Path,
        environ: Mapping[str, str],
        *,
        name: str = "function",
        timeout: float = 30.0,
        memory_mb: int = 512,
        python: Sequence[str] = (sys.executable,),
        freezes: bool = True,
    ) -> None:
        self.timeout = timeout
        self.arn = f"arn:aws:lambda:eu-west-1:123456789012:function:{name}:live"
        self.log: list[str] = []
        self._freezes = freezes
        self._work: queue.Queue[_Invocation] = queue.Queue()
        self._running: dict[str, _Invocation] = {}
        self._asked = threading.Event()
        self._init_error: bytes | None = None
        self._lock = threading.Lock()
        self._server = _serve(self)
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [*python, "-m", "awslambdaric", handler],
            cwd=folder,
            env={**environ, **self._lambda_variables(name, memory_mb, folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._wait_ready()
        # from the start of the process to its first request for work
        self.init_seconds = time.perf_counter() - started

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def invoke(self, event: Any, *, timeout: float | None = None) -> Invoked:
        """One at a time. An invocation that takes longer than `timeout` seconds costs the environment."""
        limit = self.timeout if timeout is None else timeout
        with self._lock:
            started = time.perf_counter()
            deadline = int((time.time() + limit) * 1000)
            invocation = _Invocation(str(uuid.uuid4()), json.dumps(event).encode(), deadline, self.arn)
            self._running[invocation.id] = invocation
            self._work.put(invocation)
            payload, failed = self._outcome(invocation, limit)
            del self._running[invocation.id]
            return Invoked(payload, failed, time.perf_counter() - started)

    def kill(self) -> None:
        """As Lambda does when time is up: at once, and with all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            # it must neither start another process nor report that one has died
            os.kill(self._process.pid, signal.SIGSTOP)
            started = _descendants(self._process.pid)
            for pid in [self._process.pid, *started]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        self.kill()
        self._reader.join(5)
        self._server.shutdown()
        self._server.server_close()

    # -- the runtime's side of the API

    def next(self) -> _Invocation | None:
        """Blocks until there is work; None when the process is gone."""
        self._asked.set()
        if self._freezes and self._work.empty():
            self._freeze()
        while True:
            with contextlib.suppress(queue.Empty):
                invocation = self._work.get(timeout=0.2)
                self._thaw()
                return invocation
            if not self.alive:
                return None

    def finish(self, id: str, payload: bytes, *, failed: bool) -> None:
        invocation = self._running.get(id)
        if invocation is not None:
            invocation.payload, invocation.failed = payload, failed
            invocation.done.set()

    def fail_init(self, error: bytes) -> None:
        self._init_error = error
        self._asked.set()

    # --

    def _outcome(self, invocation: _Invocation, limit: float) -> tuple[Any, bool]:
        until = time.monotonic() + limit
        while time.monotonic() < until:
            if invocation.done.wait(0.05):
                return json.loads(invocation.payload or b"null"), invocation.failed
            if not self.alive:
                return {"errorType": "Runtime.ExitError", "errorMessage": "Runtime exited"}, True
        self.kill()
        return {"errorType": "Sandbox.Timedout", "errorMessage": f"Task timed out after {limit:.2f} seconds"}, True

    def _wait_ready(self) -> None:
        for _ in range(int(INIT_SECONDS / 0.05)):
            if self._asked.wait(0.05) or not self.alive:
                break
        if self._init_error is not None or not self._asked.is_set():
            self.stop()
            message = (self._init_error or b"").decode()
            raise InitFailed(f"{message}\n{''.join(self.log)}")

    def _freeze(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGSTOP)

    def _thaw(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGCONT)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(line.decode(errors="replace"))

    def _lambda_variables(self, name: str, memory_mb: int, folder: Path) -> dict[str, str]:
        return {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "test",
            "LAMBDA_TASK_ROOT": str(folder),
            "_HANDLER": name,
        }


class QuietServer(http.server.ThreadingHTTPServer):
    """A client that is killed breaks its connection off, which is nothing to report."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Server(QuietServer):
    environment: Environment


def _serve(environment: Environment) -> _Server:
    server = _Server(("127.0.0.1", 0), _RuntimeApi)
    server.environment = environment
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


class _RuntimeApi(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        if self.path != f"{API}/invocation/next":
            self.send_error(404)
            return
        invocation = self.server.environment.next()
        if invocation is None:
            self.close_connection = True
            return
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.id,
            "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": invocation.arn,
            "Lambda-Runtime-Trace-Id": "Root=1-0-0;Parent=0;Sampled=0",
            "Content-Type": "application/json",
        }
        self._answer(200, headers, invocation.event)

    def do_POST(self) -> None:
        body = self._body()
        match self.path.removeprefix(API).strip("/").split("/"):
            case ["init", "error"]:
                self.server.environment.fail_init(body)
            case ["invocation", id, "response" | "error" as kind]:
                self.server.environment.finish(id, body, failed=kind == "error")
            case _:
                self.send_error(404)
                return
        self._answer(202, {}, b"")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        for _ in itertools.count():
            size = int(self.rfile.readline().split(b";")[0], 16)
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
            if size == 0:
                return b"".join(chunks)
        raise AssertionError("unreachable")

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None


def _descendants(pid: int) -> list[int]:
    """Children first to be found, in any session."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += [*_descendants(int(child)), int(child)]
    return found
