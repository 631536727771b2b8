"""The clients of the control plane, as its service sees them."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web
from starlette.datastructures import Headers
from tests.serving import serving_app

from noetl_serverless.gateway.control_plane import ControlPlane as GatewaysControlPlane
from noetl_serverless.hosts.cloud.transport import ApiError
from noetl_serverless.hosts.gcp.identity import caller_of
from noetl_serverless.hosts.gcp.metadata import Metadata, claims_of
from noetl_serverless.hosts.gcp.session import HEADER, identified_session
from noetl_serverless.worker.client import ControlPlane as WorkersControlPlane

from .conftest import EMAIL, Google, id_token


async def test_both_tokens_reach_the_control_plane(google: Google, metadata: Metadata) -> None:
    seen: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.headers["Authorization"], str(claims_of(request.headers[HEADER][7:])["email"])))
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with serving_app(app) as url:
        for client in (
            GatewaysControlPlane(url, "mine", connect=lambda: identified_session(metadata, url)),
            WorkersControlPlane(url, "mine", connect=lambda: identified_session(metadata, url)),
        ):
            await client.check()
            await client.check()
            await client.close()
    assert seen == [("Bearer mine", EMAIL)] * 4
    assert len(google.asked_metadata) == 1


async def test_without_an_id_token_the_clients_try_again_as_without_a_connection() -> None:
    class Away(Metadata):
        async def id_token(self, audience: str) -> str:
            raise ApiError("metadata", 500, "", "away")

    session = identified_session(Away(), "https://service")
    with pytest.raises(aiohttp.ClientConnectionError, match="no ID token"):
        await session.get("http://127.0.0.1:1/")
    await session.close()


def test_the_log_names_the_service_account_and_the_trace() -> None:
    headers = Headers(
        {
            "authorization": "Bearer engine",
            HEADER: f"Bearer {id_token('https://service')}",
            "x-cloud-trace-context": "105445aa7843bc8bf206b12000100000/1;o=1",
        }
    )
    assert caller_of(headers) == {"principal": EMAIL, "trace": "105445aa7843bc8bf206b12000100000"}


def test_google_itself_calls_with_its_token_in_the_usual_header() -> None:
    assert caller_of(Headers({"authorization": f"Bearer {id_token('https://service')}"})) == {"principal": EMAIL}


def test_who_says_nothing_is_not_named() -> None:
    assert caller_of(Headers({"authorization": "Bearer engine"})) == {}
    assert caller_of(Headers({})) == {}
