from __future__ import annotations

from typing import Any

import pytest
from tests.unit.worker import builders as make
from tests.unit.worker.conftest import Bench

from noetl_serverless.errors import Unavailable
from noetl_serverless.limits import PAYLOAD_BYTES
from noetl_serverless.protocol import ChildRequest
from noetl_serverless.results import retry
from noetl_serverless.tools.port import ToolOutcome

ERROR = "{{ output.status == 'error' }}"
LARGE = "x" * 9000


def stumbling(monkeypatch: pytest.MonkeyPatch, bench: Bench, times: int, error: Exception | None = None) -> None:
    put = bench.store.put

    async def stumbles(key: str, data: bytes) -> Any:
        nonlocal times
        if times:
            times -= 1
            raise error or OSError("the store does not answer")
        return await put(key, data)

    monkeypatch.setattr(bench.store, "put", stumbles)


async def test_a_pipeline_is_suspended_although_the_store_stumbles(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stumbling(monkeypatch, bench, 2)
    bench.tool("a", make.ok(LARGE))
    bench.tool("b", make.failed())
    work = make.step(make.task("a"), make.task("b", make.rule("retry", ERROR, backoff="fixed", delay=600)))
    outcome = await bench.run(work)
    assert (outcome.status, outcome.delay) == ("deferred", 600)
    assert "ref" in outcome.resume["locals"]


async def test_a_frame_is_suspended_although_the_store_stumbles(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    stumbling(monkeypatch, bench, 2)
    bench.tool("a", lambda call, context: make.failed() if call.config["x"] else make.ok(LARGE))
    task = make.task("a", make.rule("retry", ERROR, backoff="fixed", delay=600), config={"x": "{{ iter.item }}"})
    outcome = await bench.frame(make.step(task, loop=make.loop()), [0, 1])
    assert outcome.status == "deferred"
    assert "ref" in outcome.resume["items"]


@pytest.mark.parametrize("error", [OSError("the disk is full"), Unavailable("the bucket does not answer")])
async def test_a_result_waits_for_a_store_that_is_away(
    bench: Bench, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    stumbling(monkeypatch, bench, 4, error)
    tool = bench.tool("a", make.ok("x" * 70_000))
    outcome = await bench.run(make.step(make.task("a")))
    assert (outcome.status, outcome.error, len(tool.calls)) == ("done", None, 1)
    assert outcome.ref is not None


async def test_of_a_sub_playbook_it_is_the_payload_that_could_not_be_stored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "MAX_WAIT_SECONDS", 0.2)
    stumbling(monkeypatch, bench, 100)
    bench.tool("sub", ToolOutcome("ok", child=ChildRequest(path="demo/child", payload={"text": "x" * PAYLOAD_BYTES})))
    outcome = await bench.run(make.step(make.task("sub")))
    assert (outcome.status, outcome.child) == ("error", None)
    assert outcome.error["message"].startswith("the payload of the sub-playbook could not be stored: ")


async def test_a_store_that_stays_away_fails_the_step_and_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "MAX_WAIT_SECONDS", 0.2)
    stumbling(monkeypatch, bench, 100)
    bench.tool("a", make.ok(LARGE))
    bench.tool("b", make.failed())
    work = make.step(make.task("a"), make.task("b", make.rule("retry", ERROR, backoff="fixed", delay=600)))
    outcome = await bench.run(work)
    assert (outcome.status, outcome.error["code"], outcome.error["retryable"]) == (
        "error",
        "result_store.unavailable",
        True,
    )


async def test_what_was_just_stored_is_at_hand_for_the_step_that_reads_it_next(bench: Bench) -> None:
    bench.tool("a", make.ok("x" * 200_000))
    outcome = await bench.run(make.step(make.task("a")))
    assert await bench.resolver.load(outcome.ref) == "x" * 200_000
    assert (bench.resolver.hits, bench.resolver.misses) == (1, 0)
