"""Results over REST within limits: on a host that answers as a whole, with stores that fail and clients that leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from tests.integration.control_plane.conftest import SETTINGS, Client
from tests.integration.control_plane.test_put_results import objects

from noetl_serverless.control_plane import content
from noetl_serverless.errors import AccessDenied
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.settings import Settings

LIMIT = 100_000


@pytest.fixture
def settings(results_url: str) -> Settings:
    return replace(SETTINGS, result_url=results_url, host="aws", max_result_bytes=LIMIT)


async def put(user: Client, id: str, name: str, body: bytes | list[bytes], content_type: str = "text/csv") -> Any:
    return await user.call(
        "PUT", f"/api/result/{id}", body, query={"name": name}, headers={"content-type": content_type}
    )


async def test_an_answer_that_the_host_cannot_return_says_how_to_read_it(
    user: Client, started: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "WHOLE_ANSWER_BYTES", 1000)
    done = await put(user, started, "table", bytes(5000))
    query = {"ref": done.json["ref"]}
    refused = await user.get("/api/result/resolve", **query)
    assert (refused.status, refused.json["code"], refused.json["max_bytes"]) == (400, "answer.too_large", 1000)
    assert "url" not in refused.json, "a folder gives no URLs"
    part = await user.call("GET", "/api/result/resolve", query=query, headers={"range": "bytes=0-999"})
    assert (part.status, len(part.body)) == (206, 1000)
    head = await user.call("HEAD", "/api/result/resolve", query=query)
    assert (head.status, head.headers["content-length"]) == (200, "5000")

    async def signed_url(self: Any, key: str, seconds: int, *, content_type: str, filename: str) -> str:
        return f"https://store/{key}?seconds={seconds}&type={content_type}&name={filename}"

    monkeypatch.setattr(FsspecResultStore, "signed_url", signed_url, raising=False)
    refused = await user.get("/api/result/resolve", **query)
    assert refused.json["url"].startswith("https://store/") and "`url`" in refused.json["detail"]
    assert refused.json["url"] not in refused.json["detail"]
    answer = (await user.get("/api/result/url", **query, seconds=60)).json
    assert "seconds=60&type=text/csv&name=table.csv" in answer["url"]
    assert (answer["bytes"], answer["sha256"], answer["compression"]) == (5000, done.json["sha256"], None)
    assert (await user.get("/api/result/url", **query, seconds=10**9)).status == 400


async def test_a_converted_answer_that_the_host_cannot_return_is_refused(
    user: Client, started: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "WHOLE_ANSWER_BYTES", 1000)
    done = await put(user, started, "rows", orjson.dumps([{"n": n} for n in range(500)]), "application/json")
    query, headers = {"ref": done.json["ref"]}, {"accept": "text/csv"}
    refused = await user.call("GET", "/api/result/resolve", query=query, headers=headers)
    assert (refused.status, refused.json["code"]) == (400, "answer.too_large")
    monkeypatch.setattr(content, "WHOLE_ANSWER_BYTES", 10_000)
    answer = await user.call("GET", "/api/result/resolve", query=query, headers=headers)
    assert (answer.status, answer.body.count(b"\n")) == (200, 501)
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("announced", [True, False])
async def test_more_than_the_limit_is_refused_and_leaves_nothing(
    user: Client, started: str, results_url: str, announced: bool
) -> None:
    pieces = [bytes(40_000)] * 3
    headers = {"content-type": "text/csv", **({"content-length": "120000"} if announced else {})}
    refused = await user.call("PUT", f"/api/result/{started}", pieces, query={"name": "x"}, headers=headers)
    assert (refused.status, refused.json["code"]) == (413, "request.too_large")
    assert "NOETL_MAX_RESULT_BYTES" in refused.json["detail"]
    body = orjson.dumps({"name": "x", "data": "y" * LIMIT})
    assert (await user.call("PUT", f"/api/result/{started}", body)).status == 413
    assert (await put(user, started, "x", bytes(LIMIT))).status == 200
    assert len(objects(results_url)) == 1


async def test_a_client_that_goes_away_leaves_nothing(user: Client, started: str, results_url: str) -> None:
    sent: list[Any] = []
    coming = iter([{"type": "http.request", "body": bytes(50_000), "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(coming)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {"authorization": f"Bearer {user.token}", "content-type": "text/csv"}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "PUT",
        "scheme": "http",
        "path": f"/api/result/{started}",
        "raw_path": b"",
        "root_path": "",
        "query_string": b"name=x",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await user.app(scope, receive, send)
    assert sent[0]["status"] == 400, "nobody reads it, and it is no failure of ours"
    assert objects(results_url) == []
    assert (await user.get(f"/api/result/{started}/list")).json["results"] == []


async def test_a_body_that_ends_early_is_refused(user: Client, started: str, results_url: str) -> None:
    headers = {"content-type": "text/csv", "content-length": "10"}
    answer = await user.call("PUT", f"/api/result/{started}", [b"abc"], query={"name": "x"}, headers=headers)
    assert answer.status == 400 and "3 bytes of 10" in answer.json["detail"]
    assert objects(results_url) == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(OSError("no route"), 503, None), (AccessDenied("not for you"), 502, "result_store.denied")],
)
async def test_a_store_that_fails_loses_nothing(
    user: Client, started: str, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str | None
) -> None:
    done = await put(user, started, "table", b"abc")

    async def fail(*args: Any, **options: Any) -> Any:
        raise error

    query = {"ref": done.json["ref"]}
    with monkeypatch.context() as broken:
        for method in ("put", "put_file", "get_range", "delete"):
            broken.setattr(FsspecResultStore, method, fail)
        for answer in (
            await user.get("/api/result/resolve", **query),
            await put(user, started, "other", b"abc"),
            await user.call("DELETE", "/api/result", query=query),
            await user.delete(f"/api/result/{started}"),
        ):
            assert answer.status == status and code in (None, answer.json["code"]), answer.body
    assert (await user.get("/api/result/resolve", **query)).body == b"abc", "what could not be deleted is given back"
    assert [row["name"] for row in (await user.get(f"/api/result/{started}/list")).json["results"]] == ["table"]
    assert (await user.call("DELETE", "/api/result", query=query)).json["deleted_count"] == 1


async def test_what_is_put_is_never_a_page_of_this_origin(user: Client, started: str) -> None:
    for content_type in ("text/html", "image/svg+xml", "text/csv; charset=utf-8"):
        done = await put(user, started, "x", b"<script>alert(1)</script>", content_type)
        read = await user.get("/api/result/resolve", ref=done.json["ref"])
        assert read.headers["content-type"] == content_type
        assert read.headers["content-disposition"].startswith("attachment")
        assert read.headers["content-security-policy"].startswith("sandbox")


async def test_what_is_no_media_type_is_refused(user: Client, started: str) -> None:
    for content_type in ("text", "a/b\r\nset-cookie: x", "text/" + "x" * 300, "a/b; c=\u00e9"):
        headers = {"content-type": content_type}
        answer = await user.call("PUT", f"/api/result/{started}", b"x", query={"name": "x"}, headers=headers)
        assert answer.status == 400 and "media type" in answer.json["detail"], content_type


async def test_a_result_in_a_store_that_is_no_longer_there_is_not_available(
    user: Client, started: str, database: Any
) -> None:
    done = await put(user, started, "table", b"abc")
    await database.run("UPDATE noetl.result_ref SET store = 's3'")
    for method, path in (("GET", "/api/result/resolve"), ("DELETE", "/api/result"), ("GET", "/api/result/url")):
        answer = await user.call(method, path, query={"ref": done.json["ref"]})
        assert (answer.status, answer.json["code"]) == (404, "REFERENCE_NOT_AVAILABLE")
        assert "store 's3'" in answer.json["detail"]
