"""Addresses that a playbook must not reach, written so that they look like something else.

Beside unit/tools/test_addresses.py and integration/tools/test_http.py.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from tests.integration.tools.conftest import Run
from tests.serving import serving_app

from noetl_serverless.tools.addresses import AddressRefused, check

HOSTS = [
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",
    "127.0.0.1.",
    "localhost.",
    "LOCALHOST",
    "[::1]",
    "[::]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "user:secret@127.0.0.1",
    "example.org@127.0.0.1",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
]
REFUSED = ("http.refused", "http.connect", "http.url")


@pytest.fixture
async def inner() -> AsyncIterator[tuple[int, list[str]]]:
    """The port of a server of the inner network, and what it was asked for."""
    requests: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        requests.append(request.path)
        to = request.query.get("to")
        return web.Response(status=302, headers={"Location": to}) if to else web.Response(text="inner secret")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with serving_app(app) as url:
        yield int(url.rpartition(":")[2]), requests


@pytest.mark.parametrize("host", HOSTS)
async def test_no_spelling_of_this_machine_is_reached(run: Run, inner: tuple[int, list[str]], host: str) -> None:
    port, requests = inner
    outcome = await run("http", {"url": f"http://{host}:{port}/secret"}, allow_private_http=False)
    assert outcome.status == "error" and outcome.error is not None
    assert outcome.error["code"] in REFUSED, outcome.error
    assert requests == [] and "inner secret" not in repr(outcome)


class Resolver:
    """A name server that says something else each time; after the last answer it repeats it."""

    def __init__(self, real: Any, *answers: str) -> None:
        self._real = real
        self._answers = list(answers)
        self.requests = 0

    async def __call__(self, host: str, port: int, **options: Any) -> list[Any]:
        if not str(host).endswith("example"):
            return list(await self._real(host, port, **options))
        self.requests += 1
        address = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if ":" in address:
            return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"]
)
async def test_a_name_that_leads_inside_is_refused(
    run: Run, inner: tuple[int, list[str]], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", Resolver(loop.getaddrinfo, address))
    outcome = await run("http", {"url": f"http://inside.example:{inner[0]}/"}, allow_private_http=False)
    assert outcome.error is not None and outcome.error["code"] == "http.refused"
    assert inner[1] == []


async def test_a_name_that_changes_its_mind_is_judged_by_what_is_connected_to(
    run: Run, inner: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: asked first, the name is harmless; asked again for the connection, it is this machine."""
    port, requests = inner
    loop = asyncio.get_running_loop()
    resolver = Resolver(loop.getaddrinfo, "169.254.169.254", "127.0.0.1")
    monkeypatch.setattr(loop, "getaddrinfo", resolver)
    codes = []
    for _ in range(3):
        outcome = await run("http", {"url": f"http://rebound.example:{port}/"}, allow_private_http=False)
        assert outcome.error is not None
        codes.append(outcome.error["code"])
    assert codes == ["http.refused"] * 3 and resolver.requests and requests == []


async def test_no_redirect_leads_to_metadata_whatever_its_form(run: Run, inner: tuple[int, list[str]]) -> None:
    """Even where private networks are allowed: through a chain of redirects, relative, and without a scheme."""
    port, requests = inner
    for to in (
        "http://169.254.169.254/latest/",
        "//169.254.169.254/latest/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[::ffff:169.254.169.254]/",
        "http://user@169.254.169.254:80/",
        f"http://127.0.0.1:{port}/again?to=http://169.254.169.254/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
    ):
        outcome = await run("http", {"url": f"http://127.0.0.1:{port}/begin", "params": {"to": to}})
        assert outcome.error is not None, to
        assert outcome.error["code"] in REFUSED, (to, outcome.error)
    assert set(requests) == {"/begin", "/again"}


def test_every_inner_network_is_refused_by_its_first_and_last_address() -> None:
    for address in (
        *("0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.255.255.255"),
        *("172.16.0.0", "172.31.255.255", "192.0.0.0", "192.168.255.255", "198.18.0.0", "198.19.255.255", "240.0.0.0"),
        *(
            "255.255.255.255",
            "fc00::",
            "fdff::1",
            "fec0::1",
            "2001:db8::1",
            "::ffff:0.0.0.0",
            "2002:7f00:1::",
            "2002:a00:1::",
        ),
    ):
        with pytest.raises(AddressRefused):
            check(address, allow_private=False)
