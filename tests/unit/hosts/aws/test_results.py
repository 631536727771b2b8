"""S3 under the contract of every result store, and what is its own."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from tests.serving import serving
from tests.unit.results.contract import ResultStoreContract

from noetl_serverless.errors import AccessDenied, Unavailable
from noetl_serverless.hosts.aws.account import Account
from noetl_serverless.hosts.aws.api import Api, AwsError
from noetl_serverless.hosts.aws.results import S3ResultStore

from .conftest import ENVIRON


@pytest.fixture
def store(api: Api, client: Callable[[str], Any]) -> S3ResultStore:
    client("s3").create_bucket(Bucket="results", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return S3ResultStore(api, "s3://results/some/prefix")


class TestContract(ResultStoreContract):
    """S3."""


async def test_a_key_is_written_once(store: S3ResultStore) -> None:
    await store.put("1/a/k.json", b"first")
    stored = await store.put("1/a/k.json", b"again")
    assert stored.bytes == 5
    assert await store.get("1/a/k.json") == b"first"


class Busy(BaseHTTPRequestHandler):
    """S3 while another writes the same key."""

    head = 200

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"<Error><Code>ConditionalRequestConflict</Code><Message>at this moment</Message></Error>"
        self.send_response(409)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_response(self.head)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        return None


class Undecided(Busy):
    """The other has not finished."""

    head = 404


async def test_a_key_that_another_has_just_written_is_as_good_as_written() -> None:
    with serving(Busy) as url:
        stored = await S3ResultStore(at(url), "s3://results").put("k", b"x")
    assert (stored.store, stored.key, stored.bytes) == ("s3", "k", 1)


async def test_a_key_that_another_is_still_writing_is_tried_again_later() -> None:
    with serving(Undecided) as url, pytest.raises(Unavailable, match="was faster"):
        await S3ResultStore(at(url), "s3://results").put("k", b"x")


def at(url: str) -> Api:
    return Api(Account.of({**ENVIRON, "AWS_ENDPOINT_URL": url}))


async def test_everything_lies_below_the_prefix(store: S3ResultStore, client: Callable[[str], Any]) -> None:
    await store.put("1/a b%2E/é.json", b"x")
    found = client("s3").list_objects_v2(Bucket="results")["Contents"]
    assert [one["Key"] for one in found] == ["some/prefix/1/a b%2E/é.json"]


async def test_a_long_listing_comes_page_by_page(
    api: Api, store: S3ResultStore, client: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    boto = client("s3")
    for n in range(5):
        boto.put_object(Bucket="results", Key=f"some/prefix/1/{n}.json", Body=b"")
    request, pages = api.request, 0

    async def two_at_a_time(*args: Any, query: Any, **more: Any) -> Any:
        nonlocal pages
        if ("list-type", "2") in query:
            pages += 1
            query = [*query, ("max-keys", "2")]
        return await request(*args, query=query, **more)

    monkeypatch.setattr(api, "request", two_at_a_time)
    assert [key async for key in store.list("1/")] == [f"1/{n}.json" for n in range(5)]
    assert pages == 3


async def test_a_bucket_that_is_not_there_is_no_missing_key(api: Api) -> None:
    store = S3ResultStore(api, "s3://nobodys")
    for call in (store.put("k", b"x"), store.get("k"), store.delete("k")):
        with pytest.raises(AccessDenied, match="NoSuchBucket"):
            await call


@pytest.mark.parametrize("url", ["file:///tmp", "s3://", "results"])
def test_the_url_names_a_bucket(api: Api, url: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix"):
        S3ResultStore(api, url)


def test_on_aws_itself_the_bucket_is_in_the_name_of_the_host() -> None:
    store = S3ResultStore(Api(Account.of(ENVIRON)), "s3://results/p")
    assert store._endpoint == "https://results.s3.eu-west-1.amazonaws.com"
    assert store._path("k") == "/p/k"


async def test_a_key_without_a_name_in_its_middle_is_refused(store: S3ResultStore) -> None:
    with pytest.raises(ValueError, match="storage key"):
        await store.get("a//b")


@pytest.mark.parametrize(
    ("status", "code"), [(403, "SignatureDoesNotMatch"), (403, "InvalidAccessKeyId"), (400, "ExpiredToken")]
)
async def test_a_request_that_is_refused_for_its_keys_says_nothing_of_the_object(
    api: Api, store: S3ResultStore, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    async def refuse(*args: Any, **more: Any) -> Any:
        raise AwsError("s3", status, code, "")

    monkeypatch.setattr(api, "request", refuse)
    for call in (store.get("k"), store.get_range("k", 0, 1), store.put("k", b"x"), store.delete("k")):
        with pytest.raises(AccessDenied, match=code):
            await call
