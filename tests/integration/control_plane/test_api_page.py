"""The page on which the API can be tried."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re

import pytest
from tests.integration.control_plane.conftest import Client

from noetl_serverless.control_plane.openapi import document_bytes


@pytest.fixture
def nobody(user: Client) -> Client:
    """Without a token."""
    return Client(user.app, "")


@pytest.mark.parametrize("folder", ["", "/api"])
async def test_it_loads_what_it_needs_from_here_and_shows_the_document(nobody: Client, folder: str) -> None:
    page = await nobody.get(f"{folder}/docs")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = page.body.decode()
    names = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert {"docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "openapi.json"} == set(names) - {"data:,"}
    for name in names:
        if name != "data:,":
            part = await nobody.get(f"{folder}/{name}")
            assert part.status == 200 and len(part.body) > 10_000, name
    assert (await nobody.get(f"{folder}/openapi.json")).body == document_bytes()


async def test_its_policy_allows_its_own_script_and_nothing_from_elsewhere(nobody: Client) -> None:
    page = await nobody.get("/docs")
    policy = page.headers["content-security-policy"]
    [script] = re.findall(r"<script>(.+?)</script>", page.body.decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ") and "frame-ancestors 'none'" in policy
    assert not re.search(r"unsafe|https?:|\*", policy), policy
    assert not re.search(rb'(?:src|href)="(?:https?:)?//', page.body)


async def test_files_are_sent_as_the_client_takes_them_and_no_others(nobody: Client) -> None:
    packed = await nobody.call("GET", "/docs/swagger-ui-bundle.js", headers={"accept-encoding": "gzip, br"})
    plain = await nobody.get("/docs/swagger-ui-bundle.js")
    assert packed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body
    assert plain.headers["content-type"].startswith("text/javascript")
    for name in ("LICENSE", "..", "swagger-ui.css.gz", "../app.py"):
        assert (await nobody.get(f"/docs/{name}")).status == 404, name


async def test_it_gives_no_access(nobody: Client) -> None:
    assert (await nobody.get("/api/executions")).status == 401
