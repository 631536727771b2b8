from __future__ import annotations

import json
from typing import Any

from starlette.types import Receive, Scope, Send

from noetl_serverless.hosts.gcp.serving import without_metrics


async def get(path: str) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    await without_metrics(app)(scope, None, send)  # type: ignore[arg-type]
    return sent[0]["status"], sent[1]["body"]


async def test_a_function_that_all_may_call_shows_nobody_its_metrics() -> None:
    status, body = await get("/metrics")
    assert (status, json.loads(body)["code"]) == (404, "resource.not_found")
    assert await get("/livez") == (200, b"/livez")
