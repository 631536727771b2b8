"""Whoever wants to end an execution comes through, however busy it is."""

from __future__ import annotations

import asyncio

from tests.integration.concurrency.harness import Harness, done

from noetl_serverless.engine import events as e
from noetl_serverless.orchestrator.commits import MAX_COMMIT_ATTEMPTS

# a back-edge that nothing stops
HOT = """
workflow:
  - step: turn
    tool: {kind: noop}
    next: {arcs: [{step: turn}]}
"""
# a cancel that has lost this many races and still goes on would lose for ever
MAX_TURNS = 100 * MAX_COMMIT_ATTEMPTS


async def test_a_loop_that_commits_faster_than_anybody_is_cancelled(direct: Harness) -> None:
    await direct.add("t/hot", HOT)
    id = await direct.start("t/hot")
    looping, cancelling, _ = direct.planes
    turned = asyncio.Event()
    turns = 0

    async def loop() -> None:
        nonlocal turns
        commands = await looping.claim()
        while commands and turns < MAX_TURNS:
            commands = (await looping.report(done(commands[0]), capacity=1)).commands
            turns += 1
            turned.set()

    async def overtaken() -> None:
        # if the row is held against the loop it does not turn, and that is as well
        turned.clear()
        waiting = asyncio.ensure_future(turned.wait())
        await asyncio.wait({waiting, going}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    cancelling.log.first = [overtaken] * MAX_TURNS
    going = asyncio.ensure_future(loop())
    try:
        status, cancelled = await cancelling.orchestrator.controls.cancel(id, "enough")
        await going
    finally:
        going.cancel()
    # what a cancel leaves to others to carry out, they do
    await looping.orchestrator.process_inbox(id)

    assert (status, cancelled) == ("cancelled", [id])
    assert len(await direct.events(id, e.CANCELLED)) == 1
    assert turns < MAX_TURNS, "it ended when the loop did"
    assert direct.findings() == []


async def test_two_who_cancel_at_once_end_it_once(direct: Harness) -> None:
    await direct.add("t/hot", HOT)
    id = await direct.start("t/hot")
    answers = await asyncio.gather(*(plane.orchestrator.controls.cancel(id, "enough") for plane in direct.planes))
    assert [status for status, _ in answers].count("cancelled") >= 1
    assert len(await direct.events(id, e.CANCELLED)) == 1
    assert direct.findings() == []


async def test_what_is_reported_while_an_execution_is_cancelled_is_not_taken_in_after_its_end(direct: Harness) -> None:
    await direct.add("t/hot", HOT)
    id = await direct.start("t/hot")
    reporting, cancelling, _ = direct.planes
    (command,) = await reporting.claim()

    async def cancel() -> None:
        assert (await cancelling.orchestrator.controls.cancel(id, "enough"))[0] == "cancelled"

    reporting.log.first = [cancel]
    answer = await reporting.report(done(command), capacity=1)

    assert [result.status for result in answer.results] == ["stale"]
    assert answer.commands == []
    assert (await direct.events(id))[-1].type == e.CANCELLED
    assert direct.findings() == []
