"""Every statement that locks several commands does so in the order of their keys, whatever order it is asked in: then
no two of them wait for each other. Should two ever do so, the one that the database ends tries again.

The schedule: we hold the first of two rows. The statement is begun on both, and waits for us. Had it locked the second
before the first, then whoever goes on in order, as we would, now waited for it, and it for us.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.counted import counted
from tests.integration.concurrency.harness import Harness, Plane, done
from tests.integration.concurrency.sessions import ROW, Sessions

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.errors import Unavailable
from noetl_serverless.protocol import ClaimedCommand, Held
from noetl_serverless.records import ReportedFact
from noetl_serverless.store.connection import Connection
from noetl_serverless.store.database import Database
from noetl_serverless.telemetry import metrics

# in the heap the last key comes first
FORK = """
workflow:
  - {step: a, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: z}, {step: m}, {step: b}]}}
  - {step: z, tool: {kind: noop}}
  - {step: m, tool: {kind: noop}}
  - {step: b, tool: {kind: noop}}
"""
LOCK_IN_ORDER = """
    WITH held AS (SELECT 1 FROM noetl.command ORDER BY execution_id, command_id FOR UPDATE) SELECT count(*) FROM held"""
Statement = Callable[[Plane, ClaimedCommand, ClaimedCommand], Coroutine[Any, Any, Any]]


def held(*commands: ClaimedCommand) -> list[Held]:
    return [Held(execution_id=c.execution_id, command_id=c.command_id, fence=c.fence) for c in commands]


def reported(command: ClaimedCommand) -> ReportedFact:
    at = time.time_ns() // 1_000_000
    event = Event(
        e.CALL_DONE,
        at,
        step=command.step,
        generation=command.generation,
        command_id=command.command_id,
        payload={"data": 1},
    )
    return ReportedFact(execution_id=command.execution_id, event=event, fence=command.fence, worker="w", refs=[])


async def extend(plane: Plane, first: ClaimedCommand, second: ClaimedCommand) -> Any:
    return await plane.log.extend_leases("w", held(second, first), 30.0)


async def release(plane: Plane, first: ClaimedCommand, second: ClaimedCommand) -> Any:
    return await plane.log.release_leases("w", held(second, first))


async def append(plane: Plane, first: ClaimedCommand, second: ClaimedCommand) -> Any:
    return await plane.log.append_to_inbox([reported(second), reported(first)])


async def recover(plane: Plane, first: ClaimedCommand, second: ClaimedCommand) -> Any:
    return await plane.log.recover_leases("w", 30.0, [])


async def report(plane: Plane, first: ClaimedCommand, second: ClaimedCommand) -> Any:
    return await plane.report(done(second), done(first))


async def cancel(plane: Plane, first: ClaimedCommand, second: ClaimedCommand) -> Any:
    return await plane.orchestrator.controls.cancel(first.execution_id, "enough")


async def claimed(harness: Harness, sessions: Sessions) -> list[ClaimedCommand]:
    """Three claimed commands in the order of their keys; the last is the first whose lease ends."""
    await harness.add("t/fork", FORK)
    await harness.start("t/fork")
    plane = harness.planes[0]
    (begun,) = await plane.claim()
    await plane.tell(begun)
    commands = sorted(await plane.claim(), key=lambda command: command.command_id)
    sessions.ask(
        "UPDATE noetl.command SET lease_until = lease_until - interval '1 s' WHERE command_id = :id RETURNING 1",
        id=commands[-1].command_id,
    )
    return commands


@pytest.mark.parametrize("statement", [extend, release, append, recover, report, cancel])
async def test_a_statement_that_waits_for_a_command_holds_none_behind_it(
    direct: Harness, sessions: Sessions, statement: Statement
) -> None:
    first, _, second = await claimed(direct, sessions)
    we = sessions.begin()
    assert sessions.locks(we, first.execution_id, first.command_id)

    waiting = await sessions.until_waiting(statement(direct.planes[1], first, second))

    in_order = sessions.locks(we, second.execution_id, second.command_id)
    waited = not waiting.done()
    we.run("ROLLBACK")
    await waiting
    assert waited, "the schedule means nothing if it did not come to the first row"
    assert in_order, f"it holds {second.command_id} while it waits for {first.command_id}"


async def test_expiry_waits_for_nobody(direct: Harness, sessions: Sessions) -> None:
    first, other, second = await claimed(direct, sessions)
    sessions.ask("UPDATE noetl.command SET lease_until = now() - interval '1 s' RETURNING 1")
    we = sessions.begin()
    assert sessions.locks(we, first.execution_id, first.command_id)
    expiring = await sessions.until_waiting(direct.planes[1].log.expire_leases(5, 10))
    done_already = expiring.done()
    we.run("ROLLBACK")
    given_back = {key.command_id for _, key in await expiring}
    assert given_back == {other.command_id, second.command_id}
    assert done_already


async def test_two_commits_of_the_same_executions_lock_them_in_one_order(direct: Harness, sessions: Sessions) -> None:
    await direct.add("t/fork", FORK)
    ids = sorted([await direct.start("t/fork"), await direct.start("t/fork")], key=int)
    commands = sorted(await direct.planes[0].claim(), key=lambda command: int(command.execution_id), reverse=True)
    we = sessions.begin()
    row = "SELECT 1 FROM noetl.execution WHERE execution_id = :id FOR UPDATE"
    we.run(row, id=ids[0])

    waiting = await sessions.until_waiting(direct.planes[1].report(*(done(command) for command in commands)))

    assert not waiting.done()
    we.run(f"{row} NOWAIT", id=ids[1])
    we.run("ROLLBACK")
    answer = await waiting
    assert [result.status for result in answer.results] == ["accepted", "accepted"]


class Cycle:
    """A deadlock that must come: a statement holds the first of three commands and is about to ask for the last, which
    a stranger holds, who waits for the first. Whoever has waited for `deadlock_timeout` gives way: never the stranger.
    """

    def __init__(self, harness: Harness, sessions: Sessions, commands: list[ClaimedCommand]) -> None:
        self._sessions = sessions
        self._first, self._middle, self._last = commands
        self.database = Database(harness.url, 1)

    async def close_around(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What comes of the work."""
        stranger, gate = self._sessions.begin(), self._sessions.begin()
        stranger.run("SET LOCAL deadlock_timeout = '10min'")
        # of its one connection
        await self.database.run("SET deadlock_timeout = '20ms'")
        assert self._sessions.locks(stranger, self._last.execution_id, self._last.command_id)
        assert self._sessions.locks(gate, self._middle.execution_id, self._middle.command_id)
        working = await self._sessions.until_waiting(work)
        crossing = await self._sessions.until_waiting(asyncio.to_thread(_lock, stranger, self._first), waiters=2)
        assert not working.done() and not crossing.done()

        gate.run("ROLLBACK")

        await crossing
        stranger.run("COMMIT")
        try:
            return await working
        finally:
            await self.database.close()


