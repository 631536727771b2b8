"""Which results the reconciler deletes, and when; and what it does where something fails meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.counted import counted
from tests.integration.reconciler.collected import CLOCK, GRACE, TASKS, TTL, Deployment, Killed, Row, Run

from noetl_serverless.reconciler import collection
from noetl_serverless.store.connection import connect
from noetl_serverless.store.database import Database
from noetl_serverless.store.maintenance import MaintenanceTasks
from noetl_serverless.store.migrate import migrate
from noetl_serverless.telemetry import metrics

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
AGES = (9 * MINUTE, 19 * MINUTE, 21 * MINUTE, 2 * HOUR, 3 * DAY, 6 * DAY, 8 * DAY, 30 * DAY)
SCOPES = ("step", "execution", "workflow", "permanent")


@pytest.fixture
def second() -> str:
    """The store beside the folder."""
    return "kv"


@pytest.fixture
async def deployment(postgres_url: str, tmp_path: Path, second: str) -> AsyncIterator[Deployment]:
    migrate(postgres_url)
    with closing(connect(postgres_url)) as connection:
        connection.run(CLOCK)
    database = Database(postgres_url, 4)
    yield Deployment(database, tmp_path, Random(1), second)
    await database.close()


async def made_at_random(deployment: Deployment, random: Random) -> None:
    """Families, restarts, archived and unknown executions, and results of every kind for them."""
    runs = deployment.runs
    for _ in range(14):
        top = await execution(deployment, random, None)
        for _ in range(random.choice((0, 0, 1, 2))):
            child = await execution(deployment, random, top)
            if random.random() < 0.4:
                await execution(deployment, random, child)
    for _ in range(4):
        old = random.choice([run for run in runs.values() if run.ended is not None])
        ends = [age for age in AGES if deployment.now() - age > old.ended] if old.ended else []
        ended = deployment.now() - random.choice(ends) - jitter(random) if ends and random.random() < 0.7 else None
        await deployment.execution(restart_of=old.id, ended=ended)
    for days in (0.5, 20, 50):
        await deployment.execution(known=False, days=days)
    for run in list(runs.values()):
        for _ in range(random.randrange(5)):
            await result(deployment, random, run)


async def execution(deployment: Deployment, random: Random, above: Run | None) -> Run:
    """One that ended no later than the one above it."""
    running = 0.25 if above is None else 0.3 if above.ended is None else 0.0
    ended = None
    if random.random() >= running:
        latest = deployment.now() if above is None or above.ended is None else above.ended
        ended = min(latest, deployment.now() - random.choice(AGES)) - jitter(random)
    archived = ended is not None and random.random() < 0.3
    return await deployment.execution(parent=above.id if above else None, ended=ended, archived=archived)


async def result(deployment: Deployment, random: Random, run: Run) -> None:
    now = deployment.now()
    expires = random.choice((None, None, now - random.choice(AGES), now + random.choice(AGES)))
    row = Row(of=run.id, scope=random.choice(SCOPES), expires=expires)
    rows = [row] if random.random() < 0.7 else []
    if not run.is_known:
        row.scope = "permanent"
    if rows and run.parent is not None and random.random() < 0.3:
        rows.append(Row(of=run.parent, scope=row.scope, expires=expires))
        if random.random() < 0.3:
            rows[-1].scope, rows[-1].expires = "permanent", None
    await deployment.store(run, *rows, store=random.choice([*deployment.stores]))


def jitter(random: Random) -> timedelta:
    """So that no two end in the same instant."""
    return timedelta(milliseconds=random.randrange(1, 20_000))


@pytest.mark.parametrize(("second", "seed"), [("kv", 0), ("kv", 1), ("postgres", 2), ("postgres", 3)])
async def test_what_is_deleted_and_when_is_what_the_rules_say(
    deployment: Deployment, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over days, with passes that have little time, stores that fail, and processes that are killed, two at once."""
    random = deployment.random
    random.seed(seed)
    monkeypatch.setattr(collection, "STORE_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(collection, "MAX_KEYS", 3)
    monkeypatch.setattr(collection, "MAX_SEARCHED", 7)
    monkeypatch.setattr("noetl_serverless.reconciler.retention.TASK_SECONDS", random.choice((0.0, 0.01, 0.4)))
    one, two = deployment.retention(), deployment.retention()
    await made_at_random(deployment, random)
    for step in (timedelta(), 5 * MINUTE, 26 * HOUR, 5 * DAY):
        await deployment.move(step)
        kept = deployment.expected_objects()
        for store in deployment.stores.values():
            store.failing, store.kills = random.choice(((0.0, 0.0), (0.1, 0.0), (0.0, 0.2), (0.1, 0.1)))
        for _ in range(6):
            await deployment.work(one, two)
        for store in deployment.stores.values():
            store.failing = store.kills = 0.0
        lost = kept - await deployment.objects()
        assert not lost, f"{step} later, these were deleted although they were needed: {deployment.described(lost)}"
        await deployment.finish(one)
        left, expected = await deployment.objects(), deployment.expected_objects()
        assert left == expected, f"{step} later: {deployment.described(left ^ expected)}"
        assert await deployment.rows() == deployment.expected_rows(), f"{step} later"


@pytest.mark.parametrize("failure", ["error", "hang"])
async def test_a_store_that_is_away_holds_up_neither_the_others_nor_other_tasks(
    deployment: Deployment, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await deployment.execution(ended=deployment.now() - 8 * DAY)
    for scope in (*SCOPES, None):
        for store in deployment.stores:
            await deployment.store(run, *([Row(of=run.id, scope=scope)] if scope else []), store=store)
    unknown = await deployment.execution(known=False)
    for store in deployment.stores:
        await deployment.store(unknown, store=store)
    monkeypatch.setattr(collection, "STORE_TIMEOUT_SECONDS", 0.05)
    deployment.other.failing = 1.0
    if failure == "hang":
        deployment.other.failing = 0.0

        async def hang(prefix: str, after: str = "") -> AsyncIterator[str]:
            await asyncio.sleep(3600)
            yield prefix

        monkeypatch.setattr(deployment.other, "list", hang)
    failures = metrics.result_store_failures.labels("kv")
    before = counted(failures)
    async with asyncio.timeout(5):
        await deployment.finish()
    left = await deployment.objects()
    expected = deployment.expected_objects()
    assert {it for it in left if it[0] == "disk"} == {it for it in expected if it[0] == "disk"}
    assert len([it for it in left if it[0] == "kv"]) >= 5, "what lies in the other store stays for now"
    assert counted(failures) > before
    monkeypatch.undo()
    deployment.other.failing = 0.0
    # another process, that has not seen it fail
    await deployment.move(2 * DAY)
    await deployment.finish()
    assert await deployment.objects() == deployment.expected_objects()
    assert await deployment.rows() == deployment.expected_rows()


async def test_a_store_that_failed_is_left_alone_for_a_while(deployment: Deployment) -> None:
    run = await deployment.execution(ended=deployment.now() - 8 * DAY)
    await deployment.store(run, Row(of=run.id), store="kv")
    deployment.other.failing = 1.0
    retention = deployment.retention()
    await deployment.finish(retention, ("results",))
    calls = deployment.other.calls
    await deployment.finish(retention, TASKS)
    assert deployment.other.calls == calls
    [[wait]] = await deployment.database.run(
        "SELECT extract(epoch FROM due_at - now())::float8 FROM noetl.chore WHERE name = 'strays'"
    )
    assert 30 < wait <= 60, "it is tried again when the pause is over"


@pytest.mark.parametrize("scope", ["expiry", "step", "execution"])
async def test_killed_between_object_and_row(
    deployment: Deployment, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves is marked as gone, and the next pass deletes it."""
    run = await deployment.execution(ended=deployment.now() - 8 * DAY)
    row = Row(of=run.id, scope=scope) if scope != "expiry" else Row(of=run.id, expires=deployment.now() - HOUR)
    await deployment.store(run, row)

    async def dies(self: MaintenanceTasks, results: Any) -> None:
        raise Killed

    tasks = ("orphans",) if scope == "step" else ("results",)
    with monkeypatch.context() as patch:
        patch.setattr(MaintenanceTasks, "delete_result_rows", dies)
        with pytest.raises(Killed):
            await deployment.finish(tasks=tasks)
    assert await deployment.objects() == set()
    assert await deployment.rows() != set()
    [[kept]] = await deployment.database.run(
        "SELECT results_kept FROM noetl.execution WHERE execution_id = :id", id=run.id
    )
    assert kept == {"expiry": None, "step": "execution", "execution": "permanent"}[scope]
    await deployment.finish(tasks=tasks)
    assert await deployment.rows() == set()


async def test_a_deletion_that_did_not_come_to_its_end_is_completed(deployment: Deployment) -> None:
    """Of what a user has put; the row of a step's result stays, as its log has it, and its object goes with the end."""
    running = await deployment.execution()
    ended = await deployment.execution(ended=deployment.now() - HOUR)
    for run in (running, ended):
        for name, put, minutes in (("put", True, 21), ("just-now", True, 19), ("step", False, 21)):
            await deployment.store(run, Row(of=run.id, scope="permanent"), name=name)
            await deployment.database.run(
                """UPDATE noetl.result_ref SET deleted_at = now() - make_interval(mins => :minutes),
                put_by = CASE WHEN :put THEN '{}'::jsonb END WHERE key = :key""",
                minutes=minutes,
                put=put,
                key=f"{run.id}/step/{name}",
            )
    done = await deployment.finish()
    assert done["result_deletions_finished"] == 2
    expected = ((running, "just-now"), (running, "step"), (ended, "just-now"))
    assert await deployment.objects() == {("disk", f"{run.id}/step/{name}") for run, name in expected}
    rows = {key.rpartition("/")[2] for _, _, key in await deployment.rows()}
    assert rows == {"just-now", "step"}


async def test_what_could_not_be_deleted_keeps_its_row(deployment: Deployment) -> None:
    run = await deployment.execution()
    for number in range(3):
        await deployment.store(run, Row(of=run.id, expires=deployment.now() - HOUR), name=f"{number}.json")
    deployment.disk.refused = {f"{run.id}/step/1.json"}
    await deployment.finish(tasks=("results",))
    assert await deployment.objects() == {("disk", f"{run.id}/step/1.json")}
    assert len(await deployment.rows()) == 1
    deployment.disk.refused = set()
    await deployment.finish(tasks=("results",))
    assert await deployment.objects() == await deployment.rows() == set()


async def test_a_copy_in_another_store_than_the_row_names_is_an_orphan(deployment: Deployment) -> None:
    """As where a write to one store failed, or came too late, and the result went to another."""
    run = await deployment.execution(ended=deployment.now() - HOUR)
    for store in ("disk", "kv"):
        await deployment.store(run, store=store, name="same.json")
    row = Row(of=run.id)
    await deployment.store(run, row, name="same.json")
    await deployment.finish()
    assert await deployment.objects() == {("disk", f"{run.id}/step/same.json")}


async def test_orphans_behind_many_results_are_found_by_passes_with_little_time(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.reconciler.retention.TASK_SECONDS", 0.0)
    monkeypatch.setattr(collection, "MAX_KEYS", 2)
    run = await deployment.execution(ended=deployment.now() - HOUR)
    for number in range(10):
        await deployment.store(run, Row(of=run.id), name=f"{number}.json")
    await deployment.store(run, name="z.json")
    retention = deployment.retention()
    for _ in range(10):
        await deployment.work(retention, tasks=("orphans",))
    assert await deployment.objects() == deployment.expected_objects()


async def test_a_large_family_is_collected_by_passes_with_little_time(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.reconciler.retention.TASK_SECONDS", 0.0)
    top = await deployment.execution(ended=deployment.now() - 8 * DAY)
    for number in range(40):
        child = await deployment.execution(parent=top.id, ended=deployment.now() - 9 * DAY - number * MINUTE)
        await deployment.store(child, Row(of=child.id), name="1.json")
        await deployment.store(child)
    for task in ("orphans", "results"):
        done = await deployment.finish(tasks=(task,))
        assert sum(done.values()) == 2 * 41, "each execution, in each of the two stores"
    assert await deployment.objects() == await deployment.rows() == set()


@pytest.mark.parametrize("second", ["kv", "postgres"])
async def test_whoever_reads_by_ranges_meanwhile_gets_all_of_it_or_learns_that_it_is_gone(
    deployment: Deployment,
) -> None:
    run = await deployment.execution(ended=deployment.now() - 8 * DAY)
    content = bytes(range(256)) * 64
    stored = [
        await deployment.store(run, Row(of=run.id), store=store, content=content)
        for store in deployment.stores
        for _ in range(30)
    ]
    outcomes: set[str] = set()

    async def read(store: str, key: str) -> None:
        parts = []
        try:
            for offset in range(0, len(content), 1024):
                parts.append(await deployment.stores[store].get_range(key, offset, 1024))
                await asyncio.sleep(0)
        except KeyError:
            outcomes.add("gone")
        else:
            assert b"".join(parts) == content, f"wrong bytes of {key}"
            outcomes.add("whole")

    async def read_all() -> None:
        for it in stored:
            await read(it.store, it.key)

    await read(stored[0].store, stored[0].key)
    await asyncio.gather(deployment.finish(), *(read_all() for _ in range(4)))
    assert outcomes == {"gone", "whole"}
    assert await deployment.objects() == set()


async def test_a_pass_deletes_a_bounded_number_of_objects(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.reconciler.retention.TASK_SECONDS", 0.0)
    for age in (2 * HOUR, 2 * HOUR, 9 * DAY):
        run = await deployment.execution(ended=deployment.now() - age)
        for number in range(60):
            await deployment.store(run, *([Row(of=run.id)] if number % 2 else []))
    unknown = await deployment.execution(known=False)
    for _ in range(60):
        await deployment.store(unknown)
    retention = deployment.retention()
    left = [len(await deployment.objects())]
    for _ in range(60):
        await deployment.work(retention)
        left.append(len(await deployment.objects()))
    assert await deployment.objects() == deployment.expected_objects()
    most = max(before - after for before, after in pairwise(left))
    assert 0 < most <= collection.MAX_STORE_CALLS


async def test_what_lies_beside_the_executions_is_left_alone(deployment: Deployment) -> None:
    names = ["archive/log/year=2020/month=01/1-2-3.jsonl.gz", "-1/step/a.json", "007/step/a.json", "x/step/a.json"]
    names += [f"{10**19}/step/a.json", "12", "9" * 30 + "/a.json"]
    for name in names:
        await deployment.disk.put(name, b"x")
    done = await deployment.finish(tasks=("strays",))
    assert {key for _, key in await deployment.objects()} == set(names)
    assert done == {"unknown_executions_cleared": 1}, "only 12 may be an execution"


async def test_an_execution_whose_row_is_lost_keeps_what_its_log_refers_to(deployment: Deployment) -> None:
    run = await deployment.execution(known=False)
    await deployment.store(run)
    started = """INSERT INTO noetl.event (execution_id, seq, type, at, payload)
        VALUES (:id, 1, 'playbook.started', now(), '{}')"""
    await deployment.database.run(started, id=run.id)
    await deployment.finish()
    assert len(await deployment.objects()) == 1


async def test_results_that_are_kept_do_not_hold_up_the_search_behind_them(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.reconciler.retention.TASK_SECONDS", 0.0)
    monkeypatch.setattr(collection, "MAX_KEYS", 2)
    monkeypatch.setattr(collection, "MAX_STORE_CALLS", 2)
    for number in range(12):
        run = await deployment.execution(known=False, days=50 - number)
        for _ in range(5):
            await deployment.store(run, *([Row(of=run.id, scope="permanent")] if number < 8 else []))
    retention = deployment.retention()
    for _ in range(100):
        await deployment.work(retention, tasks=("strays",))
    assert await deployment.objects() == deployment.expected_objects()


async def test_the_search_begins_anew_a_day_after_it_came_to_the_end(deployment: Deployment) -> None:
    await deployment.finish(tasks=("strays",))
    run = await deployment.execution(known=False)
    await deployment.store(run)
    await deployment.move(DAY - HOUR)
    await deployment.finish(tasks=("strays",))
    assert len(await deployment.objects()) == 1
    await deployment.move(2 * HOUR)
    await deployment.finish(tasks=("strays",))
    assert await deployment.objects() == set()


async def test_where_the_release_before_had_come_is_where_it_goes_on(deployment: Deployment) -> None:
    early = await deployment.execution(ended=deployment.now() - 20 * DAY)
    late = await deployment.execution(ended=deployment.now() - 10 * DAY)
    for run in (early, late):
        await deployment.store(run, Row(of=run.id))
    assert early.ended is not None
    await deployment.database.run(
        "UPDATE noetl.chore SET position = jsonb_build_object('at', CAST(:at AS text), 'id', CAST(:id AS bigint)) "
        "WHERE name = 'results'",
        at=(early.ended + MINUTE).isoformat(),
        id=early.id,
    )
    done = await deployment.finish(tasks=("results",))
    assert done["executions_without_results"] == 2, "one in each store"
    assert {int(key.split("/")[0]) for _, key in await deployment.objects()} == {early.id}


def test_the_grace_is_longer_than_a_worker_runs() -> None:
    assert timedelta(minutes=15) < GRACE < TTL
