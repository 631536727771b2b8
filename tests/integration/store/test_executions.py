from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from tests.integration.store.plans import EXPLAIN, pages_of, top_of

from noetl_serverless.errors import NotFound
from noetl_serverless.limits import PAGE_BYTES
from noetl_serverless.store.database import Database
from noetl_serverless.store.executions import Executions, LoopStats
from noetl_serverless.store.ids import first_id
from noetl_serverless.store.queries import load

AT = datetime(2025, 7, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def executions(database: Database) -> Executions:
    return Executions(database)


async def add(database: Database, execution_id: int, **values: Any) -> None:
    row = {
        "catalog_id": 1,
        "path": "demo",
        "version": 1,
        "plan_hash": "h",
        "status": "RUNNING",
        "head": 0,
        "state": "{}",
        "workload": "{}",
        "created_at": AT,
        **values,
        "execution_id": execution_id,
    }
    names = ", ".join(row)
    await database.run(f"INSERT INTO noetl.execution ({names}) VALUES ({', '.join(':' + name for name in row)})", **row)


async def add_event(database: Database, execution_id: int, seq: int, type: str, payload: Any) -> None:
    await database.run(
        "INSERT INTO noetl.event (execution_id, seq, type, at, payload) VALUES (:id, :seq, :type, :at, :payload)",
        id=execution_id,
        seq=seq,
        type=type,
        at=AT,
        payload=orjson.dumps(payload).decode(),
    )


async def test_the_newest_come_first_and_can_be_narrowed(executions: Executions, database: Database) -> None:
    await add(database, 1, path="demo/a", status="COMPLETED", ended_at=AT)
    await add(database, 2, path="demo/b", parent_execution_id=1)
    await add(database, 3, path="demonstration")

    async def ids(**wanted: Any) -> tuple[list[int], bool]:
        found, more = await executions.entries(**{"limit": 100, "offset": 0, **wanted})
        return [execution.execution_id for execution in found], more

    assert await ids() == ([3, 2, 1], False)
    assert await ids(status="COMPLETED") == ([1], False)
    assert await ids(path="demo") == ([2, 1], False)
    assert await ids(parent=1) == ([2], False)
    assert await ids(before=3, limit=1) == ([2], True)
    assert await ids(limit=1, offset=2) == ([1], False)
    assert await ids(limit=3) == ([3, 2, 1], False)
    assert await ids(limit=2) == ([3, 2], True)


async def test_they_can_be_narrowed_to_those_that_are_paused(executions: Executions, database: Database) -> None:
    await add(database, 1)
    await add(database, 2, paused_at=AT)
    await add(database, 3, paused_at=AT, status="CANCELLED", ended_at=AT)
    found, _ = await executions.entries(paused=True, limit=100, offset=0)
    assert [execution.execution_id for execution in found] == [2]


async def test_they_can_be_narrowed_to_a_time_and_to_who_started_them(
    executions: Executions, database: Database
) -> None:
    def id_at(second: int, more: int = 7) -> int:
        return first_id(AT + timedelta(seconds=second)) + more

    ada, night = '{"kind": "user", "name": "ada"}', '{"kind": "schedule", "name": "ada"}'
    for second, principal in ((0, ada), (1, night), (2, None), (3, ada)):
        await add(database, id_at(second), principal=principal)

    async def seconds(**wanted: Any) -> list[int]:
        found, _ = await executions.entries(**{"limit": 100, "offset": 0, **wanted})
        return [(execution.execution_id - first_id(AT)) // (1000 << 22) for execution in found]

    assert await seconds() == [3, 2, 1, 0]
    assert await seconds(since=AT + timedelta(seconds=2)) == [3, 2]
    assert await seconds(until=AT + timedelta(seconds=2)) == [1, 0], "what began at that instant is not before it"
    assert await seconds(since=AT + timedelta(seconds=1), until=AT + timedelta(seconds=3)) == [2, 1]
    assert await seconds(until=AT + timedelta(seconds=3), before=id_at(1)) == [0]
    assert await seconds(until=AT + timedelta(seconds=1), before=id_at(3)) == [0]
    assert await seconds(since=datetime(1970, 1, 1, tzinfo=UTC), until=datetime(9999, 1, 1, tzinfo=UTC)) == [3, 2, 1, 0]
    assert await seconds(principal="ada") == [3, 1, 0]
    assert await seconds(principal="ada", principal_kind="user") == [3, 0]
    assert await seconds(principal="ada", status="FAILED") == []
    assert await seconds(principal="eve") == []


MANY = """
    INSERT INTO noetl.execution (
        execution_id, catalog_id, path, version, plan_hash, status, head, state, workload, principal, created_at)
    SELECT CAST(:first AS bigint) + n, 1, 'demo', 1, 'h', 'COMPLETED', 1, '{}', '{}',
        json_build_object('kind', 'user', 'name', CASE WHEN n % 10000 = 1 THEN 'rare' ELSE 'ada' END), now()
    FROM generate_series(1, CAST(:count AS integer)) n"""


@pytest.mark.parametrize("analysed", [False, True], ids=["never analysed", "analysed"])
async def test_a_page_reads_no_more_than_its_rows_whatever_it_is_narrowed_to(
    database: Database, analysed: bool
) -> None:
    first = first_id(AT)
    await database.run("ALTER TABLE noetl.execution SET (autovacuum_enabled = false)")
    await database.run(MANY, first=first, count=40_000)
    if analysed:
        await database.run("ANALYZE noetl.execution")
    cost = EXPLAIN + load("executions")["entries"]
    names = ("status", "path", "parent", "principal", "kind", "since", "before")
    read = {}
    for wanted in (
        {"principal": "rare"},
        {"principal": "rare", "kind": "user", "status": "COMPLETED"},
        {"principal": "rare", "since": first + 1, "before": first + 39_000},
        {"principal": "nobody"},
        {"since": first + 39_990},
        {"since": first + 20_000, "before": first + 20_010},
        {"before": first + 10},
        {"status": "FAILED"},
    ):
        given = {**dict.fromkeys(names), "paused": False, **wanted, "limit": 100, "offset": 0, "bytes": PAGE_BYTES}
        [[plan]] = await database.run(cost, **given)
        read[str(wanted)] = pages_of(plan)
    # of each ten rows at most, and for each row the pages of an index down to it
    assert max(read.values()) < 120, read


async def test_a_list_ends_with_the_result_that_fills_a_page(executions: Executions, database: Database) -> None:
    for id in range(1, 9):
        await add(database, id)
    await database.run("UPDATE noetl.execution SET result = json_build_object('data', repeat('x', 1000000))")
    found, more = await executions.entries(limit=100, offset=0)
    assert [execution.execution_id for execution in found] == [8, 7, 6, 5, 4]
    assert more


async def test_an_execution_shows_how_many_steps_have_an_outcome(executions: Executions, database: Database) -> None:
    await add(database, 1, finished=2, status="FAILED", error='{"code": "x"}')
    found = await executions.get(1)
    assert (found.finished, found.status, found.error) == (2, "FAILED", {"code": "x"})


async def test_the_log_is_read_in_order_after_a_position(executions: Executions, database: Database) -> None:
    await add(database, 1)
    for seq, type in enumerate(["playbook.initialized", "command.issued", "call.done"], start=1):
        await add_event(database, 1, seq, type, {"n": seq})
    assert [event.seq for event in await executions.events(1, after=1, limit=100)] == [2, 3]
    assert [event.payload for event in await executions.events(1, after=0, limit=1)] == [{"n": 1}]
    page, total = await executions.events_page(1, after=0, type=None, limit=2, offset=0)
    assert ([event.seq for event in page], total) == ([3, 2], 3)
    page, total = await executions.events_page(1, after=0, type="call.done", limit=2, offset=0)
    assert ([event.seq for event in page], total) == ([3], 1)


async def test_the_tail_of_a_log_comes_with_where_it_stands(executions: Executions, database: Database) -> None:
    await add(database, 1, head=2)
    assert await executions.follow(1, after=0, type=None, limit=100) == ([], 2, "RUNNING")
    for seq in (1, 2):
        await add_event(database, 1, seq, "call.done", {"n": seq})
    found, head, status = await executions.follow(1, after=1, type=None, limit=100)
    assert ([event.seq for event in found], head, status) == ([2], 2, "RUNNING")
    assert (await executions.follow(1, after=0, type="other", limit=100))[0] == []
    assert [event.seq for event in (await executions.follow(1, after=0, type=None, limit=1))[0]] == [1]


async def test_what_it_was_started_with_includes_the_initial_ctx(executions: Executions, database: Database) -> None:
    await add(database, 1, workload='{"a": 1}')
    await add_event(database, 1, 1, "playbook.initialized", {"ctx": {"b": 2}})
    assert await executions.initial(1) == {"a": 1, "ctx": {"b": 2}}


async def test_a_loops_results_come_in_the_order_of_its_items(executions: Executions, database: Database) -> None:
    ref = {"kind": "result_ref"}
    frames: dict[int, tuple[int, int, dict[str, Any]]] = {
        1: (3, 4, {"data": ["d"]}),
        2: (0, 2, {"data": ["a", "b"]}),
        3: (2, 3, {"data": ["c"]}),
    }
    frames[4] = (4, 6, {"ref": ref})
    frames[5] = (6, 7, {"data": [None]})
    for seq, (start, end, payload) in frames.items():
        await add_event(database, 1, seq, "frame.committed", payload)
        await database.run(
            "INSERT INTO noetl.frame VALUES (1, 'loop', 2, :start, :end, :seq, 1, 0)",
            start=start,
            end=end,
            seq=seq,
        )
    parts, more = await executions.loop_results(1, "loop", 2, 0, PAGE_BYTES)
    assert not more
    assert [(part.start, part.end, part.data, part.ref) for part in parts] == [
        (0, 4, ["a", "b", "c", "d"], None),
        (4, 6, None, ref),
        (6, 7, [None], None),
    ]
    assert await executions.loop_results(1, "loop", 1, 0, PAGE_BYTES) == ([], False)


async def test_the_latest_run_of_a_loop_counts(executions: Executions, database: Database) -> None:
    assert await executions.latest_generation(1, "loop") is None
    for generation in (1, 3, 2):
        await database.run("INSERT INTO noetl.stage VALUES (1, 'loop', :generation, 1, 1, 'ok')", generation=generation)
    assert await executions.latest_generation(1, "loop") == 3


async def test_an_execution_names_its_playbook(executions: Executions, database: Database) -> None:
    await add(database, 1)
    assert (await executions.plan_hash(1), await executions.plan_hash(77)) == ("h", None)


async def test_the_items_of_a_loop_are_counted(executions: Executions, database: Database) -> None:
    assert await executions.loop_stats(1, "loop", 2) is None
    await database.run("INSERT INTO noetl.stage VALUES (1, 'loop', 2, 1, 30, 'open')")
    assert await executions.loop_stats(1, "loop", 2) == LoopStats(30, 0, 0)
    for start, ok, failed in ((0, 4, 1), (5, 2, 0)):
        statement = "INSERT INTO noetl.frame VALUES (1, 'loop', 2, :start, :end, :start, :ok, :failed)"
        await database.run(statement, start=start, end=start + ok + failed, ok=ok, failed=failed)
    assert await executions.loop_stats(1, "loop", 2) == LoopStats(30, 6, 1)


async def test_what_is_not_there_is_not_found(executions: Executions) -> None:
    for looking in (executions.get(1), executions.follow(1, after=0, type=None, limit=1)):
        with pytest.raises(NotFound):
            await looking


LOOP_FRAME = "INSERT INTO noetl.frame VALUES (1, 'loop', 2, :start, :end, :seq, 1, 0)"


async def test_a_page_of_a_loops_results_reads_what_it_has_room_for(executions: Executions, database: Database) -> None:
    for seq in range(1, 13):
        data = [f"{seq:06}" + "x" * 450_000, "y" * 450_000]
        await add_event(database, 1, seq, "frame.committed", {"data": data})
        await database.run(LOOP_FRAME, start=2 * seq - 2, end=2 * seq, seq=seq)
    statement = "SELECT count(*), min(\"start\") FROM noetl.results(1, 'loop', 2, :after, :bytes)"
    [[count, first]] = await database.run(statement, after=0, bytes=PAGE_BYTES)
    assert (count, first) == (PAGE_BYTES // 900_000 + 1, 0), "it read what it had no room for"
    [[count, first]] = await database.run(statement, after=13, bytes=PAGE_BYTES)
    assert (count, first) == (PAGE_BYTES // 900_000 + 1, 12), "it began before the page did"
    found, more = await executions.loop_results(1, "loop", 2, after=0, max_bytes=PAGE_BYTES)
    assert ([(part.start, part.end) for part in found], more) == ([(0, 10)], True)
    found, more = await executions.loop_results(1, "loop", 2, after=23, max_bytes=PAGE_BYTES)
    assert ([(part.start, part.end) for part in found], more) == ([(22, 24)], False)
    assert await executions.loop_results(1, "loop", 2, after=10**30, max_bytes=PAGE_BYTES) == ([], False)


async def test_the_next_page_of_a_loops_results_does_not_read_those_before(database: Database) -> None:
    await database.run(
        "INSERT INTO noetl.event (execution_id, seq, type, at, payload)"
        " SELECT 1, n, 'frame.committed', now(), json_build_object('data', json_build_array(n))"
        " FROM generate_series(1, 20000) n"
    )
    await database.run(
        "INSERT INTO noetl.frame SELECT 1, 'loop', 2, n - 1, n, n, 1, 0 FROM generate_series(1, 20000) n"
    )
    cost = EXPLAIN + "SELECT count(*) FROM noetl.results(1, 'loop', 2, 19990, 1000)"
    for _ in range(2):
        [[plan]] = await database.run(cost)
    assert pages_of(plan) < 200


LOG = """
    INSERT INTO noetl.event (execution_id, seq, type, command_id, at, payload)
    SELECT 1, CAST(:first AS integer) + n, :type, 'c' || n, to_timestamp(CAST(:first AS integer) + n), '{}'
    FROM generate_series(1, CAST(:count AS integer)) n"""


async def test_a_run_is_listed_with_the_last_issue_before_it(executions: Executions, database: Database) -> None:
    await database.run(LOG, first=0, type="command.issued", count=4000)
    await database.run(LOG, first=10_000, type="command.issued", count=10)
    await database.run(LOG, first=10_100, type="call.deferred", count=2)
    await database.run(LOG, first=10_200, type="command.issued", count=1)
    await database.run(LOG, first=20_000, type="call.done", count=4000)
    await database.run(LOG, first=30_000, type="command.issued", count=4000)
    runs = await executions.runs(1, after=0, step=None, failed=False, limit=5000)
    at = {run.seq: run.issued_at and run.issued_at.timestamp() for run in runs}
    assert len(at) == 4002
    assert (at[10_101], at[10_102]) == (10_001, 10_002)
    assert (at[20_001], at[20_002], at[20_010], at[20_011], at[24_000]) == (10_201, 10_002, 10_010, 11, 4000)
    await database.run("DELETE FROM noetl.event WHERE seq = 11")
    runs = await executions.runs(1, after=20_010, step=None, failed=False, limit=2)
    assert [(run.seq, run.issued_at and run.issued_at.timestamp()) for run in runs] == [(20_011, None), (20_012, 12)]


@pytest.mark.parametrize(("gap", "most"), [(0, 200), (40_000, 3000)])
async def test_a_page_of_runs_looks_at_each_event_once(database: Database, gap: int, most: int) -> None:
    """The commands issued right before their reports, or long before."""
    await database.run(LOG, first=0, type="other", count=30_000)
    await database.run(LOG, first=30_000, type="command.issued", count=100)
    await database.run(LOG, first=40_000, type="other", count=gap)
    await database.run(LOG, first=30_100 + gap + 10_000 * bool(gap), type="call.done", count=100)
    cost = EXPLAIN + load("executions")["runs"]
    of = {"execution_id": 1, "after": 30_100, "step": None, "failed": False, "limit": 101}
    for _ in range(2):
        [[plan]] = await database.run(cost, **of)
    assert top_of(plan)["Actual Rows"] == 100
    assert pages_of(plan) < most
