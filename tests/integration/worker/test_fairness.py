"""A worker whose slots are all taken by a loop without end still runs what others wait for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.integration.worker.stack import Stack

from noetl_serverless.tools import registry

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
MOST_REPORTS = 60


async def first_report(stack: Stack) -> None:
    reported = asyncio.Event()

    async def heard(_: object) -> None:
        reported.set()

    stack.client.meanwhile = heard
    await reported.wait()


async def running(stack: Stack, id: str) -> bool:
    return not (await stack.ledger.state(id)).ended


@pytest.mark.parametrize(
    "endless",
    [ENDLESS.replace("DURABILITY", "step"), ENDLESS.replace("DURABILITY", "pipelined"), LONG_LOOP],
    ids=["cycle", "pipelined cycle", "loop"],
)
async def test_a_short_run_ends_beside_others_that_do_not(tmp_path: Path, endless: str) -> None:
    stack = Stack(tmp_path)
    # a report takes as long as a step, so that the turn of others is a few steps away
    stack.client.delay = 0.01
    worker = stack.another(stack.client, max_in_flight=SLOTS)
    stack.catalog.add("t/endless", endless)
    stack.catalog.add("t/short", SHORT)
    long = [(await stack.ledger.start(path="t/endless")).execution_id for _ in range(SLOTS)]
    drain = asyncio.create_task(worker.drain(60.0))
    try:
        await first_report(stack)
        short = (await stack.ledger.start(path="t/short")).execution_id
        before = len(stack.client.reports)
        while await running(stack, short):
            reports = len(stack.client.reports) - before
            assert reports < MOST_REPORTS, "the others kept all slots to themselves"
            await asyncio.sleep(0.01)
        assert all([await running(stack, id) for id in long]), "nothing was tested: others have ended"
    finally:
        for id in long:
            await stack.ledger.cancel(id, "enough")
        worker.stop()
        await drain
        await worker.close()
        await stack.worker.close()
        await registry.close()
