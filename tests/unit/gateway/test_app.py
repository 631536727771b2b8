from __future__ import annotations

from noetl_serverless.errors import Unavailable
from noetl_serverless.gateway.app import create_app
from noetl_serverless.gateway.control_plane import ControlPlane
from noetl_serverless.settings import Settings
from noetl_serverless.testing.bus import MemoryKeyValue

from .conftest import Client


async def test_it_is_alive_and_ready(call: Client) -> None:
    assert (await call("GET", "/livez")).json == {"status": "ok"}
    answer = await call("GET", "/readyz")
    assert (answer.status, answer.json["checks"]) == (200, {"sessions": "ok", "control_plane": "ok"})


async def test_it_is_alive_but_not_ready_without_what_it_needs() -> None:
    class Gone(MemoryKeyValue):
        async def get(self, key: str) -> bytes | None:
            raise Unavailable("NATS does not answer")

    control_plane = ControlPlane("http://127.0.0.1:1", "token")
    call = Client(create_app(Settings(), keyvalue=Gone(), control_plane=control_plane))
    assert (await call("GET", "/livez")).status == 200
    answer = await call("GET", "/readyz")
    assert answer.status == 503
    assert answer.json["checks"] == {"sessions": "Unavailable", "control_plane": "BadGateway"}
    answer = await call("POST", "/graphql", {"query": "{ health }"}, token="token")
    assert (answer.status, answer.json["code"]) == (503, "server.unavailable")
    assert answer.header("retry-after") == "1"
    await control_plane.close()


async def test_what_is_not_there_is_a_problem(call: Client) -> None:
    answer = await call("GET", "/nowhere")
    assert (answer.status, answer.json["code"]) == (404, "resource.not_found")
    answer = await call("DELETE", "/graphql")
    assert (answer.status, answer.json["code"]) == (405, "request.method_not_allowed")


async def test_requests_are_counted_by_route_and_not_by_path(call: Client, viewer: str) -> None:
    await call("GET", "/noetl/executions/123456789", token=viewer)
    text = (await call("GET", "/metrics")).body.decode()
    assert 'route="/noetl/{path:path}"' in text
    assert "123456789" not in text
