"""Leases without a row of their own, met by two transactions at once: who waits goes by what stands there then, and
executions are locked in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.integration.concurrency.harness import Harness, Plane, done
from tests.integration.concurrency.sessions import LOCK_NOT_AVAILABLE, Sessions
from tests.integration.concurrency.test_deadlocks import held, reported

from noetl_serverless.protocol import ClaimedCommand
from noetl_serverless.store.connection import Connection, sqlstate

LINE = """
workflow:
  - {step: x, tool: {kind: noop}, next: {arcs: [{step: y}]}}
  - {step: y, tool: {kind: noop}, next: {arcs: [{step: z}]}}
  - {step: z, tool: {kind: noop}}
"""
ROW = "SELECT 1 FROM noetl.execution WHERE execution_id = :id FOR UPDATE"
DIRECT = "SELECT count(*) FROM noetl.execution WHERE direct_worker IS NOT NULL"
RUN_OUT = "UPDATE noetl.execution SET direct_lease = '-1 s' WHERE direct_worker IS NOT NULL RETURNING 1"
# what another may do meanwhile, and whether the worker still holds the command then
CHANGES = {
    "it is prolonged": (["UPDATE noetl.execution SET direct_lease = '1 min' WHERE execution_id = :id"], True),
    "it gets a row": (["SELECT noetl.materialise(ARRAY[CAST(:id AS bigint)])"], True),
    "it runs out": (
        [
            "SELECT noetl.materialise(ARRAY[CAST(:id AS bigint)])",
            "UPDATE noetl.command SET status = 'pending', worker = NULL WHERE execution_id = :id",
        ],
        False,
    ),
}
Call = Callable[[Plane, list[ClaimedCommand]], Coroutine[Any, Any, int]]


async def extend(plane: Plane, commands: list[ClaimedCommand]) -> int:
    return len(await plane.log.extend_leases("w", held(*commands), 30.0))


async def release(plane: Plane, commands: list[ClaimedCommand]) -> int:
    return len(await plane.log.release_leases("w", held(*commands)))


async def append(plane: Plane, commands: list[ClaimedCommand]) -> int:
    return len(await plane.log.append_to_inbox([reported(command) for command in commands]))


async def recover(plane: Plane, commands: list[ClaimedCommand]) -> int:
    return len(await plane.log.recover_leases("w", 30.0, []))


async def report(plane: Plane, commands: list[ClaimedCommand]) -> int:
    answer = await plane.report(*(done(command) for command in commands))
    return sum(result.status == "accepted" for result in answer.results)


CALLS: list[Call] = [extend, release, append, recover, report]


async def handed_over(harness: Harness, sessions: Sessions, count: int) -> list[ClaimedCommand]:
    """`y` of as many executions, leased directly; by the ids of the executions, the last first."""
    await harness.add("t/line", LINE)
    for _ in range(count):
        await harness.start("t/line")
    plane = harness.planes[0]
    first = await plane.claim()
    commands = (await plane.report(*(done(command) for command in first), capacity=count)).commands
    assert sessions.ask(DIRECT) == [[count]]
    return sorted(commands, key=lambda command: -int(command.execution_id))


def locks(session: Connection, execution_id: str) -> bool:
    """Take an execution's row, unless somebody else holds it."""
    try:
        session.run(f"{ROW} NOWAIT", id=int(execution_id))
    except Exception as error:
        if sqlstate(error) != LOCK_NOT_AVAILABLE:
            raise
        session.run("ROLLBACK")
        session.run("BEGIN")
        return False
    return True


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("change", CHANGES)
async def test_who_waits_for_a_direct_lease_goes_by_what_stands_there_then(
    direct: Harness, sessions: Sessions, change: str, call: Call
) -> None:
    (command,) = await handed_over(direct, sessions, 1)
    statements, still_held = CHANGES[change]
    other = sessions.begin()
    for statement in statements:
        other.run(statement, id=int(command.execution_id))

    waiting = await sessions.until_waiting(call(direct.planes[1], [command]))

    assert not waiting.done(), "the schedule means nothing if it did not wait"
    other.run("COMMIT")
    assert await waiting == still_held
    await direct.planes[1].orchestrator.process_inbox(command.execution_id)
    assert direct.findings() == []


@pytest.mark.parametrize("call", CALLS)
async def test_who_waits_for_an_execution_holds_none_behind_it(direct: Harness, sessions: Sessions, call: Call) -> None:
    second, first = await handed_over(direct, sessions, 2)
    we = sessions.begin()
    assert locks(we, first.execution_id)

    waiting = await sessions.until_waiting(call(direct.planes[1], [second, first]))

    assert not waiting.done(), "the schedule means nothing if it did not come to the first row"
    assert locks(we, second.execution_id), "it holds the second execution while it waits for the first"
    we.run("ROLLBACK")
    assert await waiting == 2


async def test_expiry_waits_for_no_execution(direct: Harness, sessions: Sessions) -> None:
    second, first = await handed_over(direct, sessions, 2)
    sessions.ask(RUN_OUT)
    we = sessions.begin()
    assert locks(we, first.execution_id)

    expiring = await sessions.until_waiting(direct.planes[1].log.expire_leases(5, 10))

    done_already = expiring.done()
    we.run("ROLLBACK")
    assert [key.execution_id for _, key in await expiring] == [second.execution_id]
    assert done_already, "it waited for an execution"


async def test_a_lease_that_ran_out_is_reported_by_one_of_both(direct: Harness, sessions: Sessions) -> None:
    """The holder reports, at last, while the lease is taken from it."""
    (command,) = await handed_over(direct, sessions, 1)
    sessions.ask(RUN_OUT)
    we = sessions.begin()
    assert locks(we, command.execution_id)
    reporting = await sessions.until_waiting(direct.planes[1].report(done(command), capacity=1))
    assert await direct.planes[2].log.expire_leases(5, 10) == [], "whoever reports is first"
    we.run("ROLLBACK")
    answer = await reporting
    assert [result.status for result in answer.results] == ["accepted"]
    assert [next_one.step for next_one in answer.commands] == ["z"]
    assert direct.findings() == []


async def test_a_commit_of_something_else_leaves_the_command_to_its_holder(direct: Harness, sessions: Sessions) -> None:
    """The end of a child that it does not know."""
    (command,) = await handed_over(direct, sessions, 1)
    id = int(command.execution_id)
    sessions.ask(
        """INSERT INTO noetl.inbox (execution_id, type, step, generation, at, payload)
        VALUES (:id, 'child.ended', 'x', 1, now(), '{"execution_id": "77", "resumes": null, "status": "ok"}')
        RETURNING 1""",
        id=id,
    )
    assert await direct.planes[2].orchestrator.process_inbox(command.execution_id)
    assert sessions.ask(DIRECT) == [[0]], "the lease is of a log that has gone on"
    rows = sessions.ask("SELECT command_id, fence, worker FROM noetl.command WHERE execution_id = :id", id=id)
    assert rows == [[command.command_id, command.fence, "w"]]
    assert await direct.planes[0].tell(command) == "accepted"
    assert [finding for finding in direct.findings() if "child.ended without child.started" not in finding] == []
