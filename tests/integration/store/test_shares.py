"""What weights make of claims, by count on PostgreSQL, and that the log in memory makes the same of them."""

from __future__ import annotations

import time
from collections import Counter
from random import Random

import pytest
from tests.integration.store.test_fair_claims import fill

from noetl_serverless.orchestrator.start import new_root
from noetl_serverless.orchestrator.transition import Transition
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.records import Claimant, ExecutionCommit
from noetl_serverless.store.connection import Connection
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.shares import CIRCLE, Waiting, shares
from noetl_serverless.testing.catalog import MemoryCatalogEntry
from noetl_serverless.testing.event_store import MemoryEventStore

SHARES = """
    SELECT noetl.shares(
        CAST(:books AS integer[]), CAST(:weights AS smallint[]), CAST(:idle AS boolean[]), :room, :draw)"""
# take some, and what is taken has ended at once
TAKE = """
    DELETE FROM noetl.command c USING unnest(noetl.fair('shared', :most)) f(place)
    WHERE c.ctid = f.place RETURNING c.execution_id"""
NEXT = """
    INSERT INTO noetl.command (
        execution_id, command_id, step, generation, kind, attempt, pool, playbook, weight, status, seq, issued_at)
    SELECT x.id, 'n' || CAST(:n AS integer), 's', 1, 'step', 1, 'shared', x.id, x.id, 'pending', CAST(:n AS integer),
        clock_timestamp()
    FROM unnest(CAST(:ids AS bigint[])) x(id)"""
PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: t, path: t/t}}
executor: {{spec: {{weight: {weight}}}}}
workflow:
  - step: each
    loop: {{in: "{{{{ range({items}) | list }}}}", iterator: x, spec: {{mode: parallel, max_in_flight: {items}}}}}
    tool: {{kind: noop}}
