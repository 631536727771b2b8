"""A sweep chooses among executions alike, and reads little for it, however much waits."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing

import pytest
from tests.integration.store.plans import EXPLAIN, pages_of

from noetl_serverless.engine.ids import execution_id
from noetl_serverless.store.connection import Connection, connect

FILL = """
    INSERT INTO noetl.command (execution_id, command_id, step, generation, kind, attempt, pool, status, seq, issued_at)
    SELECT x.id, 'c' || n, 's', 1, 'step', 1, 'shared', 'pending', n, now() - make_interval(secs => n)
    FROM unnest(CAST(:ids AS bigint[])) x(id), generate_series(1, :each) n"""
LOOK = (
    "SELECT c.execution_id FROM unnest(noetl.fair('shared', :limit)) f(place) JOIN noetl.command c ON c.ctid = f.place"
)
COST = EXPLAIN + "SELECT cardinality(noetl.fair('shared', :limit))"

DEAD = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = CAST('noetl.command' AS regclass)"


def fill(connection: Connection, ids: list[int], each: int) -> None:
    connection.run(FILL, ids=ids, each=each)
    connection.run("ANALYZE noetl.command")


def first(at: int) -> int:
    """The id of an execution that began `at`, in ms; those above it are of the same instant."""
    return int(execution_id(at, "any")) >> 12 << 12


def looked_at(connection: Connection, limit: int) -> list[int]:
    return [id for (id,) in connection.run(LOOK, limit=limit)]


def pages(connection: Connection, limit: int) -> int:
    """Read for one claim, with its plans made."""
    looked_at(connection, limit)
    [[plan]] = connection.run(COST, limit=limit)
    return pages_of(plan)


def analyse(connection: Connection) -> None:
    """With no dead row left: an autovacuum of any table of the database keeps them while it runs."""
    deadline = time.monotonic() + 60
    while True:
        # what this session has not yet reported would be taken off what is found
        connection.run("SELECT pg_stat_force_next_flush()")
        connection.run("VACUUM ANALYZE noetl.command")
        [[dead]] = connection.run(DEAD)
        if not dead:
            return
        assert time.monotonic() < deadline, f"{dead} dead rows stay: somebody has kept a snapshot for a minute"
        time.sleep(0.1)


def test_every_execution_is_looked_at_as_often_whatever_the_ids(connection: Connection) -> None:
    """A burst, a second later another, and one a month after them."""
    start = 1_800_000_000_000
    burst = [first(start) + n for n in range(300)]
    later = [first(start + 1000) + n for n in range(99)]
    alone = first(start + 30 * 86_400_000)
    fill(connection, [*burst, *later, alone], 1)

    found = Counter(id for _ in range(500) for id in looked_at(connection, 64))

    # on average each 80 times
    assert len(found) == 400, "some are never looked at"
    assert max(found.values()) < 160, "some are looked at far more often"
    assert min(found.values()) > 30, "some are hardly looked at"


def test_executions_of_many_playbooks_are_looked_at_wherever_those_lie(connection: Connection) -> None:
    """Of 128 playbooks a claim looks at 64, and of each at one execution."""
    fill(connection, [first(1_800_000_000_000) + n for n in range(1024)], 1)
    connection.run("UPDATE noetl.command SET playbook = hashint4((execution_id % 128)::integer)")

    found = Counter(id for _ in range(320) for id in looked_at(connection, 64))

    # on average each 20 times
    assert len({id % 128 for id in found}) == 128, "some playbooks are never looked at"
    assert len(found) > 900, "of the executions of a playbook only those near its own place are looked at"


def test_each_is_given_once_wherever_on_the_circle_it_begins(connection: Connection) -> None:
    fill(connection, list(range(1, 41)), 1)
    for _ in range(20):
        found = looked_at(connection, 40)
        assert len(found) == len(set(found)) == 40, "some were met on both laps, and so others are left"


def test_turns_go_around_before_anybody_has_a_second(connection: Connection) -> None:
    fill(connection, list(range(1, 6)), 7)
    for limit, each in ((5, 1), (12, 2), (35, 7), (100, 7)):
        counts = Counter(looked_at(connection, limit))
        assert len(counts) == 5
        assert sum(counts.values()) == min(limit, 35)
        assert min(counts.values()) == each
        assert max(counts.values()) <= each + 1


def test_those_that_have_waited_longest_have_the_first_turn(connection: Connection) -> None:
    fill(connection, list(range(1, 31)), 3)
    connection.run("UPDATE noetl.command SET issued_at = issued_at - interval '1 hour' WHERE execution_id = 17")
    assert looked_at(connection, 1) == [17]


@pytest.mark.parametrize("playbooks", [1, 200])
def test_the_one_execution_that_others_leave_is_found(
    connection: Connection, postgres_url: str, playbooks: int
) -> None:
    fill(connection, list(range(1, 641)), 1)
    connection.run("UPDATE noetl.command SET playbook = execution_id % :playbooks", playbooks=playbooks)
    with closing(connect(postgres_url)) as other:
        other.run("BEGIN")
        other.run("SELECT 1 FROM noetl.command WHERE execution_id <> 99 FOR UPDATE")
        assert [looked_at(connection, 1) for _ in range(6)] == [[99]] * 6, "it came back empty while there was work"
        other.run("ROLLBACK")


@pytest.mark.parametrize("analysed", ["never", "while-empty", "while-all-were-timers"])
@pytest.mark.parametrize(("executions", "each"), [(30_000, 1), (100, 300), (1, 30_000)])
def test_a_claim_reads_no_more_whenever_the_table_was_analysed(
    connection: Connection, executions: int, each: int, analysed: str
) -> None:
    connection.run("ALTER TABLE noetl.command SET (autovacuum_enabled = false)")
    if analysed != "never":
        connection.run(FILL, ids=list(range(1, 20_001)), each=1)
        if analysed == "while-empty":
            connection.run("DELETE FROM noetl.command")
        connection.run("UPDATE noetl.command SET status = 'timer', due_at = now() + interval '1 day'")
        analyse(connection)
    connection.run(FILL, ids=[first(1_800_000_000_000) + n for n in range(executions)], each=each)
    # as `noetl.lease` calls it
    for plan in ("seqscan", "hashjoin", "mergejoin"):
        connection.run(f"SET enable_{plan} = off")
    # the index is a level higher for what it held; and of each index of the table a page, for the plans
    assert pages(connection, 1) < 64 * 6 + 20
    assert pages(connection, 64) < 128 * 6


@pytest.mark.parametrize(("executions", "each"), [(1000, 10), (1, 100_000)])
def test_a_claim_reads_no_more_however_much_waits(connection: Connection, executions: int, each: int) -> None:
    fill(connection, [first(1_800_000_000_000) + n for n in range(executions)], each)
    # three levels of the index and a row for each execution that is looked at and each command that is taken
    assert pages(connection, 1) < 64 * 5
    assert pages(connection, 64) < 128 * 6


def test_a_claim_reads_little_of_many_playbooks(connection: Connection) -> None:
    fill(connection, [first(1_800_000_000_000) + n for n in range(3000)], 3)
    connection.run("UPDATE noetl.command SET playbook = execution_id % 1000")
    analyse(connection)
    # of 64 playbooks an execution each, and where it lies before the circle's beginning, one look more
    assert pages(connection, 1) < 192 * 4
    assert pages(connection, 64) < 192 * 6


def test_a_claim_reads_little_of_what_runs(connection: Connection) -> None:
    fill(connection, list(range(1, 101)), 400)
    connection.run(
        "UPDATE noetl.command SET status = 'claimed', lease_until = now() + make_interval(secs => 60 + execution_id)"
        " WHERE command_id <> 'c400'"
    )
    analyse(connection)
    # a row of the table for each of the leases that are looked at, and of the index one for some hundred
    assert pages(connection, 1) < 64 * 5 + 1000 + 10


def test_what_has_nothing_running_comes_before_what_has_however_long_that_has_waited(connection: Connection) -> None:
    wide, short = (first(1_800_000_000_000 + n) for n in range(2))
    fill(connection, [wide], 500)
    fill(connection, [short], 1)
    connection.run("UPDATE noetl.command SET issued_at = now() WHERE execution_id = :id", id=short)
    assert looked_at(connection, 1) == [wide], "nothing of either runs, and it has waited longest"
    connection.run(
        "UPDATE noetl.command SET status = 'claimed', lease_until = now() + interval '1 minute'"
        " WHERE execution_id = :id AND command_id = 'c500'",
        id=wide,
    )
    for _ in range(20):
        assert looked_at(connection, 1) == [short], "a loop with many commands kept every turn to itself"
