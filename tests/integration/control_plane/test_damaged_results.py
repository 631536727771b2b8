"""Results whose stored objects are not what was written, or are not there any more: of each it is said, and nothing
else is given in their place."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from tests.integration.control_plane.conftest import Client, FakeWorker
from tests.integration.control_plane.test_put_results import objects, put_content

from noetl_serverless.results.content import PIECE_BYTES
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.store.database import Database

SMALL = b'[{"a":1},{"a":2}]'
LARGE = b"x" * (3 * PIECE_BYTES)

Damage = Callable[[bytes], bytes]
# one byte in the middle is another
Changed: Damage = lambda content: content[:7] + bytes([content[7] ^ 1]) + content[8:]  # noqa: E731


async def stored(user: Client, id: str, content: bytes, results_url: str, damage: Damage, **query: str) -> str:
    """The URI of what is damaged."""
    done = await put_content(
        user, id, "it", [content], "application/json" if content is SMALL else "text/plain", **query
    )
    (file,) = objects(results_url)
    file.write_bytes(damage(file.read_bytes()))
    return str(done.json["ref"])


@pytest.mark.parametrize("damage", [lambda content: b"X\n", lambda content: content + b"X", Changed])
@pytest.mark.parametrize("accept", ["*/*", "text/csv"])
async def test_a_small_one_is_known_to_be_damaged_before_the_answer_begins(
    user: Client, started: str, results_url: str, damage: Damage, accept: str
) -> None:
    ref = await stored(user, started, SMALL, results_url, damage)
    answer = await user.call("GET", "/api/result/resolve", query={"ref": ref}, headers={"accept": accept})
    assert (answer.status, answer.json["code"]) == (404, "REFERENCE_NOT_AVAILABLE"), answer.body
    assert answer.json["reason"] == "changed" and "is damaged" in answer.json["detail"]


@pytest.mark.parametrize("headers", [{}, {"range": "bytes=0-9"}])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_size_of_a_large_one_is_checked_before_the_answer_begins(
    user: Client, started: str, results_url: str, method: str, headers: dict[str, str]
) -> None:
    ref = await stored(user, started, LARGE, results_url, lambda content: content[:-1])
    answer = await user.call(method, "/api/result/resolve", query={"ref": ref}, headers=headers)
    assert answer.status == 404, "bytes of something else are given"


async def test_what_is_no_gzip_any_more_is_damaged(user: Client, started: str, results_url: str) -> None:
    ref = await stored(user, started, LARGE, results_url, lambda content: b"X\n", compress="gzip")
    answer = await user.get("/api/result/resolve", ref=ref)
    assert (answer.status, answer.json["reason"]) == (404, "changed"), answer.body


async def test_a_large_one_of_the_right_size_is_broken_off(
    user: Client, started: str, results_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    ref = await stored(user, started, LARGE, results_url, Changed)
    with caplog.at_level(logging.ERROR):
        answer = await user.get("/api/result/resolve", ref=ref)
    assert answer.status == 200 and len(answer.body) < len(LARGE), "the end is given, so that it seems to be whole"
    (line,) = [record for record in caplog.records if "broke off" in record.message]
    assert f"{started}/it/" in line.message and "SHA-256" in line.message, "the key and the reason are not said"
    assert line.exc_info is None, "what is no fault of the program is logged with its stack"


async def test_an_expired_result_of_a_step_is_expired(
    user: Client, hands: FakeWorker, started: str, results_url: str, database: Database
) -> None:
    stores = ResultStores(FsspecResultStore(results_url))
    (command,) = await hands.claim()
    place = Place(execution_id=started, step="first", suffix="x")
    ref = (await externalise([1] * 50_000, place, stores, Output(ttl=60)))["ref"]
    await hands.report(command, ref=ref)
    assert (await user.get(f"/api/result/{started}/first", resolve="true")).status == 200
    await database.run(
        "UPDATE noetl.result_ref SET expires_at = now() - interval '1 second' WHERE key = :key", key=ref["key"]
    )
    for path, query in ((f"/api/result/{started}/first", {}), ("/api/result/resolve", {"ref": ref["ref"]})):
        answer = await user.get(path, **query)
        assert (answer.status, answer.json["reason"]) == (404, "expired"), f"{path}: {answer.body!r}"
