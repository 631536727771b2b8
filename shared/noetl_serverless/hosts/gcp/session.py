"""HTTP to the control plane's service, which Google lets through only for callers with an ID token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import aiohttp

from ...errors import Unavailable
from ..cloud.transport import ApiError
from .metadata import Metadata

# beside `Authorization`, where the engine's own token is
HEADER = "X-Serverless-Authorization"
MAX_CONNECTIONS = 200

_Handler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]


def identified_session(metadata: Metadata, audience: str) -> aiohttp.ClientSession:
    """A session whose requests name the function's service account; `audience` is the service's URL. Bodies are passed
    through unchanged."""

    async def identify(request: aiohttp.ClientRequest, handler: _Handler) -> aiohttp.ClientResponse:
        try:
            request.headers[HEADER] = f"Bearer {await metadata.id_token(audience)}"
        except (ApiError, Unavailable) as error:
            # the callers try again after errors of the connection
            raise aiohttp.ClientConnectionError(f"no ID token: {error}") from error
        return await handler(request)

    return aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept-Encoding", "User-Agent", "Content-Type"),
        connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=60.0),
        timeout=aiohttp.ClientTimeout(total=None),
        middlewares=(identify,),
    )
