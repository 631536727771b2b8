"""Several workers ask for work at once: nobody waits for another, and nothing is given twice."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from tests.integration.concurrency.harness import Harness
from tests.integration.concurrency.sessions import Sessions

from noetl_serverless.protocol import CommandKey
from noetl_serverless.records import Claimant, Lease

WIDE = """
workflow:
  - step: each
    loop: {in: "{{ range(60) | list }}", iterator: x, spec: {mode: parallel, max_in_flight: 60}}
    tool: {kind: noop}
"""
SOME = """
workload: {n: 1}
workflow:
  - step: each
    loop: {in: "{{ range(workload.n) | list }}", iterator: x, spec: {mode: parallel, max_in_flight: 60}}
    tool: {kind: noop}
"""
CLAIM = "SELECT command_id FROM noetl.claim('elsewhere', 'shared', 30, :most, NULL)"


async def wide(harness: Harness) -> list[CommandKey]:
    """What an execution with many commands has issued."""
    await harness.add("t/wide", WIDE)
    id = await harness.start("t/wide")
    return [
        CommandKey(execution_id=id, command_id=event.command_id)
        for event in await harness.events(id, "command.issued")
        if event.command_id is not None
    ]


def claimant(number: int, room: int = 7) -> Claimant:
    return Claimant(f"w-{number}", "shared", 30.0, room)


@pytest.mark.parametrize("named", [True, False])
async def test_workers_that_claim_at_once_get_every_command_and_none_twice(harness: Harness, named: bool) -> None:
    keys = await wide(harness)
    given: list[Lease] = []

    async def work(number: int) -> None:
        plane = harness.planes[number % 3]
        # each worker was pointed to the same commands, in another order
        mine = keys[number:] + keys[:number] if number % 2 else keys[::-1]
        while leases := await plane.log.claim(claimant(number), mine if named else None):
            given.extend(leases)

    await asyncio.gather(*(work(number) for number in range(9)))
    # whoever found the last ones locked went away with nothing
    given += await harness.planes[0].log.claim(claimant(9, 100), None)

    assert Counter(lease.command_id for lease in given) == Counter(key.command_id for key in keys)
    assert len({lease.fence for lease in given}) == len(given), "two leases have one fence"


@pytest.mark.parametrize("named", [True, False])
async def test_a_claim_passes_by_what_another_is_claiming(direct: Harness, sessions: Sessions, named: bool) -> None:
    keys = await wide(direct)
    elsewhere = sessions.begin()
    taken = {command for (command,) in elsewhere.run(CLAIM, most=10)}
    assert len(taken) == 10

    asking = await sessions.until_waiting(direct.planes[0].log.claim(claimant(1, 100), keys if named else None))

    waited = not asking.done()
    elsewhere.run("COMMIT")
    leases = {lease.command_id for lease in await asking}
    assert not waited, "it waited for the rows of another worker's claim"
    assert leases == {key.command_id for key in keys} - taken


async def test_a_claim_finds_what_another_leaves_of_one_execution(direct: Harness, sessions: Sessions) -> None:
    keys = await wide(direct)
    elsewhere = sessions.begin()
    taken = {command for (command,) in elsewhere.run(CLAIM, most=10)}

    leases = await direct.planes[0].log.claim(claimant(1, 10), None)

    elsewhere.run("COMMIT")
    assert len(taken) == len(leases) == 10
    assert not taken & {lease.command_id for lease in leases}
    rest = await direct.planes[0].log.claim(claimant(2, 100), None)
    assert len(rest) == len(keys) - 20, "more was locked than was taken"


@pytest.mark.parametrize("executions", [1, 3, 60])
async def test_workers_that_claim_at_once_all_get_what_they_ask_for(harness: Harness, executions: int) -> None:
    await harness.add("t/some", SOME)
    width = 60 // executions
    for _ in range(executions):
        await harness.start("t/some", n=width)
    for round in range(2):
        claims = [harness.planes[number % 3].log.claim(claimant(9 * round + number, 3), None) for number in range(9)]
        assert [len(leases) for leases in await asyncio.gather(*claims)] == [3] * 9, "there was enough for all"


async def test_a_command_that_is_reported_while_its_lease_is_expired_goes_one_way(
    direct: Harness, sessions: Sessions
) -> None:
    await wide(direct)
    (lease,) = await direct.planes[0].log.claim(claimant(1, 1), None)
    sessions.ask("UPDATE noetl.command SET lease_until = now() - interval '1 s' WHERE status = 'claimed' RETURNING 1")
    elsewhere = sessions.begin()
    assert sessions.locks(elsewhere, lease.execution_id, lease.command_id)

    expiring = await sessions.until_waiting(direct.planes[0].log.expire_leases(5, 10))

    waited = not expiring.done()
    elsewhere.run("DELETE FROM noetl.command WHERE command_id = :command", command=lease.command_id)
    elsewhere.run("COMMIT")
    assert await expiring == [], "it gave back what was being reported"
    assert not waited, "it waited for the rows of a report"
