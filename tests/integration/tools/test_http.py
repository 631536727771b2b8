from __future__ import annotations

import asyncio
import base64
import contextlib
import html
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urlencode

import pytest
from aiohttp import web
from tests.certificate import certificate
from tests.serving import serving_app
from yarl import URL

from noetl_serverless.playbook.template import Template
from noetl_serverless.telemetry.secret_texts import SecretTexts
from noetl_serverless.tools.http_client import FORM, Request, _redirected
from noetl_serverless.tools.port import Credential, ToolOutcome

Run = Callable[..., Coroutine[Any, Any, ToolOutcome]]


def error_of(outcome: ToolOutcome) -> dict[str, Any]:
    assert outcome.error is not None
    return outcome.error


async def echo(request: web.Request) -> web.Response:
    body = (await request.read()).decode()
    return web.json_response(
        {
            "method": request.method,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "query": [list(pair) for pair in request.query.items()],
            "body": body,
            "peer": request.transport.get_extra_info("peername")[1] if request.transport else None,
        }
    )


async def redirect(request: web.Request) -> web.Response:
    return web.Response(status=int(request.query.get("status", "302")), headers={"Location": request.query["to"]})


async def loop(request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/loop"})


async def status(request: web.Request) -> web.Response:
    shown = f"you are {request.headers.get('Authorization')} {request.query_string}"
    return web.Response(status=int(request.match_info["status"]), text=shown, headers={"Retry-After": "3"})


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(600)
    return web.Response()


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * (1 << 20))


async def broken(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b"x")
    assert request.transport is not None
    request.transport.close()
    return response


async def typed(request: web.Request) -> web.Response:
    return web.Response(body=base64.b64decode(request.query["body"]), content_type=request.query["type"])


async def cookie(request: web.Request) -> web.Response:
    response = web.Response(text=request.headers.get("Cookie", "none"))
    response.set_cookie("session", "1")
    return response


@contextlib.asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    app = web.Application()
    for path, handler in {
        "/echo": echo,
        "/redirect": redirect,
        "/loop": loop,
        "/status/{status}": status,
        "/slow": slow,
        "/endless": endless,
        "/broken": broken,
        "/typed": typed,
        "/cookie": cookie,
    }.items():
        app.router.add_route("*", path, handler)
    async with serving_app(app, tls) as url:
        yield url


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async with serving() as url:
        yield url


