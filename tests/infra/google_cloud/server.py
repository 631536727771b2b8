"""One HTTP server for all APIs: who calls, what is called, and Google's form of the answer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from aiohttp import web

from .errors import ApiError, Unauthenticated, Unimplemented
from .identities import AccessTokens, Caller
from .project import Project
from .routes import Answer, Call, Route

# an object is sent in one piece, if its sender likes; what APIs read whole is small
MAX_BODY = 2**30

_log = logging.getLogger(__name__)


class Server:
    def __init__(self, project: Project, tokens: AccessTokens) -> None:
        self._project = project
        self._tokens = tokens
        self._routes: list[Route] = []
        # by service and method
        self.calls: Counter[tuple[str, str]] = Counter()
        self._runner: web.AppRunner | None = None

    def add(self, routes: Iterable[Route]) -> None:
        self._routes += routes

    async def start(self, port: int) -> None:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        answer: Answer
        try:
            answer = await self._answer(request)
        except ApiError as error:
            answer = web.json_response(error.document(), status=error.code)
        except Exception:
            _log.exception("%s %s", request.method, request.path)
            failure = {"error": {"code": 500, "message": "The stand-in itself has failed.", "status": "INTERNAL"}}
            answer = web.json_response(failure, status=500)
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)

    async def _answer(self, request: web.Request) -> Answer:
        raw_path = request.raw_path.partition("?")[0]
        for route in self._routes:
            path = route.match(request.method, raw_path)
            if path is not None:
                return await self._call(route, request, path)
        self._caller(request)
        raise Unimplemented(f"The stand-in has no method {request.method} {request.path}.")

    async def _call(self, route: Route, request: web.Request, path: dict[str, str]) -> Answer:
        self.calls[route.service, route.method] += 1
        caller = route.caller(request) if route.caller else self._caller(request)
        route.check_query(request.query)
        named = {
            name: self._project.by_id(value) if value.startswith("projects/") else value for name, value in path.items()
        }
        return await route.handler(Call(caller, request, named))

    def _caller(self, request: web.Request) -> Caller:
        authorization = request.headers.get("Authorization")
        if authorization is None:
            raise Unauthenticated(
                "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or "
                "other valid authentication credential."
            )
        return self._tokens.caller(authorization)
