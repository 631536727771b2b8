"""Callback URLs at the gateway: pages and JSON, without a session."""

from __future__ import annotations

import asyncio
import logging
from html import escape
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import web

from noetl_serverless.gateway.at_once import MAX_AT_ONCE
from noetl_serverless.gateway.callbacks import MAX_BODY_BYTES

from .conftest import SERVICE_TOKEN, Answer, Client, Upstream

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl"
URL = f"/callbacks/{TOKEN}"
READ, ANSWER = "POST /api/callbacks/read", "POST /api/callbacks/answer"
PAGE = {"accept": "text/html,application/xhtml+xml;q=0.9"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
EDGES = [2**63 - 1, -(2**63), 0.12345678901234567890123]
DETAILS = {
    "execution_id": "7",
    "path": "demo/<b>order</b>",
    "version": 2,
    "description": "Orders <i>over</i> 1000",
    "step_descriptions": ["May it be sent?"],
    "signal": "manager",
    "approval": True,
    "expires_at": "2027-01-31T08:00:00Z",
    "paused": False,
    "status": "open",
    "answer": None,
    "answered_at": None,
}
GIVEN = {
    "execution_id": "7",
    "signal": "manager",
    "approval": True,
    "status": "accepted",
    "answer": {"approved": True, "comment": "<script>alert(1)</script>"},
    "answered_at": "2027-01-30T08:00:00Z",
}


def is_secret_kept(answer: Answer) -> bool:
    """Whether neither caches nor the page's links have the URL, and nothing runs in the page."""
    policy = answer.header("content-security-policy") or ""
    return (
        answer.header("cache-control") == "no-store"
        and answer.header("referrer-policy") == "no-referrer"
        and "default-src 'none'" in policy
        and "script-src" not in policy
        and "frame-ancestors 'none'" in policy
        and b"<script" not in answer.body
    )


class TestReading:
    async def test_the_page_says_what_it_is_about_and_asks(self, call: Client, upstream: Upstream) -> None:
        upstream.answers[READ] = DETAILS
        answer = await call("GET", URL, headers={**PAGE, "authorization": "Bearer x", "cookie": "session_token=y"})
        assert answer.status == 200 and is_secret_kept(answer)
        page = answer.body.decode()
        assert "Orders &lt;i&gt;over&lt;/i&gt; 1000" in page and "May it be sent?" in page
        for said in ("demo/&lt;b&gt;order&lt;/b&gt;, version 2", "manager", "2027-01-31 08:00 UTC", 'value="approve"'):
            assert said in page, said
        assert TOKEN not in page
        seen = upstream.last
        assert (seen.path, seen.json) == ("/api/callbacks/read", {"token": TOKEN})
        assert seen.headers["authorization"] == f"Bearer {SERVICE_TOKEN}" and "cookie" not in seen.headers

    async def test_of_a_signal_it_asks_for_a_value(self, call: Client, upstream: Upstream) -> None:
        upstream.answers[READ] = {**DETAILS, "approval": False, "paused": True}
        page = (await call("GET", URL, headers=PAGE)).body.decode()
        assert 'name="value"' in page and 'name="decision"' not in page
        assert "kept until it goes on" in page

    async def test_what_has_been_answered_is_shown_and_not_asked(self, call: Client, upstream: Upstream) -> None:
        given = {"status": "answered", "answer": GIVEN["answer"], "answered_at": GIVEN["answered_at"]}
        upstream.answers[READ] = {**DETAILS, **given}
        answer = await call("GET", URL, headers=PAGE)
        page = answer.body.decode()
        assert "<form" not in page and "2027-01-30 08:00 UTC" in page and is_secret_kept(answer)
        assert "Approved: &lt;script&gt;alert(1)&lt;/script&gt;" in page

    async def test_without_pages_it_is_json(self, call: Client, upstream: Upstream) -> None:
        upstream.answers[READ] = DETAILS
        answer = await call("GET", URL)
        assert answer.json == DETAILS and is_secret_kept(answer)

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    async def test_it_never_answers(self, call: Client, upstream: Upstream, method: str) -> None:
        upstream.answers |= {READ: DETAILS, ANSWER: GIVEN}
        body = urlencode({"decision": "approve"}).encode()
        answer = await call(method, f"{URL}?decision=approve", body, headers={**PAGE, **FORM})
        assert answer.status == 200
        assert [seen.path for seen in upstream.seen] == ["/api/callbacks/read"]


class TestAnswering:
    @pytest.mark.parametrize(
        ("form", "data"),
        [
            ({"decision": "approve"}, {"approved": True}),
            ({"decision": "approve", "comment": " "}, {"approved": True}),
            ({"decision": "reject", "comment": "too dear"}, {"approved": False, "comment": "too dear"}),
            ({"value": '{"n": 7}'}, {"n": 7}),
            ({"value": "just text"}, "just text"),
            ({"value": "5 rows {of many}"}, "5 rows {of many}"),
            ({"value": '"12345678901234567890123"'}, "12345678901234567890123"),
            ({"value": "null"}, None),
        ],
    )
    async def test_a_form(self, call: Client, upstream: Upstream, form: dict[str, str], data: Any) -> None:
        upstream.answers[ANSWER] = GIVEN
        answer = await call("POST", URL, urlencode(form).encode(), headers={**PAGE, **FORM})
        assert answer.status == 200 and is_secret_kept(answer)
        assert upstream.last.json == {"token": TOKEN, "data": data}
        assert b"has been recorded" in answer.body and b"&lt;script&gt;" in answer.body

    @pytest.mark.parametrize(
        ("body", "type", "data"),
        [
            (b'{"approved": true}', "application/json", {"approved": True}),
            (b"[1, null]", "application/json; charset=utf-8", [1, None]),
            (b"[9223372036854775807, -9223372036854775808, 0.12345678901234567890123]", "application/json", EDGES),
            (b"12345678901234567890123", "text/plain", "12345678901234567890123"),
            (b"as it is", "text/plain", "as it is"),
            (b"", "", None),
        ],
    )
    async def test_a_body(self, call: Client, upstream: Upstream, body: bytes, type: str, data: Any) -> None:
        upstream.answers[ANSWER] = GIVEN
        answer = await call("POST", URL, body, headers={"content-type": type})
        assert (answer.status, answer.json) == (200, GIVEN)
        assert upstream.last.json == {"token": TOKEN, "data": data}

    @pytest.mark.parametrize(
        ("body", "type"),
        [
            (b"{", "application/json"),
            (b"\xff", "text/plain"),
            (b"x", ""),
            (b"<a/>", "application/xml"),
            (b"decision=perhaps", FORM["content-type"]),
            (b"decision=approve&value=1", FORM["content-type"]),
            (b"", FORM["content-type"]),
            (b"&".join(b"a=1" for _ in range(50)), FORM["content-type"]),
        ],
    )
    async def test_what_cannot_be_read_is_refused(
        self, call: Client, upstream: Upstream, body: bytes, type: str
    ) -> None:
        answer = await call("POST", URL, body, headers={"content-type": type})
        assert (answer.status, answer.json["code"]) == (400, "request.invalid")
        assert upstream.seen == []

    @pytest.mark.parametrize("value", ['{"rows": 5', " [1", '"text', "{no}"])
    async def test_a_value_that_was_to_be_json_is_asked_for_again(
        self, call: Client, upstream: Upstream, value: str
    ) -> None:
        upstream.answers[READ] = {**DETAILS, "approval": False}
        page = await call("POST", URL, urlencode({"value": value}).encode(), headers={**PAGE, **FORM})
        assert page.status == 400 and is_secret_kept(page)
        assert b"begins as JSON and is none" in page.body and f"\n{escape(value)}</textarea>".encode() in page.body
        assert b"May it be sent?" in page.body, "the question is not there"
        assert [seen.path for seen in upstream.seen] == ["/api/callbacks/read"]

    @pytest.mark.parametrize("value", ["", " \n"])
    async def test_an_empty_value_is_asked_for_again(self, call: Client, upstream: Upstream, value: str) -> None:
        upstream.answers[READ] = {**DETAILS, "approval": False}
        sent = urlencode({"value": value}).encode()
        page = await call("POST", URL, sent, headers={**PAGE, **FORM})
        assert page.status == 400 and b"There is no value" in page.body and b'name="value"' in page.body
        document = await call("POST", URL, sent, headers=FORM)
        assert (document.status, document.json["code"]) == (400, "request.invalid")
        assert [seen.path for seen in upstream.seen] == ["/api/callbacks/read"]

    async def test_what_the_control_plane_refuses_is_asked_for_again_with_what_was_typed(
        self, call: Client, upstream: Upstream
    ) -> None:
        invalid = {"code": "request.invalid", "title": "The request is invalid", "detail": "comment: <too long>"}
        upstream.answers |= {READ: DETAILS, ANSWER: [400, invalid]}
        sent = urlencode({"decision": "approve", "comment": "</textarea><b>as agreed"}).encode()
        page = await call("POST", URL, sent, headers={**PAGE, **FORM})
        assert page.status == 400 and is_secret_kept(page)
        assert b"comment: &lt;too long&gt;" in page.body and b'value="approve"' in page.body
        assert b"\n&lt;/textarea&gt;&lt;b&gt;as agreed</textarea>" in page.body

    async def test_where_the_question_cannot_be_read_the_problem_is_shown(
        self, call: Client, upstream: Upstream
    ) -> None:
        upstream.answers[READ] = [410, {"code": "callback.over", "title": "Over", "detail": "it has ended"}]
        page = await call("POST", URL, urlencode({"value": "{"}).encode(), headers={**PAGE, **FORM})
        assert page.status == 400 and b'<a href="">Answer again</a>' in page.body

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b'{"n": 12345678901234567890123}', "does not fit in 64 bits; send it as a string"),
            (b"[-9223372036854775809]", "does not fit in 64 bits"),
            (b"18446744073709551615", "does not fit in 64 bits"),
            (b"[" * 300 + b"]" * 300, "it is nested too deeply"),
            (b"[" * 1000 + b"1234567890123456789" + b"]" * 1000, "it is nested too deeply"),
        ],
    )
    @pytest.mark.parametrize("type", ["application/json", FORM["content-type"]])
    async def test_what_would_be_changed_or_cannot_be_kept_is_refused(
        self, call: Client, upstream: Upstream, body: bytes, says: str, type: str
    ) -> None:
        sent = urlencode({"value": body}).encode() if type != "application/json" else body
        answer = await call("POST", URL, sent, headers={"content-type": type})
        assert (answer.status, answer.json["code"]) == (400, "request.invalid")
        assert says in answer.json["detail"]
        assert upstream.seen == []

    @pytest.mark.parametrize("announced", [True, False])
    async def test_a_large_body_is_refused_while_it_comes(
        self, call: Client, upstream: Upstream, announced: bool
    ) -> None:
        large = b"x" * (MAX_BODY_BYTES + 1)
        sent: dict[str, Any] = {"body": large} if announced else {"chunks": [large, b"never read"]}
        answer = await call("POST", URL, headers={"content-type": "text/plain"}, **sent)
        assert (answer.status, answer.json["code"]) == (413, "request.too_large")
        assert upstream.seen == []


