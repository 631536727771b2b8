"""A whole ASGI app as one function of the Functions Framework, on Google Cloud and on a laptop.

The framework takes a function from request to response and has no hooks for start and end. Here the response is the app
itself, the app's lifespan starts with the first request, and SIGTERM ends it once the requests under way are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import Problem
from ...telemetry.http import problem_response
from .. import garbage_collection
from ..assembly.service import Service

# gunicorn kills the process after 30 s
DRAIN_SECONDS = 25.0
# longer than any client of ours keeps an idle connection: the client closes first, so no request meets a
# closing one
KEEP_ALIVE_SECONDS = 75
_FRAMEWORK_SCOPE_KEYS = ("app", "router", "route", "endpoint", "path_params")

Function = Callable[[Request], Awaitable[Response]]


def serve(service: Service) -> Function:
    """The entry point for `service`.

    Nothing that belongs to one process (a connection, a task) may be made before the first request: the server loads
    this module once and forks.
    """

    async def made() -> Service:
        return service

    return serve_when_ready(made)


def serve_when_ready(make: Callable[[], Awaitable[Service]], *, drain_seconds: float = DRAIN_SECONDS) -> Function:
    """The entry point for the service that `make` makes at the first request. If it raises a Problem, that is the
    answer, and the next request tries again."""
    _tune_gunicorn()
    lifecycle = _Lifecycle(make, drain_seconds)

    async def function(request: Request) -> Response:
        if lifecycle.draining:
            return PlainTextResponse("shutting down", 503, {"Connection": "close", "Retry-After": "1"})
        try:
            app = await lifecycle.start()
        except Problem as error:
            return problem_response(error, request.scope)
        return _Forward(app, lifecycle)

    return function


class _Forward(Response):
    def __init__(self, app: ASGIApp, lifecycle: _Lifecycle) -> None:
        super().__init__()
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app_scope = {key: value for key, value in scope.items() if key not in _FRAMEWORK_SCOPE_KEYS}
        app_scope["state"] = dict(self._lifecycle.state)
        with self._lifecycle.request():
            await self._app(app_scope, receive, send)


class _Lifecycle:
    """Makes the service, runs its app's lifespan, counts its requests, and handles SIGTERM before the server does.

    At SIGTERM the service's `on_drain` is called, while requests are still under way; each of its `close` is awaited,
    in order, when the app has ended.
    """

    def __init__(self, make: Callable[[], Awaitable[Service]], drain_seconds: float) -> None:
        self.state: dict[str, Any] = {}
        self.draining = False
        self._make = make
        self._drain_seconds = drain_seconds
        self._started: Service | None = None
        self._starting: asyncio.Task[None] | None = None
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._lifespan: _Lifespan | None = None
        self._ending: asyncio.Task[None] | None = None

    async def start(self) -> ASGIApp:
        """The app, which has been started. Raises what the attempt raised that was under way; the next request makes
        another."""
        if self._started is None:
            if self._starting is None:
                self._starting = asyncio.create_task(self._start())
            # a request that is cancelled does not end the attempt of the others
            await asyncio.shield(self._starting)
        assert self._started is not None
        return self._started.app

    async def _start(self) -> None:
        try:
            service = await self._make()
            lifespan = _Lifespan(service.app, self.state)
            await lifespan.start()
            self._handle_sigterm()
            garbage_collection.tune()
            self._started, self._lifespan = service, lifespan
        finally:
            self._starting = None

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        self._requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    def _handle_sigterm(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        server_handler = signal.getsignal(signal.SIGTERM)

        def begin_end(number: int, frame: FrameType | None) -> None:
            def pass_on() -> None:
                if callable(server_handler):
                    server_handler(number, frame)

            loop.call_soon_threadsafe(self._end, pass_on)

        signal.signal(signal.SIGTERM, begin_end)

    def _end(self, on_drained: Callable[[], None]) -> None:
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._drain(on_drained))

    async def _drain(self, on_drained: Callable[[], None]) -> None:
        self.draining = True
        service = self._started
        try:
            # SIGTERM is handled only once there is a service, and it has started
            assert service is not None and self._lifespan is not None
            if service.on_drain is not None:
                service.on_drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._drain_seconds):
                    await self._idle.wait()
                    await self._lifespan.stop()
                    for close in service.close:
                        await close()
        finally:
            on_drained()


class _Lifespan:
    """The lifespan protocol from the server's side."""

    def __init__(self, app: ASGIApp, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        # a failure has been reported by a message already
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        reply = await self._send_event("lifespan.startup")
        if reply["type"] == "lifespan.startup.failed":
            raise RuntimeError(f"the app did not start: {reply.get('message', '')}")

    async def stop(self) -> None:
        await self._send_event("lifespan.shutdown")

    async def _run(self) -> None:
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self._state}
        try:
            await self._app(scope, self._to_app.get, self._from_app.put)
        except BaseException as error:
            await self._from_app.put({"type": "lifespan.startup.failed", "message": str(error)})
            raise

    async def _send_event(self, event_type: str) -> Message:
        assert self._task is not None
        await self._to_app.put({"type": event_type})
        reply = asyncio.ensure_future(self._from_app.get())
        await asyncio.wait((reply, self._task), return_when=asyncio.FIRST_COMPLETED)
        if not reply.done() and self._from_app.empty():
            reply.cancel()
            return {"type": f"{event_type}.complete"}
        return await reply


def _tune_gunicorn() -> None:
    """The framework passes no options to its server, so they are set as defaults before it reads them."""
    # the framework makes it gunicorn's timeout for a process that gives no sign of life; one that Cloud Run gave no CPU
    # between two requests would be ended with the second. Cloud Run breaks off late requests itself
    os.environ.pop("CLOUD_RUN_TIMEOUT_SECONDS", None)
    try:
        from gunicorn.config import ControlSocketDisable, Keepalive  # type: ignore[import-untyped]
    except ImportError:
        return
    Keepalive.default = KEEP_ALIVE_SECONDS
    ControlSocketDisable.default = True
