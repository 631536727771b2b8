"""Plans are made once, on whatever the tables hold then; what they read does not grow with the tables."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.integration.store.plans import EXPLAIN, pages_of

from noetl_serverless.store.connection import Connection
from noetl_serverless.store.queries import load

SQL = load("event_store")
COMMANDS = """
    INSERT INTO noetl.command (
        execution_id, command_id, step, generation, kind, attempt, pool, status, worker, fence, lease_until, seq,
        issued_at)
    SELECT id, 'c' || n, 's', 1, 'step', 1, 'shared', CAST(:status AS text), 'w', 0, now() + interval '1 h', n, now()
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) id,
        generate_series(1, CAST(:each AS integer)) n"""
EXECUTIONS = """
    INSERT INTO noetl.execution (
        execution_id, catalog_id, path, version, plan_hash, depth, status, head, folded, state, finished, workload,
        created_at)
    SELECT id, 1, 'p', 1, 'h', 0, 'RUNNING', 1, 1, '{}', 0, '{}', now()
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) id"""
EVENTS = """
    INSERT INTO noetl.event (execution_id, seq, type, step, generation, command_id, at, payload)
    SELECT id, 1, 'command.issued', 's', 1, 'c1', now(), '{"kind": "step"}'
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) id"""
COMMIT = """
    SELECT noetl.commit(
        CAST(:executions AS json), '[]', CAST(:closes AS json), CAST(:commands AS json), '[]', '[]', '[]', '[]', '[]',
        '[]')"""
LEASE = "SELECT * FROM noetl.lease('w', 'shared', 30, 64, CAST(:keys AS json))"
ADVANCE = """
    SELECT noetl.advance(
        ARRAY[CAST(:id AS bigint)], ARRAY[CAST(:head AS integer)], ARRAY[CAST(NULL AS text)], ARRAY[:head + 1],
        ARRAY['RUNNING'], ARRAY[0], ARRAY[CAST(NULL AS text)], CAST(1 AS smallint), ARRAY[CAST(NULL AS text)],
        ARRAY[CAST(NULL AS text)], ARRAY[CAST(NULL AS float8)], ARRAY[CAST(:closes AS text)],
        ARRAY[CAST(0 AS bigint)], 'w', ARRAY['n'], ARRAY['s'], ARRAY[1], ARRAY['step'], ARRAY[1], ARRAY['shared'],
        ARRAY[1], ARRAY[10], ARRAY[:head + 1], ARRAY[true], ARRAY[true], CAST(30 AS float8), CAST('{}' AS integer[]),
        CAST('{}' AS integer[]), CAST('{}' AS integer[]), CAST('{}' AS text[]), CAST('{}' AS text[]),
        CAST('{}' AS integer[]), CAST('{}' AS text[]), CAST('{}' AS float8[]), CAST('{}' AS text[]))"""
# `c1` of each of them is held by w
HOLD_DIRECTLY = """
    UPDATE noetl.execution SET direct_seq = 1, direct_fence = 0, direct_since = now(), direct_command = 'c1',
        direct_pool = 'shared', direct_worker = 'w', direct_lease = '1 h', direct_playbook = 7, direct_weight = 10
    WHERE execution_id BETWEEN CAST(:first AS bigint) AND CAST(:last AS bigint) RETURNING 1"""
APPEND = "SELECT noetl.append(CAST(:facts AS json))"
RUN_OUT = "UPDATE noetl.command SET lease_until = now() - interval '1 h' WHERE execution_id = :id RETURNING 1"


def pages(connection: Connection, query: str, **given: Any) -> int:
    """Read by it; what it changes is undone."""
    connection.run("BEGIN")
    [[plan]] = connection.run(EXPLAIN + query, **given)
    connection.run("ROLLBACK")
    return pages_of(plan)


def commit_of(id: int, head: int, closes: str) -> dict[str, str]:
    """Closes one command and issues another, as each step of a chain does."""
    execution = {"id": id, "expect": head, "head": head + 1, "status": "RUNNING", "finished": 0}
    issued = {"id": id, "command": f"n{head}", "step": "s", "generation": 1, "kind": "step", "attempt": 1}
    issued |= {"pool": "shared", "status": "claimed", "seq": head, "worker": "w", "lease": 30}
    return {
        "executions": json.dumps([execution]),
        "closes": json.dumps([{"id": id, "command": closes, "fence": 0, "worker": "w"}]),
        "commands": json.dumps([issued]),
    }


def fact_of(id: int, command: str) -> dict[str, str]:
    fact = {"id": id, "command": command, "fence": 0, "worker": "w", "type": "call.done", "step": "s", "generation": 1}
    return {"facts": json.dumps([{**fact, "at": 0, "payload": {}, "refs": []}])}


def keys_of(id: int) -> dict[str, str]:
    return {"keys": json.dumps([{"execution_id": id, "command_id": "c1"}])}


def held_of(id: int, *commands: str) -> dict[str, str]:
    return {"worker": "w", "held": json.dumps([{"execution_id": id, "command_id": it, "fence": 0} for it in commands])}


TABLES = ("execution", "command", "event", "stage", "inbox")


@pytest.mark.parametrize("analysed", ["never", "empty", "small"])
def test_plans_read_no_more_when_the_tables_have_grown_for_which_they_were_made(
    connection: Connection, analysed: str
) -> None:
    for table in ("execution", "command", "inbox"):
        connection.run(f"ALTER TABLE noetl.{table} SET (autovacuum_enabled = false)")
    if analysed == "small":
        connection.run(EXECUTIONS, first=901, last=910)
        connection.run(COMMANDS, first=901, last=910, each=1, status="pending")
        connection.run(COMMANDS, first=911, last=920, each=1, status="claimed")
        for id in range(911, 921):
            connection.run(RUN_OUT, id=id)
    if analysed != "never":
        for table in TABLES:
            connection.run(f"VACUUM ANALYZE noetl.{table}")
    for id in range(1, 13):
        # this session's plans are made here, and kept
        connection.run(COMMANDS, first=id, last=id, each=1, status="pending")
        connection.run(EVENTS, first=id, last=id)
        connection.run(COMMIT, **commit_of(id, 1, "none"))
        connection.run(LEASE, **keys_of(id))
        connection.run(APPEND, **fact_of(id, "none"))
        connection.run(SQL["extend_leases"], **held_of(id, "c1"), lease=30)
        connection.run(SQL["release_leases"], **held_of(id, "none"))
        connection.run(SQL["expire_leases"], deliveries=5, limit=100)
    connection.run(EXECUTIONS, first=1001, last=21_001)
    connection.run(COMMANDS, first=1001, last=21_000, each=1, status="claimed")
    connection.run(COMMANDS, first=21_001, last=21_001, each=20_000, status="claimed")
    connection.run(COMMANDS, first=30_001, last=50_000, each=1, status="pending")
    connection.run(EVENTS, first=30_001, last=50_000)
    none = pages(connection, SQL["pending_work"], age=5)
    connection.run(RUN_OUT, id=8000)

    # of each a few rows, and for each row the pages of an index down to it
    read = {
        "commit of one of many": pages(connection, COMMIT, **commit_of(5000, 1, "c1")),
        "commit of a wide one": pages(connection, COMMIT, **commit_of(21_001, 1, "c7777")),
        "claim by name": pages(connection, LEASE, **keys_of(40_000)),
        "hand in for one of many": pages(connection, APPEND, **fact_of(6000, "c1")),
        "hand in for a wide one": pages(connection, APPEND, **fact_of(21_001, "c8888")),
        "extend of many": pages(connection, SQL["extend_leases"], **held_of(7000, "c1"), lease=30),
        "extend of a wide one": pages(connection, SQL["extend_leases"], **held_of(21_001, "c1", "c9999"), lease=30),
        "release of many": pages(connection, SQL["release_leases"], **held_of(7000, "c1")),
        "release of a wide one": pages(connection, SQL["release_leases"], **held_of(21_001, "c1", "c9999")),
        "look for leases that ran out where there is none": none,
        "look for leases that ran out": pages(connection, SQL["pending_work"], age=5),
        "give back one that ran out": pages(connection, SQL["expire_leases"], deliveries=5, limit=100),
    }
    # what the catalog is asked for now and then, too
    assert max(read.values()) < 120, read


def test_a_commit_of_many_reads_for_each_no_more_than_for_a_few(connection: Connection) -> None:
    connection.run(EXECUTIONS, first=1, last=1000)
    connection.run(COMMANDS, first=1, last=1000, each=1, status="claimed")
    for id in range(1, 13):
        connection.run(COMMIT, **commit_of(id, 1, "c1"))

    def for_each(first: int, last: int) -> float:
        commits = [commit_of(id, 1, "c1") for id in range(first, last + 1)]
        given = {name: json.dumps([json.loads(commit[name])[0] for commit in commits]) for name in commits[0]}
        return pages(connection, COMMIT, **given) / len(commits)

    few, many = for_each(101, 110), for_each(201, 600)
    assert many < 1.5 * few, (few, many)


@pytest.mark.parametrize("analysed", [False, True])
def test_direct_leases_are_found_by_their_execution_however_many_there_are(
    connection: Connection, analysed: bool
) -> None:
    connection.run("ALTER TABLE noetl.execution SET (autovacuum_enabled = false)")
    connection.run(EXECUTIONS, first=1, last=12)
    connection.run(EVENTS, first=1, last=12)
    connection.run(HOLD_DIRECTLY, first=1, last=12)
    if analysed:
        connection.run("VACUUM ANALYZE noetl.execution")
    for id in range(1, 13):
        # this session's plans are made here, and kept
        connection.run(ADVANCE, id=id, head=1, closes="c1")
        connection.run(COMMIT, **commit_of(id, 2, "n"))
        connection.run(APPEND, **fact_of(id, "n2"))
        connection.run(SQL["extend_leases"], **held_of(id, "n"), lease=30)
        connection.run(SQL["release_leases"], **held_of(id, "n"))
    connection.run(EXECUTIONS, first=1001, last=11_000)
    connection.run(EVENTS, first=1001, last=11_000)
    connection.run(HOLD_DIRECTLY, first=1001, last=11_000)
    read = {
        "advance": pages(connection, ADVANCE, id=5000, head=1, closes="c1"),
        "commit": pages(connection, COMMIT, **commit_of(5000, 1, "c1")),
        "hand in": pages(connection, APPEND, **fact_of(6000, "c1")),
        "extend": pages(connection, SQL["extend_leases"], **held_of(7000, "c1"), lease=30),
        "release": pages(connection, SQL["release_leases"], **held_of(7000, "c1")),
    }
    # where nothing is analysed, how far an index has been cleaned by then makes a few dozen pages of difference
    [[all]] = connection.run("SELECT pg_relation_size('noetl.execution') / 8192")
    assert max(read.values()) < all / 2, (read, all)
    # each of those that are held once, and none of the executions that hold nothing
    connection.run(EXECUTIONS, first=20_001, last=60_000)
    held = connection.run("SELECT count(DISTINCT (ctid::text::point)[0]) FROM noetl.execution WHERE direct_fence = 0")
    looked_at = pages(connection, SQL["pending_work"], age=5)
    assert looked_at < 10_000 + 2 * held[0][0], looked_at


# of one key, whose limit is given, and of a key of each execution
LIMITED = """
    INSERT INTO noetl.command (
        execution_id, command_id, step, generation, kind, attempt, pool, status, worker, fence, lease_until, seq,
        issued_at, limits)
    SELECT id, 'c1', 's', 1, 'step', 1, 'shared', CAST(:status AS text), 'w', 0, now() + interval '1 h', 1, now(),
        json_build_object(
            'concurrency', json_build_object('key', CAST(:key AS text), 'limit', CAST(:limit AS integer)),
            'rate', json_build_object('key', CAST(:key AS text), 'per', 3600, 'limit', 10000))
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) id"""
COMMIT_LIMITED = COMMIT.replace("noetl.commit(", "noetl.commit_limited(").replace("'[]')", "'[]', '[]')")


def test_what_limits_keep_waiting_is_not_read_to_find_what_may_begin(connection: Connection) -> None:
    connection.run("ALTER TABLE noetl.command SET (autovacuum_enabled = false)")
    for id in range(1, 13):
        # the plans of this session are made here
        connection.run(LIMITED, first=id, last=id, status="limited", key="made early", limit=3)
        connection.run(EXECUTIONS, first=id, last=id)
        connection.run(EVENTS, first=id, last=id)
        connection.run("SELECT * FROM noetl.lease('w', 'shared', 30, 1, NULL)")
        connection.run(COMMIT_LIMITED, **commit_of(id, 1, "c1"))
        connection.run(SQL["startable"], limit=200)
    # full, and much waits for it
    connection.run(LIMITED, first=1001, last=1003, status="claimed", key="full", limit=3)
    connection.run(LIMITED, first=2001, last=22_000, status="limited", key="full", limit=3)
    connection.run(EXECUTIONS, first=1001, last=1003)
    nothing = pages(connection, "SELECT * FROM noetl.lease('w', 'shared', 30, 64, NULL)")
    # much that may begin
    connection.run(LIMITED, first=30_001, last=50_000, status="limited", key="free", limit=10_000)
    connection.run(EVENTS, first=30_001, last=50_000)
    read = {
        "claim where nothing may begin": nothing,
        "claim of four": pages(connection, "SELECT * FROM noetl.lease('w', 'shared', 30, 4, NULL)"),
        "commit that frees a slot": pages(connection, COMMIT_LIMITED, **commit_of(1001, 1, "c1")),
        "look for what may begin": pages(connection, SQL["startable"], limit=64),
    }
    assert max(read.values()) < 400, read
