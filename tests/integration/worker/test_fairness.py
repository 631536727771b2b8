"""A worker whose slots are all taken by a loop without end still runs what others wait for."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.integration.worker.stack import Stack

from noetl_serverless.errors import InvalidRequest
from noetl_serverless.ports import Invoker
from noetl_serverless.protocol import CommandKey, ReportRequest
from noetl_serverless.tools import registry
from noetl_serverless.worker.drain import slots
from noetl_serverless.worker.worker import Worker

ENDLESS = """
executor: {spec: {max_turns: 100000, durability: DURABILITY}}
workflow:
  - {step: turn, tool: {kind: noop}, next: {arcs: [{step: turn}]}}
"""
LONG_LOOP = """
workflow:
  - step: each
    loop: {in: "{{ range(100000) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 8}}
    tool: {kind: noop}
"""
SHORT = """
workflow:
  - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
  - {step: b, tool: {kind: noop}}
"""
SLOTS = 2
# while the short run waits for its turns and makes its two steps
MAX_REPORTS = 60
WEIGHED = ENDLESS.replace("max_turns: 100000, durability: DURABILITY", "max_turns: 100000, weight: WEIGHT")


async def first_report(stack: Stack) -> None:
    reported = asyncio.Event()

    async def on_report(_: object) -> None:
        reported.set()

    stack.client.meanwhile = on_report
    await reported.wait()


async def running(stack: Stack, id: str) -> bool:
    return not (await stack.orchestrator.state(id)).ended


@pytest.mark.parametrize(
    ("endless", "slots"),
    [
        (ENDLESS.replace("DURABILITY", "step"), SLOTS),
        (ENDLESS.replace("DURABILITY", "step"), 4 * SLOTS),
        (ENDLESS.replace("DURABILITY", "pipelined"), SLOTS),
        (ENDLESS.replace("DURABILITY", "pipelined"), 4 * SLOTS),
        (LONG_LOOP, SLOTS),
    ],
    ids=["cycle", "cycle that leaves slots", "pipelined cycle", "pipelined cycle that leaves slots", "loop"],
)
async def test_a_short_run_ends_beside_others_that_do_not(tmp_path: Path, endless: str, slots: int) -> None:
    stack = Stack(tmp_path)
    # a report takes as long as a step, so that the turn of others is a few steps away
    stack.client.delay = 0.01
    worker = stack.another(stack.client, max_in_flight=slots)
    stack.catalog.add("t/endless", endless)
    stack.catalog.add("t/short", SHORT)
    long = [(await stack.orchestrator.start(path="t/endless")).execution_id for _ in range(SLOTS)]
    drain = asyncio.create_task(worker.drain(60.0))
    try:
        await first_report(stack)
        short = (await stack.orchestrator.start(path="t/short")).execution_id
        before = len(stack.client.reports)
        while await running(stack, short):
            reports = len(stack.client.reports) - before
            assert reports < MAX_REPORTS, "the others kept all slots to themselves"
            await asyncio.sleep(0.01)
        assert all([await running(stack, id) for id in long]), "nothing was tested: others have ended"
    finally:
        for id in long:
            await stack.orchestrator.controls.cancel(id, "enough")
        worker.stop()
        await drain
        await worker.close()
        await stack.worker.close()
        await registry.close()


@pytest.mark.parametrize("durability", ["step", "pipelined"])
async def test_a_control_plane_that_knows_of_no_turns_is_reported_to_without(tmp_path: Path, durability: str) -> None:
    async def of_the_release_before(request: ReportRequest) -> None:
        if request.turn:
            raise InvalidRequest("turn: Extra inputs are not permitted")

    stack = Stack(tmp_path)
    stack.client.meanwhile = of_the_release_before
    worker = stack.another(stack.client, max_in_flight=SLOTS)
    stack.catalog.add("t/endless", ENDLESS.replace("100000", "300").replace("DURABILITY", durability))
    ids = [(await stack.orchestrator.start(path="t/endless")).execution_id for _ in range(SLOTS)]
    try:
        await worker.drain(60.0)
        assert any(report.turn for report in stack.client.reports), "nothing was tested: no turn was given"
        for id in ids:
            error = (await stack.orchestrator.state(id)).error
            assert error is not None
            assert error["code"] == "turns.exceeded", "a step failed for a turn"
    finally:
        await worker.close()
        await stack.worker.close()
        await registry.close()


class DirectInvoker(Invoker):
    """Invokes the worker, with the names of what waits."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    async def invoke(self, function: str, payload: dict[str, Any] | None = None, delay: float = 0.0) -> None:
        named = [CommandKey.model_validate(key) for key in (payload or {}).get("commands", ())]
        await self.worker.drain(60.0, commands=named)


async def test_turns_go_by_weight_whoever_an_invocation_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # each step of a chain is followed by a turn
    monkeypatch.setattr(slots, "FAIR_CLAIM_SECONDS", 0.0)
    stack = Stack(tmp_path)
    worker = stack.another(stack.client, max_in_flight=1)
    ids = []
    for weight in (10, 30):
        stack.catalog.add(f"t/weighs-{weight}", WEIGHED.replace("WEIGHT", str(weight)))
        ids.append((await stack.orchestrator.start(path=f"t/weighs-{weight}")).execution_id)
    stack.orchestrator._notifications._invoker = DirectInvoker(worker)
    draining = asyncio.create_task(worker.drain(60.0))
    try:
        while len(stack.client.reports) < 400:
            assert not draining.done(), "it went while there was work"
            await asyncio.sleep(0.01)
    finally:
        worker.stop()
        await draining
        await worker.close()
        await stack.worker.close()
        await registry.close()
    done = Counter(outcome.execution_id for report in stack.client.reports[:400] for outcome in report.outcomes)
    assert done[ids[1]] == pytest.approx(3 * done[ids[0]], rel=0.1), "turns did not go by weight"