class TestRefusals:
    @pytest.mark.parametrize("path", ["/callbacks/", "/callbacks/x", "/callbacks/a.b", f"/callbacks/{'a' * 5000}.b.c"])
    async def test_what_cannot_be_a_token_is_not_found(self, call: Client, upstream: Upstream, path: str) -> None:
        assert (await call("GET", path)).status == 404
        assert upstream.seen == []

    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
    async def test_other_methods_are_refused(self, call: Client, upstream: Upstream, method: str) -> None:
        answer = await call(method, URL)
        assert (answer.status, answer.json["code"]) == (405, "request.method_not_allowed")
        assert TOKEN.encode() not in answer.body
        assert upstream.seen == []

    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_a_problem_is_a_page_or_a_problem_document(
        self, call: Client, upstream: Upstream, method: str
    ) -> None:
        problem = {"code": "callback.expired", "title": "The URL has expired", "detail": "<b> until then"}
        upstream.answers |= {READ: [410, problem], ANSWER: [410, problem]}
        page = await call(method, URL, b"{}" if method == "POST" else None, headers=PAGE)
        assert page.status == 410 and is_secret_kept(page)
        assert b"&lt;b&gt; until then" in page.body and b"<b>" not in page.body
        document = await call(method, URL, b"{}" if method == "POST" else None)
        assert (document.status, document.json["code"]) == (410, "callback.expired")
        assert document.json["instance"] == "/callbacks/***" and is_secret_kept(document)

    async def test_a_second_answer_is_shown_the_first(self, call: Client, upstream: Upstream) -> None:
        problem = {"code": "callback.answered", "title": "There is an answer already", "detail": "once"}
        given = {"answer": {"approved": False}, "answered_at": GIVEN["answered_at"]}
        upstream.answers[ANSWER] = [409, {**problem, **given}]
        page = await call("POST", URL, b'{"approved": true}', headers=PAGE)
        assert page.status == 409 and b"<pre>Rejected</pre>" in page.body

    async def test_a_refusal_of_this_gateways_token_is_no_fault_of_the_caller(
        self, call: Client, upstream: Upstream
    ) -> None:
        upstream.answers[READ] = [401, {"code": "auth.unauthenticated"}]
        assert (await call("GET", URL)).status == 502

    async def test_users_do_not_reach_it_by_the_proxy(self, call: Client, upstream: Upstream, admin: str) -> None:
        answer = await call("POST", "/noetl/callbacks/answer", {"token": TOKEN}, token=admin)
        assert answer.status == 403 and upstream.seen == []

    async def test_a_flood_is_turned_away(self, call: Client, upstream: Upstream) -> None:
        arrived, go_on = asyncio.Semaphore(0), asyncio.Event()

        async def handler(request: web.Request, body: bytes) -> web.Response:
            arrived.release()
            await go_on.wait()
            return web.json_response(DETAILS)

        upstream.handler = handler
        waiting = [asyncio.create_task(call("GET", URL)) for _ in range(MAX_AT_ONCE)]
        for _ in waiting:
            await arrived.acquire()
        assert (await call("GET", URL)).status == 503
        go_on.set()
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}
        assert (await call("GET", URL)).status == 200

    @pytest.mark.parametrize("path", [URL, f"{URL}/more", f"{URL}x"])
    @pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
    async def test_no_log_has_the_token(
        self, call: Client, upstream: Upstream, caplog: pytest.LogCaptureFixture, path: str, method: str
    ) -> None:
        caplog.set_level(logging.DEBUG)
        answer = await call(method, path, b"{}" if method == "POST" else None)
        assert answer.status >= 400
        lines = [record for record in caplog.records if record.name.startswith("noetl")]
        assert any("/callbacks/***" in record.getMessage() for record in lines)
        for record in lines:
            assert TOKEN not in str(record.__dict__), record