@pytest.fixture
async def neighbour() -> AsyncIterator[str]:
    """The same on another port."""
    async with serving() as url:
        yield url


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[str]:
    """The same over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    async with serving(context) as url:
        yield url


@pytest.fixture
def http(run: Run, server: str) -> Run:
    async def http(path: str, timeout: float | None = None, private: bool = True, **config: Any) -> ToolOutcome:
        url = path if "://" in path else server + path
        return await run("http", {"url": url, **config}, timeout=timeout, allow_private_http=private)

    return http


def code(outcome: ToolOutcome) -> tuple[str, bool]:
    assert outcome.status == "error"
    assert outcome.error is not None
    return error_of(outcome)["code"], error_of(outcome)["retryable"]


async def test_an_answer_has_status_headers_url_time_and_parsed_data(http: Run, server: str) -> None:
    outcome = await http("/echo", params={"a": 1, "b": ["x", "y"], "c": None, "d": True}, headers={"X-N": 5})
    assert outcome.status == "ok"
    assert set(outcome.data) == {"status_code", "headers", "url", "elapsed", "data"}
    assert outcome.data["status_code"] == 200
    assert outcome.data["url"] == f"{server}/echo?a=1&b=x&b=y&d=true"
    assert outcome.data["headers"]["content-type"].startswith("application/json")
    assert outcome.data["data"]["query"] == [["a", "1"], ["b", "x"], ["b", "y"], ["d", "true"]]
    assert outcome.data["data"]["headers"]["x-n"] == "5"
    assert outcome.extra["http"]["status"] == 200


@pytest.mark.parametrize(
    ("config", "body", "kind"),
    [
        ({"json": {"a": 1}}, '{"a":1}', "application/json"),
        ({"json": "text"}, '"text"', "application/json"),
        ({"payload": [1]}, "[1]", "application/json"),
        ({"body": "raw"}, "raw", "text/plain; charset=utf-8"),
        ({"data": {"body": {"a": 1}, "query": {"q": 1}}}, '{"a":1}', "application/json"),
        ({"data": {"a": 1}}, '{"a":1}', "application/json"),
        ({"data": "raw"}, "raw", "text/plain; charset=utf-8"),
        ({"form": {"a": "1 2", "b": [1, True]}}, "a=1+2&b=1&b=true", "application/x-www-form-urlencoded"),
        (
            {"body": {"a": "1 2"}, "headers": {"content-type": "application/x-www-form-urlencoded"}},
            "a=1+2",
            "application/x-www-form-urlencoded",
        ),
    ],
)
async def test_a_body_is_sent_as_what_it_is(http: Run, config: dict[str, Any], body: str, kind: str) -> None:
    data = (await http("/echo", method="POST", **config)).data["data"]
    assert (data["method"], data["body"], data["headers"]["content-type"]) == ("POST", body, kind)


async def test_posts_carry_the_idempotency_key_unless_they_have_one(http: Run) -> None:
    async def key(**config: Any) -> Any:
        return (await http("/echo", **config)).data["data"]["headers"].get("idempotency-key")

    assert await key(method="POST") == "key-1"
    assert await key(method="POST", headers={"Idempotency-Key": "mine"}) == "mine"
    assert await key(method="GET") is None


@pytest.mark.parametrize(
    ("kind", "body", "data"),
    [
        ("application/json", b'{"a":1}', {"a": 1}),
        ("application/problem+json", b"[1]", [1]),
        ("application/json", b"not json", "not json"),
        ("text/csv", b"a,b\n", "a,b\n"),
        ("image/png", b"\xff\x00", "/wA="),
        ("text/plain", b"\xff\xfe", "//4="),
        ("application/json", b"", None),
    ],
)
async def test_data_is_json_else_text_else_base64(http: Run, kind: str, body: bytes, data: Any) -> None:
    outcome = await http("/typed", params={"type": kind, "body": base64.b64encode(body).decode()})
    assert outcome.data["data"] == data
    assert ("encoding" in outcome.data) == (data in ("/wA=", "//4="))


@pytest.mark.parametrize(
    ("number", "retryable"), [(400, False), (404, False), (408, True), (429, True), (500, True), (503, True)]
)
async def test_a_bad_status_is_an_error_that_keeps_the_answer(http: Run, number: int, retryable: bool) -> None:
    outcome = await http(f"/status/{number}")
    assert code(outcome) == ("http.status", retryable)
    assert outcome.error is not None
    assert error_of(outcome)["status_code"] == outcome.data["status_code"] == outcome.extra["http"]["status"] == number
    assert outcome.extra["http"]["headers"]["retry-after"] == "3"
    assert outcome.data["data"].startswith("you are")


@pytest.mark.parametrize(
    ("credential", "auth", "where", "value"),
    [
        (("bearer", {"token": "tok-1"}), "c", "authorization", "Bearer tok-1"),
        (("basic", {"username": "u", "password": "pass"}), "c", "authorization", "Basic dTpwYXNz"),
        (("api_key", {"key": "abc-1"}), "c", "x-api-key", "abc-1"),
        (("api_key", {"key": "abc-1", "header": "X-Key"}), "c", "x-key", "abc-1"),
        (("header", {"name": "X-Tok", "value": "abc-1"}), "c", "x-tok", "abc-1"),
        (("header", {"headers": {"A-B": "abc-1"}}), "c", "a-b", "abc-1"),
        (("static", {"token": "tok-1"}), {"type": "bearer", "credential": "c"}, "authorization", "Bearer tok-1"),
    ],
)
async def test_a_credential_is_shown_as_its_type_says(
    http: Run, credentials: dict[str, Credential], credential: Any, auth: Any, where: str, value: str
) -> None:
    credentials["c"] = Credential("c", *credential)
    assert (await http("/echo", auth=auth)).data["data"]["headers"][where] == value


@pytest.mark.parametrize(
    ("type_", "place", "message"),
    [
        ("bearer", {"header": "X-Token"}, "is sent as bearer: header requires type: api_key or header"),
        ("oauth2", {"param": "token"}, "is sent as bearer: param requires type: api_key"),
    ],
)
async def test_a_place_that_the_type_of_the_credential_does_not_have_is_refused(
    http: Run, credentials: dict[str, Credential], type_: str, place: dict[str, str], message: str
) -> None:
    credentials["c"] = Credential("c", type_, {"token": "tok-1"})
    outcome = await http("/echo", auth={"credential": "c", **place})
    assert code(outcome) == ("credential.unfit", False)
    assert error_of(outcome)["message"] == f"http: credential 'c' {message}"


async def test_a_key_in_the_query_is_sent_and_masked(http: Run, credentials: dict[str, Credential]) -> None:
    credentials["c"] = Credential("c", "api_key", {"key": "se/cret", "param": "key"})
    outcome = await http("/echo", auth="c")
    assert outcome.data["data"]["query"] == [["key", "se/cret"]]
    assert outcome.data["url"].endswith("?key=***")


async def test_errors_never_show_the_credential(http: Run, credentials: dict[str, Credential]) -> None:
    credentials["t"] = Credential("t", "bearer", {"token": "secret-token"})
    credentials["b"] = Credential("b", "basic", {"username": "u", "password": "secret-word"})
    credentials["k"] = Credential("k", "api_key", {"key": "secret/key", "param": "key"})
    for name in credentials:
        outcome = await http("/status/401", auth=name)
        shown = json.dumps([outcome.error, outcome.data, outcome.extra])
        assert "***" in shown
        assert not any(secret in shown for secret in ("secret-token", "secret-word", "secret/key", "dTpzZWNyZXQ"))


# how a playbook sends a secret to a server, which sends it back
SENT: dict[str, Callable[[str], dict[str, Any]]] = {
    "as a parameter": lambda secret: {"params": {"p": secret}},
    "in the url": lambda secret: {"url": f"/echo?p={secret}"},
    "quoted in the url": lambda secret: {"url": f"/echo?p={Template('{{ x | urlencode }}').render({'x': secret})}"},
    "in the path": lambda secret: {"url": f"/missing/{quote(secret, safe='')}/x"},
    "as a form": lambda secret: {"method": "POST", "form": {"p": secret}},
    "as a form by its type": lambda secret: {
        "method": "POST",
        "headers": {"Content-Type": FORM},
        "body": {"p": secret},
    },
    "as json": lambda secret: {"method": "POST", "json": {"p": [secret]}},
    "in a text": lambda secret: {"method": "POST", "body": f"<{secret}>"},
    "in a header": lambda secret: {"headers": {"X-Key": secret}},
    "in base64": lambda secret: {"headers": {"X-Key": base64.b64encode(f"u:{secret}".encode()).decode()}},
    "in an answer that is no text": lambda secret: {
        "url": "/typed",
        "params": {"type": "image/png", "body": base64.b64encode(json.dumps({"p": secret}).encode()).decode()},
    },
}
SECRETS = ("p@ss w!rd'ü/x+y=12", 'a%41b "c" d', "plain-token-77", "hunt3r", "{x: [y]};;$1")


def parts_shown(found: Any, secret: str) -> list[str]:
    """The masked text, in each way to read it in which it shows the secret."""
    masked = json.dumps(SecretTexts([secret]).tree(found), ensure_ascii=False)
    assert "***" in masked, f"nothing was masked: {masked}"
    runs = [run[: len(run) // 4 * 4] for run in re.findall(r"[A-Za-z0-9+/]{8,}", masked)]
    decoded = [base64.b64decode(run).decode("latin-1") for run in runs]
    read = [masked, unquote(masked), unquote_plus(masked), html.unescape(masked), *decoded]
    return [text for text in read if any(form in text for form in (secret, json.dumps(secret)[1:-1]))]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("how", SENT)
async def test_no_part_of_an_answer_shows_a_secret_that_was_sent(http: Run, how: str, secret: str) -> None:
    config = {"url": "/echo", **SENT[how](secret)}
    outcome = await http(config.pop("url"), **config)
    assert parts_shown([outcome.data, outcome.extra, outcome.error], secret) == []


@pytest.mark.parametrize("secret", SECRETS)
async def test_no_part_of_an_answer_shows_the_password_of_the_url(http: Run, server: str, secret: str) -> None:
    outcome = await http(f"{server.replace('://', '://u:' + quote(secret, safe='') + '@')}/echo")
    assert "authorization" in outcome.data["data"]["headers"]
    assert parts_shown(outcome.data, secret) == []


async def test_a_secret_in_the_host_of_a_url_is_not_shown_in_lower_case(http: Run) -> None:
    outcome = await http("http://Tenant-77XyZ.invalid/")
    message = SecretTexts(["Tenant-77XyZ"]).text(error_of(outcome)["message"])
    assert "***" in message and "tenant-77xyz" not in message.lower(), message


async def test_the_excerpt_of_an_answer_is_cut_with_a_sign(http: Run) -> None:
    message = error_of(await http("/status/400?" + "x" * 300))["message"]
    assert message.endswith("xxx…"), message
    assert not error_of(await http("/status/400?x"))["message"].endswith("…")


@pytest.mark.parametrize(
    ("credential", "expected"),
    [(None, "credential.missing"), (("postgres", {}), "credential.unfit"), (("bearer", {}), "credential.unfit")],
)
async def test_an_unusable_credential_is_reported(
    http: Run, credentials: dict[str, Credential], credential: Any, expected: str
) -> None:
    if credential:
        credentials["c"] = Credential("c", *credential)
    assert code(await http("/echo", auth="c")) == (expected, False)


async def test_timeouts_and_broken_connections_are_retryable(http: Run) -> None:
    assert code(await http("/slow", timeout=0.1)) == ("http.timeout", True)
    assert code(await http("/broken")) == ("http.connect", True)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert code(await http(f"http://127.0.0.1:{closed.getsockname()[1]}/")) == ("http.connect", True)


@pytest.mark.parametrize("timeout", [0.1, {"connect": 1, "read": 0.1}, {"total": 0.1}])
async def test_the_config_may_set_the_timeout(run: Run, server: str, timeout: Any) -> None:
    outcome = await run("http", {"url": f"{server}/slow", "timeout": timeout})
    assert code(outcome) == ("http.timeout", True)


async def test_an_answer_beyond_the_limit_is_refused(http: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.tools.http_client.MAX_BYTES", 3 << 20)
    assert code(await http("/endless")) == ("http.too_large", False)


@pytest.mark.parametrize("url", ["ftp://example.org/", "file:///etc/passwd", "example.org", "http://", "http://[::1"])
async def test_what_is_no_http_url_is_refused(http: Run, run: Run, url: str) -> None:
    assert code(await run("http", {"url": url})) == ("http.url", False)


async def test_a_line_break_in_a_header_is_refused(http: Run) -> None:
    assert code(await http("/echo", headers={"X-A": "b\r\nX-C: d"})) == ("http.headers", False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_this_machine_is_refused_unless_allowed(http: Run, server: str, host: str) -> None:
    url = server.replace("127.0.0.1", host) + "/echo"
    assert code(await http(url, private=False)) == ("http.refused", False)
    assert (await http(server + "/echo")).status == "ok"
    # a kept connection of an allowed call does not help one that is not
    assert code(await http(url, private=False)) == ("http.refused", False)


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest/meta-data", "http://[::ffff:a9fe:a9fe]/", "http://[fd00:ec2::254]/"]
)
async def test_metadata_addresses_are_always_refused_through_redirects_too(http: Run, url: str) -> None:
    assert code(await http(url)) == ("http.refused", False)
    assert code(await http("/redirect", params={"to": url})) == ("http.refused", False)


async def test_a_name_is_judged_by_the_address_it_leads_to(
    http: Run, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lead_home(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lead_home)
    assert code(await http("http://harmless.example/")) == ("http.refused", False)
    assert code(await http("/redirect", params={"to": "http://harmless.example/"})) == ("http.refused", False)


@pytest.fixture
def secret(credentials: dict[str, Credential]) -> str:
    credentials["c"] = Credential("c", "api_key", {"key": "secret-key", "header": "X-Key"})
    return "c"


Redirected = Callable[[str, str], Awaitable[dict[str, str]]]


@pytest.fixture
def redirected(http: Run, secret: str) -> Redirected:
    """The headers that arrive at the second place, of what is sent to the first with everything secret there is."""

    async def redirected(first: str, second: str) -> dict[str, str]:
        outcome = await http(
            f"{first}/redirect",
            params={"to": second},
            auth=secret,
            headers={"Cookie": "a=b", "X-Plain": "1"},
            verify_ssl=False,
        )
        assert outcome.error is None, outcome.error
        shown: dict[str, str] = outcome.data["data"]["headers"]
        assert shown["x-plain"] == "1"
        return shown

    return redirected


async def test_a_redirect_within_an_origin_keeps_secrets(server: str, redirected: Redirected) -> None:
    for place in ("/echo", f"{server}/echo"):
        shown = await redirected(server, place)
        assert (shown["x-key"], shown["cookie"]) == ("secret-key", "a=b")


async def test_a_redirect_to_another_host_takes_no_secret_along(server: str, redirected: Redirected) -> None:
    shown = await redirected(server, server.replace("127.0.0.1", "localhost") + "/echo")
    assert not {"x-key", "cookie"} & shown.keys()


async def test_a_redirect_to_another_port_takes_no_secret_along(
    server: str, neighbour: str, redirected: Redirected
) -> None:
    shown = await redirected(server, f"{neighbour}/echo")
    assert not {"x-key", "cookie"} & shown.keys()


async def test_a_redirect_out_of_tls_takes_no_secret_along(server: str, secure: str, redirected: Redirected) -> None:
    assert (await redirected(secure, "/echo"))["x-key"] == "secret-key"
    shown = await redirected(secure, f"{server}/echo")
    assert not {"x-key", "cookie"} & shown.keys()


def test_the_scheme_alone_makes_another_origin() -> None:
    """On one port, which no server can show."""
    headers, private = {"X-Key": "secret-key", "X-Plain": "1"}, frozenset({"x-key"})
    first = Request(
        method="GET", url=URL("https://h:8443/a"), headers=headers, private=private, body=None, verify=True, follow=True
    )
    assert _redirected(first, 302, "http://h:8443/b").headers == {"X-Plain": "1"}
    assert _redirected(first, 302, "https://h:8443/b").headers == headers


async def test_what_a_redirect_took_away_does_not_come_back(
    server: str, neighbour: str, redirected: Redirected
) -> None:
    back = urlencode({"to": f"{server}/echo"})
    shown = await redirected(server, f"{neighbour}/redirect?{back}")
    assert not {"x-key", "cookie"} & shown.keys()


@pytest.mark.parametrize(
    ("number", "method", "body"), [(302, "GET", ""), (303, "GET", ""), (307, "POST", "[1]"), (308, "POST", "[1]")]
)
async def test_redirects_change_the_method_as_they_should(http: Run, number: int, method: str, body: str) -> None:
    outcome = await http("/redirect", method="POST", json=[1], params={"to": "/echo", "status": number})
    assert (outcome.data["data"]["method"], outcome.data["data"]["body"]) == (method, body)


async def test_redirects_can_be_left_alone_and_do_not_go_on_for_ever(http: Run) -> None:
    outcome = await http("/redirect", params={"to": "/echo"}, follow_redirects=False)
    assert (outcome.status, outcome.data["status_code"], outcome.data["headers"]["location"]) == ("ok", 302, "/echo")
    assert code(await http("/loop")) == ("http.redirects", False)
    assert code(await http("/redirect", params={"to": "file:///etc/passwd"})) == ("http.url", False)


async def test_connections_are_kept_but_no_cookies(http: Run) -> None:
    ports = {(await http("/echo")).data["data"]["peer"] for _ in range(5)}
    assert len(ports) == 1
    await http("/cookie")
    assert (await http("/cookie")).data["data"] == "none"


async def test_a_body_that_json_cannot_carry_is_not_sent(http: Run) -> None:
    assert code(await http("/echo", method="POST", json={"n": 2**70})) == ("http.body", False)
