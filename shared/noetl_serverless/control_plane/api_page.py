"""A page to read and try the API on: Swagger UI over the OpenAPI document.

It needs no token, as it shows nothing but that document; calls need one, which is pasted into the page. It loads
nothing from elsewhere, and its policy lets it load nothing. The folder `swagger_ui` has files of the npm package
swagger-ui-dist 5.35.0, packed with gzip.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ..errors import NotFound

FILES: Final = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}

# the page is below /, below /api/, and below /noetl/ of a gateway, where the operations have other paths
_SCRIPT = """
const base = location.pathname.replace(/docs$/, '');
const api = /\\/(api|noetl)\\/$/.test(base) ? base : base + 'api/';
SwaggerUIBundle({
  url: base + 'openapi.json',
  dom_id: '#page',
  deepLinking: true,
  validatorUrl: null,
  requestInterceptor: request => {
    const url = new URL(request.url, location.href);
    if (url.pathname.startsWith('/api/') && !url.pathname.startsWith(api)) {
      url.pathname = api + url.pathname.slice('/api/'.length);
    }
    request.url = url.href;
    request.headers['x-requested-with'] = 'noetl';
    return request;
  },
});
"""

HTML = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>NoETL API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<noscript>This page needs JavaScript; the document is <a href="openapi.json">openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script>{_SCRIPT}</script>
</body>
</html>
"""

_DIGEST = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; script-src 'self' 'sha256-{_DIGEST}'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def page() -> Response:
    return Response(HTML, headers={**HEADERS, "cache-control": "no-cache"}, media_type="text/html")


async def file(request: Request) -> Response:
    """One of FILES. Raises NotFound."""
    name = request.path_params["file"]
    if name not in FILES:
        raise NotFound(f"the page has no file {name!r}")
    headers = {**HEADERS, "cache-control": "max-age=3600", "vary": "accept-encoding"}
    content = await asyncio.to_thread(_packed, name)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
    else:
        content = await asyncio.to_thread(gzip.decompress, content)
    return Response(content, headers=headers, media_type=FILES[name])


@cache
def _packed(name: str) -> bytes:
    return (files(__package__) / "swagger_ui" / f"{name}.gz").read_bytes()