def _lock(session: Connection, command: ClaimedCommand) -> None:
    session.run(ROW, id=command.execution_id, command=command.command_id)


async def test_a_statement_that_loses_a_deadlock_is_tried_again(direct: Harness, sessions: Sessions) -> None:
    commands = await claimed(direct, sessions)
    cycle = Cycle(direct, sessions, commands)
    before = counted(metrics.collisions)
    kept = await cycle.close_around(cycle.database.run(LOCK_IN_ORDER))
    assert kept == [[3]]
    assert counted(metrics.collisions) == before + 1


async def test_a_transaction_that_loses_a_deadlock_is_run_again_from_its_beginning(
    direct: Harness, sessions: Sessions
) -> None:
    commands = await claimed(direct, sessions)
    cycle = Cycle(direct, sessions, commands)
    tries: list[int] = []

    def work(connection: Connection) -> None:
        connection.run("INSERT INTO noetl.inbox (execution_id, type, at, payload) VALUES (1, 'once', now(), '{}')")
        tries.append(1)
        for command in commands:
            _lock(connection, command)

    await cycle.close_around(cycle.database.transaction(work))
    assert len(tries) == 2
    assert sessions.ask("SELECT count(*) FROM noetl.inbox WHERE type = 'once'") == [[1]]


@pytest.mark.parametrize("state", ["40P01", "40001"])
async def test_a_statement_that_always_loses_asks_its_caller_to_come_again(direct: Harness, state: str) -> None:
    with pytest.raises(Unavailable):
        await direct.planes[0].database.run(f"DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '{state}'; END $$")
