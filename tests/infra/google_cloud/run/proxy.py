"""What stands in front of a service: it looks who calls, waits for an instance, and passes request and answer on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from ..errors import Unauthenticated
from ..identities import IdTokens, without_signature
from ..policies import Policies
from ..service_accounts import ServiceAccounts
from .instance import Instance, StartFailed
from .pool import NoInstance, Pool

_log = logging.getLogger(__name__)

# of a request over HTTP/1, and of an answer that says how long it is
MAX_BYTES = 32 * 2**20
_SERVERLESS, _AUTHORIZATION = "X-Serverless-Authorization", "Authorization"
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "expect"}
)


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Body:
    """A request's body, as it comes; it ends in an error if more comes than may."""

    def __init__(self, request: web.Request) -> None:
        self.is_too_large = False
        self._request = request

    async def chunks(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._request.content.iter_any():
            size += len(chunk)
            if size > MAX_BYTES:
                self.is_too_large = True
                raise ConnectionError("the request's body is too large")
            yield chunk


class Proxy:
    """`pool`: the one that requests go to now; `audiences`: for which a caller's token may be."""

    def __init__(
        self,
        service: str,
        policies: Policies,
        accounts: ServiceAccounts,
        id_tokens: IdTokens,
        pool: Callable[[], Pool | None],
        audiences: Callable[[], list[str]],
    ) -> None:
        self.is_open_to_all = False
        self._service = service
        self._policies = policies
        self._accounts = accounts
        self._id_tokens = id_tokens
        self._pool = pool
        self._audiences = audiences
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self, port: int) -> None:
        # a connection that is kept could be closed by the instance just when it is used again
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(None),
            auto_decompress=False,
            skip_auto_headers=["Accept", "Accept-Encoding", "Content-Type", "User-Agent"],
        )
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            headers = self._checked(request)
            if (request.content_length or 0) > MAX_BYTES:
                raise _Refused(413, "The request is too large: at most 32 MiB.")
            pool = self._pool()
            if pool is None:
                raise _Refused(503, "The service has no revision that is ready.")
            instance = await pool.acquire()
        except _Refused as error:
            return web.Response(status=error.status, text=f"{error}\n")
        except NoInstance:
            return web.Response(status=429, text="Rate exceeded: there was no available instance.\n")
        except StartFailed as error:
            _log.warning("%s: %s", self._service, error)
            return web.Response(status=503, text="The instance could not start successfully.\n")
        try:
            return await self._forward(request, headers, instance)
        finally:
            pool.release(instance)

    # -- who calls

    def _checked(self, request: web.Request) -> CIMultiDict[str]:
        """The headers that the instance gets. _Refused."""
        headers = CIMultiDict((name, value) for name, value in request.headers.items() if not _is_hop(name))
        headers.add("X-Forwarded-For", request.remote or "")
        headers.setdefault("X-Forwarded-Proto", request.scheme)
        if self.is_open_to_all or self._policies.allows(None, "run.routes.invoke", self._service):
            return headers
        name = _SERVERLESS if _SERVERLESS in headers else _AUTHORIZATION
        scheme, _, token = headers.get(name, "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _Refused(
                403,
                "The request was not authenticated. Either allow unauthenticated invocations or set the proper "
                "Authorization header.",
            )
        try:
            subject = self._id_tokens.subject(token, self._audiences())
        except Unauthenticated as error:
            raise _Refused(401, f"The access token could not be verified: {error}") from None
        email = self._accounts.email_of(subject)
        if email is None or not self._policies.allows(email, "run.routes.invoke", self._service):
            raise _Refused(403, f"{email or subject} does not have permission to access {self._service}.")
        headers[name] = f"{scheme} {without_signature(token)}"
        return headers

    # -- there and back

    async def _forward(self, request: web.Request, headers: CIMultiDict[str], instance: Instance) -> web.StreamResponse:
        assert self._session is not None
        response: web.StreamResponse | None = None
        body = _Body(request)
        try:
            async with (
                asyncio.timeout(instance.revision.timeout),
                self._session.request(
                    request.method,
                    URL(f"http://127.0.0.1:{instance.port}{request.raw_path}", encoded=True),
                    headers=headers,
                    data=body.chunks() if request.body_exists else None,
                    allow_redirects=False,
                ) as answer,
            ):
                if (answer.content_length or 0) > MAX_BYTES:
                    return web.Response(status=500, text="The answer is too large: at most 32 MiB.\n")
                response = web.StreamResponse(status=answer.status, reason=answer.reason)
                for name, value in answer.headers.items():
                    if not _is_hop(name):
                        response.headers.add(name, value)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except TimeoutError:
            return self._broken_off(request, response, 504, "The request has been terminated: it took too long.")
        except (aiohttp.ClientError, ConnectionError) as error:
            if body.is_too_large:
                return self._broken_off(request, response, 413, "The request is too large: at most 32 MiB.")
            _log.warning("%s: %s: %s", self._service, type(error).__name__, error)
            return self._broken_off(request, response, 503, "The connection to the instance had an error.")

    def _broken_off(
        self, request: web.Request, response: web.StreamResponse | None, status: int, text: str
    ) -> web.StreamResponse:
        """Say so, or if the answer has begun, end the connection in the middle of it."""
        if response is None or not response.prepared:
            return web.Response(status=status, text=f"{text}\n")
        if request.transport is not None:
            request.transport.abort()
        return response


def _is_hop(name: str) -> bool:
    return name.lower() in _HOP_BY_HOP
