"""The mock API gives what its table promises."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.mock_api.server import MockApi, mock_api


@pytest.fixture(scope="module")
def api() -> Iterator[MockApi]:
    with mock_api() as server:
        yield server


class Reply:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.content = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.content)


def call(
    api: MockApi, path: str, method: str = "GET", body: str | None = None, headers: dict[str, str] | None = None
) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", api.server_port, timeout=10)
    connection.request(method, path, body, headers or {})
    try:
        return Reply(connection.getresponse())
    finally:
        connection.close()


def ids(items: list[dict[str, Any]]) -> list[int]:
    return [item["id"] for item in items]


def test_pages_by_number_end_with_has_more_false(api: MockApi) -> None:
    pages = [call(api, f"/items?page={page}&size=10&total=25").json for page in (1, 2, 3)]

    assert [len(page["items"]) for page in pages] == [10, 10, 5]
    assert [page["has_more"] for page in pages] == [True, True, False]
    assert pages[2]["items"][-1] == {"id": 25, "name": "item 25", "square": 625}


def test_pages_by_offset_and_limit(api: MockApi) -> None:
    assert ids(call(api, "/items/offset?offset=20&limit=10&total=25").json["items"]) == [21, 22, 23, 24, 25]


def test_pages_by_cursor_end_without_one(api: MockApi) -> None:
    found, cursor = [], ""
    while cursor is not None:
        page = call(api, f"/items/cursor?cursor={cursor}&limit=10&total=25").json
        found += ids(page["items"])
        cursor = page["next"]

    assert found == list(range(1, 26))


def test_pages_by_link_header_end_without_one(api: MockApi) -> None:
    found, path = [], "/items/linked?size=10&total=25"
    while path:
        reply = call(api, path)
        found += ids(reply.json)
        url = reply.headers.get("link", "").partition(">")[0].lstrip("<")
        path = url and f"{urlsplit(url).path}?{urlsplit(url).query}"

    assert found == list(range(1, 26))


@pytest.mark.parametrize("path", ["/items/0", "/items/seven", "/nowhere"])
def test_what_does_not_exist_is_404(api: MockApi, path: str) -> None:
    assert call(api, path).status == 404


def test_flaky_fails_the_first_requests_of_each_key(api: MockApi) -> None:
    statuses = [call(api, "/flaky?key=a&failures=2&status=500").status for _ in range(4)]

    assert statuses == [500, 500, 200, 200]
    assert call(api, "/flaky?key=b&failures=1").status == 503
    assert call(api, "/count?key=a").json == {"requests": 4}


def test_flaky_can_close_the_connection(api: MockApi) -> None:
    with pytest.raises((http.client.HTTPException, OSError)):
        call(api, "/flaky?key=dropped&failures=1&status=drop")
    assert call(api, "/flaky?key=dropped&failures=1&status=drop").json == {"requests": 2}


def test_flaky_can_answer_late(api: MockApi) -> None:
    assert call(api, "/flaky?key=late&failures=1&status=hang&delay=0.01").json == {"late": True}
    assert call(api, "/flaky?key=late&failures=1&status=hang&delay=0.01").json == {"requests": 2}


def test_limited_says_when_to_come_again(api: MockApi) -> None:
    refused = call(api, "/limited?key=l&refusals=1&retry_after=7")

    assert (refused.status, refused.headers["retry-after"]) == (429, "7")
    assert call(api, "/limited?key=l&refusals=1").status == 200


def test_bodies_have_the_size_that_was_asked_for(api: MockApi) -> None:
    assert call(api, "/bytes?size=100000").json["text"] == "x" * 100_000
    assert call(api, "/bytes?size=70000&as=text").content == b"x" * 70_000
    assert call(api, "/bytes?size=300&as=binary").content[254:258] == bytes([254, 255, 0, 1])
    assert call(api, "/bytes?size=99999999999").status == 400


def test_slow_is_bounded(api: MockApi) -> None:
    assert call(api, "/slow?delay=0.01").json == {"delay": 0.01}
    assert call(api, "/slow?delay=31").status == 400


def test_echo_shows_the_request(api: MockApi) -> None:
    seen = call(api, "/echo/x?a=1", "PUT", '{"b": 2}', {"X-Mark": "3"}).json

    assert (seen["method"], seen["path"], seen["query"], seen["json"]) == ("PUT", "/echo/x", {"a": "1"}, {"b": 2})
    assert seen["headers"]["x-mark"] == "3"


def test_redirects_lead_to_their_end(api: MockApi) -> None:
    first = call(api, "/redirect?times=2&to=/items/7")
    second = call(api, first.headers["location"])

    assert (first.status, second.status, second.headers["location"]) == (302, 302, "/items/7")


def test_a_token_opens_private_as_often_as_it_is_good_for(api: MockApi) -> None:
    form = "grant_type=client_credentials&client_id=me&client_secret=open+sesame"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    token = call(api, "/token?uses=1", "POST", form, headers).json["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}

    assert call(api, "/private", headers=bearer).json == {"client_id": "me", "requests": 1}
    assert call(api, "/private", headers=bearer).status == 401
    expired = call(api, "/token?expires_in=0", "POST", form, headers).json["access_token"]
    assert call(api, "/private", headers={"Authorization": f"Bearer {expired}"}).status == 401
    assert call(api, "/token", "POST", form.replace("sesame", "door"), headers).status == 401


def test_a_client_may_sign_in_by_basic_authentication_or_in_the_query(api: MockApi) -> None:
    # RFC 6749 encodes both parts before they are joined
    basic = "Basic " + base64.b64encode(b"a%3Ab:open%20sesame").decode()
    query = "grant_type=client_credentials&client_id=q&client_secret=open+sesame"
    by_basic = call(api, "/token", "POST", "grant_type=client_credentials", {"Authorization": basic}).json
    by_query = call(api, f"/token?{query}").json

    clients = [
        call(api, "/private", headers={"Authorization": f"Bearer {one['access_token']}"}).json["client_id"]
        for one in (by_basic, by_query)
    ]
    assert clients == ["a:b", "q"]
    assert call(api, "/count?key=token%20of%20q").json == {"requests": 1}


def test_a_script_is_a_text(api: MockApi) -> None:
    api.scripts["a.py"] = "result = 1\n"

    assert call(api, "/scripts/a.py").content == b"result = 1\n"
    assert call(api, "/scripts/b.py").status == 404


def test_claims_count_each_row(api: MockApi) -> None:
    for row in ("1", "2", "1"):
        last = call(api, f"/claims/jobs/{row}", "POST").json

    assert last == {"row": "1", "times": 2}
    assert call(api, "/claims/jobs").json == {"rows": 2, "requests": 3, "repeated": ["1"]}