"""


def wide(connection: Connection, weights: list[int], each: int) -> None:
    """Executions with many commands, of a playbook each, whose ids are their weights."""
    fill(connection, weights, each)
    connection.run("UPDATE noetl.command SET playbook = execution_id, weight = execution_id")


def taken(connection: Connection, most: int) -> list[int]:
    return [id for (id,) in connection.run(TAKE, most=most)]


@pytest.mark.parametrize("most", [1, 2, 8, 64])
def test_wide_loops_share_claims_by_weight(connection: Connection, most: int) -> None:
    wide(connection, [1, 9, 50], 700)
    count = Counter[int]()
    while count.total() < 600:
        count.update(taken(connection, most))
    # whatever is taken has ended, so that each claim begins with one for each where there is room for that
    first = count.total() // most if most >= 3 else 0
    rest = count.total() - 3 * first
    for weight in (1, 9, 50):
        assert count[weight] == pytest.approx(first + rest * weight / 60, abs=4), count


def test_chains_share_the_turns_of_one_slot_by_weight(connection: Connection) -> None:
    weights = [1, 9, 50]
    wide(connection, weights, 1)
    count, waited, longest = Counter[int](), 0, 0
    for n in range(2, 1202):
        [id] = taken(connection, 1)
        connection.run(NEXT, ids=[id], n=n)
        count[id] += 1
        waited = 0 if id == 1 else waited + 1
        longest = max(longest, waited)
    assert longest <= 2 * sum(weights), f"the lightest waited for {longest} claims of others"
    assert [count[weight] for weight in weights] == pytest.approx([20, 180, 1000], abs=6)


def test_a_run_of_one_step_has_the_next_turn_beside_a_heavy_loop_of_which_anything_runs(connection: Connection) -> None:
    for _ in range(30):
        wide(connection, [1, 100], 5)
        connection.run(
            "UPDATE noetl.command SET status = 'claimed', lease_until = now() + interval '1 minute'"
            " WHERE execution_id = 100 AND command_id = 'c5'"
        )
        assert taken(connection, 1) == [1], "weights let it starve"
        assert Counter(taken(connection, 3))[1] == 1
        connection.run("DELETE FROM noetl.command")


def test_a_run_of_which_nothing_runs_goes_before_a_heavy_loop_though_others_of_its_playbook_run(
    connection: Connection,
) -> None:
    for _ in range(30):
        wide(connection, [1, 2, 100], 5)
        connection.run("UPDATE noetl.command SET playbook = 1, weight = 1 WHERE execution_id < 100")
        connection.run(
            "UPDATE noetl.command SET status = 'claimed', lease_until = now() + interval '1 minute'"
            " WHERE execution_id IN (1, 100) AND command_id = 'c5'"
        )
        assert taken(connection, 1) == [2], "weights let it starve"
        connection.run("DELETE FROM noetl.command")


def many_runs(connection: Connection, count: int) -> None:
    """Of playbook 1 so many that wait, and after them one of playbook 2."""
    fill(connection, list(range(1, count + 2)), 1)
    connection.run(
        "UPDATE noetl.command SET playbook = 1 + (execution_id > :count)::integer,"
        " issued_at = now() + make_interval(secs => execution_id)",
        count=count,
    )


@pytest.mark.parametrize("count", [2, 200, 5000])
def test_many_runs_of_a_playbook_hold_up_no_other(connection: Connection, count: int) -> None:
    for _ in range(10):
        many_runs(connection, count)
        turns = next(n for n in range(1, 1000) if taken(connection, 1) == [count + 1])
        # in turn about, as they weigh the same
        assert turns <= 4, "it waited behind the runs of another playbook"
        connection.run("DELETE FROM noetl.command")


@pytest.mark.parametrize("count", [2, 200, 5000])
def test_a_playbook_of_which_nothing_runs_has_the_next_turn(connection: Connection, count: int) -> None:
    for _ in range(10):
        many_runs(connection, count)
        connection.run(
            "UPDATE noetl.command SET status = 'claimed', lease_until = now() + interval '1 minute'"
            " WHERE execution_id = 1"
        )
        assert taken(connection, 1) == [count + 1], "the runs of another playbook had the turn"
        connection.run("DELETE FROM noetl.command")


def test_what_a_playbook_leaves_is_for_the_others(connection: Connection) -> None:
    for _ in range(10):
        many_runs(connection, 200)
        found = taken(connection, 64)
        connection.run("DELETE FROM noetl.command")
        assert 201 in found
        assert len(found) == 64, "slots were left empty"


def test_what_the_others_leave_is_taken_whatever_it_weighs(connection: Connection) -> None:
    wide(connection, [1], 40)
    wide(connection, [100], 3)
    assert Counter(taken(connection, 20)) == {1: 17, 100: 3}


def test_shares_are_the_same_in_memory(connection: Connection) -> None:
    chance = Random(11)
    for _ in range(400):
        some = chance.sample(range(1, 101), chance.randint(1, 4))
        waiting = [
            Waiting(chance.randint(-2, 2), chance.choice(some), chance.random() < 0.4)
            for _ in range(chance.randint(1, 64))
        ]
        room, draw = chance.randint(1, 80), chance.randrange(CIRCLE)
        given = {
            "books": [each.playbook for each in waiting],
            "weights": [each.weight for each in waiting],
            "idle": [each.idle for each in waiting],
        }
        [[found]] = connection.run(SHARES, **given, room=room, draw=draw)
        assert found == shares(waiting, room, draw), (waiting, room, draw)


def opening(plan: Plan, playbook: str) -> ExecutionCommit:
    entry = MemoryCatalogEntry(catalog_id=5, path=playbook, version=1, hash=plan.hash, content="")
    begun = new_root(entry, plan, {}, time.time_ns() // 1_000_000, None)
    turn = Transition(begun.execution, plan)
    turn.apply(begun.fact)
    return turn.to_commit(begun.row)


@pytest.mark.parametrize("seed", range(6))
async def test_sweeps_take_the_same_in_memory(database: Database, seed: int) -> None:
    chance = Random(seed)
    sql, memory = PostgresEventStore(database), MemoryEventStore(time.time)
    some = chance.sample((1, 3, 10, 40, 100), 1 + seed % 3)
    for _ in range(chance.randint(3, 12)):
        text = PLAYBOOK.format(weight=chance.choice(some), items=chance.choice((1, 2, 30)))
        part = opening(load_plan(text), chance.choice(("t/a", "t/b", "t/c")))
        for log in (sql, memory):
            await log.commit([part])
    while any(row.status == "pending" for row in memory.commands.values()):
        claimant = Claimant("w", "shared", 3600.0, chance.randint(1, 12))
        both = [[(it.execution_id, it.command_id) for it in await log.claim(claimant, None)] for log in (sql, memory)]
        assert both[0] == both[1], f"PostgreSQL took {both[0]}, the log in memory {both[1]}"
        assert both[0], "it came back empty while there was work"
