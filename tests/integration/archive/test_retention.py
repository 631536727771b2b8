"""What the reconciler sends away by itself: to the archive, for good, results, and whole months of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from tests.integration.archive.conftest import ArchiveHarness, days_ago, started_at

from noetl_serverless.engine import decide
from noetl_serverless.engine import events as e
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.store.connection import connect

PARENT = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: parent, path: demo/parent}
workflow:
  - {step: call, tool: {kind: playbook, path: demo/two}, next: {arcs: [{step: last}]}}
  - {step: last, tool: {kind: noop}}
"""


async def stored(harness: ArchiveHarness, id: str, *names: str) -> None:
    for name in names:
        await harness.store.put(f"{id}/step/{name}.json", b"[1]")


def results_of(harness: ArchiveHarness, id: str) -> list[str]:
    return [key for key in harness.files() if key.startswith(f"{id}/")]


async def partitions(harness: ArchiveHarness) -> set[str]:
    sql = "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'noetl.event'::regclass"
    return {name for (name,) in await harness.sql(sql)}


async def make_partition(harness: ArchiveHarness, id: str) -> str:
    """The partition of the month in which the execution started, which is made ahead in real life."""
    await harness.sql("SELECT noetl.create_partitions(:at)", at=started_at(id))
    return f"event_{started_at(id):%Y_%m}"


async def old_run(harness: ArchiveHarness, days: float, path: str = "demo/two") -> str:
    id = await harness.run(path)
    await make_partition(harness, str(int(id) - (round(days * 86_400_000) << 22)))
    return await harness.shift(id, days)


async def test_nothing_leaves_unless_it_is_asked_for(harness: ArchiveHarness) -> None:
    id = await old_run(harness, 1000)
    await stored(harness, id, "a")
    await harness.do_tasks(harness.retention(), "archive", "expire", "results", "purge")
    assert (await harness.user.get(f"/api/executions/{id}")).json["archived"] is False
    assert results_of(harness, id)


async def test_the_reconciler_archives_what_is_old_enough(harness: ArchiveHarness) -> None:
    old, young = await old_run(harness, 31), await old_run(harness, 29)
    done = await harness.do_tasks(harness.retention(archive_after_days=30), "archive")
    assert done["batches_planned"] == 1
    assert (await harness.user.get(f"/api/executions/{old}")).json["archived"] is True
    assert (await harness.user.get(f"/api/executions/{young}")).json["archived"] is False


async def test_a_month_of_which_all_has_left_is_dropped_not_deleted(harness: ArchiveHarness) -> None:
    ids = [await old_run(harness, 70 + hour / 24) for hour in range(3)]
    # in the same month, whichever day of it today is
    ids = [id for id in ids if started_at(id).month == started_at(ids[0]).month]
    name = await make_partition(harness, ids[0])
    await harness.archive()
    assert await harness.count(name) > 0, "its events wait for the drop"
    assert all([(await harness.user.get(f"/api/executions/{id}/events")).json for id in ids])
    done = await harness.do_tasks(harness.retention(), "purge")
    assert (done["partitions_dropped"] >= 1, done["events_purged"]) == (True, 0)
    assert name not in await partitions(harness)
    assert await harness.count("archive", "purged_at IS NULL") == 0
    assert all([(await harness.user.get(f"/api/executions/{id}/events")).json for id in ids])


async def test_a_month_with_something_left_in_it_stays(harness: ArchiveHarness) -> None:
    gone, stays = await old_run(harness, 70), await old_run(harness, 70)
    name = await make_partition(harness, gone)
    await harness.sql("UPDATE noetl.execution SET ended_at = now() WHERE execution_id = :id", id=stays)
    await harness.plan(days_ago(1))
    await harness.archivist().run(600)
    assert (await harness.do_tasks(harness.retention(), "purge"))["events_purged"] == 0
    assert name in await partitions(harness)
    # not for ever: after a week what has left is deleted from beside it
    await harness.sql("UPDATE noetl.archive SET registered_at = now() - interval '8 days'")
    assert (await harness.do_tasks(harness.retention(), "purge"))["events_purged"] > 0
    assert await harness.count("event", f"execution_id = {gone}") == 0
    assert await harness.count("event", f"execution_id = {stays}") > 0


async def test_a_log_without_its_row_keeps_its_month(harness: ArchiveHarness) -> None:
    gone, lost = await old_run(harness, 70), await old_run(harness, 70)
    name = await make_partition(harness, gone)
    await harness.sql("DELETE FROM noetl.execution WHERE execution_id = :id", id=lost)
    await harness.archive()
    await harness.do_tasks(harness.retention(), "purge")
    assert name in await partitions(harness)
    rebuilt = await harness.user.of("operator").post("/api/replay/rebuild", {"execution_id": lost})
    assert rebuilt.status == 200
    await harness.archive()
    await harness.do_tasks(harness.retention(), "purge")
    assert name not in await partitions(harness)


async def test_a_month_in_use_is_dropped_later(harness: ArchiveHarness, postgres_url: str) -> None:
    name = await make_partition(harness, await old_run(harness, 70))
    await harness.archive()
    reader = connect(postgres_url)
    try:
        reader.run("BEGIN")
        reader.run("SELECT 1 FROM noetl.event LIMIT 1")
        await harness.do_tasks(harness.retention(), "purge")
        assert name in await partitions(harness)
        reader.run("COMMIT")
    finally:
        reader.close()
    await harness.do_tasks(harness.retention(), "purge")
    assert name not in await partitions(harness)


async def test_what_is_past_retention_is_deleted_with_its_results(harness: ArchiveHarness) -> None:
    old, young = await old_run(harness, 101), await old_run(harness, 99)
    await stored(harness, old, "a", "b")
    await stored(harness, young, "a")
    name = await make_partition(harness, old)
    done = await harness.do_tasks(harness.retention(retention_days=100), "expire", "purge")
    assert done["executions_expired"] == 1
    assert (await harness.user.get(f"/api/executions/{old}")).status == 404
    assert (await harness.user.get(f"/api/executions/{old}/events")).status == 404
    assert results_of(harness, old) == [] and len(results_of(harness, young)) == 1
    assert [entry["execution_id"] for entry in (await harness.user.get("/api/executions")).json] == [young]
    same_month = started_at(old).month == started_at(young).month
    assert (name in await partitions(harness)) is same_month
    if not same_month:
        assert await harness.count("archive") == await harness.count("archived") == 0


async def test_retention_ends_the_archive_too(harness: ArchiveHarness) -> None:
    old = await old_run(harness, 101)
    await stored(harness, old, "a")
    await harness.archive()
    retention = harness.retention(retention_days=100)
    await harness.do_tasks(retention, "purge", "expire", "purge", "expire")
    assert harness.files() == []
    assert (await harness.user.get(f"/api/executions/{old}")).status == 404
    assert await harness.count("archive") == await harness.count("archived") == await harness.count("event") == 0


async def test_results_go_after_their_time_and_the_log_stays(harness: ArchiveHarness) -> None:
    old, young, archived = await old_run(harness, 8), await old_run(harness, 6), await old_run(harness, 20)
    await harness.plan(days_ago(15))
    await harness.archivist().run(600)
    for id in (old, young, archived):
        await stored(harness, id, "a", "b")
    running = str((await harness.user.post("/api/execute", {"path": "demo/two"})).json["execution_id"])
    await stored(harness, running, "a")
    done = await harness.do_tasks(harness.retention(result_ttl_days=7), "results")
    assert done["executions_without_results"] == 2
    assert [len(results_of(harness, id)) for id in (old, archived, young, running)] == [0, 0, 2, 1]
    assert (await harness.user.get(f"/api/executions/{old}/events")).json
    # each once: what is written below the prefix later is not looked for again
    await stored(harness, old, "late")
    await harness.do_tasks(harness.retention(result_ttl_days=7), "results")
    assert len(results_of(harness, old)) == 1


async def parent_and_child(harness: ArchiveHarness) -> tuple[str, str, dict[str, Any]]:
    """A parent that runs on, its child that has ended, and the parent's next command."""
    assert (await harness.user.post("/api/catalog/register", {"content": PARENT})).status == 200
    parent = str((await harness.user.post("/api/execute", {"path": "demo/parent"})).json["execution_id"])
    [call] = await harness.hands.claim()
    commands = (await harness.hands.report(call, status="parked", child={"path": "demo/two"}))["commands"]
    commands = commands or await harness.hands.claim()
    while commands[0]["execution_id"] != parent:
        [command, *rest] = commands
        commands = rest + (await harness.hands.report(command, data=1))["commands"] or await harness.hands.claim()
        if commands and commands[0]["execution_id"] == parent and commands[0]["step"] == "call":
            commands = (await harness.hands.report(commands[0], data=1))["commands"] or await harness.hands.claim()
    found = (await harness.user.get("/api/executions", parent_execution_id=parent)).json
    [child] = [entry["execution_id"] for entry in found]
    assert found[0]["status"] == "COMPLETED"
    return parent, child, commands[0]


async def test_a_child_s_results_stay_while_its_parent_runs(harness: ArchiveHarness) -> None:
    parent, child, last = await parent_and_child(harness)
    await stored(harness, child, "a")
    await stored(harness, parent, "a")
    at_once = harness.retention(result_ttl_days=1e-9, retention_days=1e-9)
    await harness.do_tasks(at_once, "results", "expire")
    assert (len(results_of(harness, child)), len(results_of(harness, parent))) == (1, 1)
    await harness.hands.report(last, data=1)
    await asyncio.sleep(0.01)
    await harness.do_tasks(at_once, "results")
    assert results_of(harness, child) == results_of(harness, parent) == []
    assert (await harness.user.get(f"/api/executions/{child}")).status == 200
    await harness.do_tasks(at_once, "expire")
    assert (await harness.user.get(f"/api/executions/{child}")).status == 404
    assert (await harness.user.get(f"/api/executions/{parent}")).status == 404


async def restarted(harness: ArchiveHarness, id: str) -> tuple[str, dict[str, Any]]:
    """An execution that goes on with this one from its last step, and its command."""
    answer = await harness.user.post(f"/api/executions/{id}/restart", {"from": "second"})
    assert answer.status == 200, answer.body
    [command] = await harness.hands.claim()
    return str(answer.json["execution_id"]), command


async def test_results_stay_while_an_execution_that_goes_on_with_theirs_runs(harness: ArchiveHarness) -> None:
    old = await harness.run("demo/two")
    first, command = await restarted(harness, old)
    await harness.hands.report(command, data=1)
    second, command = await restarted(harness, first)
    other, other_command = await restarted(harness, old)
    for id in (old, first, second, other):
        await stored(harness, id, "a")
    at_once = harness.retention(result_ttl_days=1e-9, retention_days=1e-9)
    await harness.do_tasks(at_once, "results", "expire")
    assert [len(results_of(harness, id)) for id in (old, first, second, other)] == [1, 1, 1, 1]
    await harness.hands.report(other_command, data=1)
    await asyncio.sleep(0.01)
    await harness.do_tasks(at_once, "results", "expire")
    assert [len(results_of(harness, id)) for id in (old, first, second, other)] == [1, 1, 1, 0]
    await harness.hands.report(command, data=1)
    await asyncio.sleep(0.01)
    await harness.do_tasks(at_once, "results")
    assert [len(results_of(harness, id)) for id in (old, first, second)] == [0, 0, 0]
    await harness.do_tasks(at_once, "expire")
    for id in (old, first, second, other):
        assert (await harness.user.get(f"/api/executions/{id}")).status == 404


async def test_an_archived_execution_is_restarted_from_its_archive(harness: ArchiveHarness) -> None:
    old = await harness.run("demo/two")
    await harness.archive()
    new, command = await restarted(harness, old)
    await harness.hands.report(command, data=1)
    assert (await harness.user.get(f"/api/executions/{old}")).json["restarts"] == [new]
    await harness.archive()
    entry = (await harness.user.get(f"/api/executions/{new}")).json
    assert (entry["archived"], entry["restarted_from"]) == (True, old)
    assert (await harness.user.get("/api/replay/validate", execution_id=new)).json["differences"] == []
    listed = {it["execution_id"]: it["restarted_from"] for it in (await harness.user.get("/api/executions")).json}
    assert listed == {old: None, new: old}


async def test_an_archived_child_is_still_its_parent_s(harness: ArchiveHarness) -> None:
    parent, child, last = await parent_and_child(harness)
    await harness.archive()
    assert (await harness.user.get(f"/api/executions/{child}")).json["archived"] is True
    await harness.hands.report(last, data=1)
    assert (await harness.user.get(f"/api/executions/{parent}/recording")).json["children"] == [child]
    await harness.archive()
    assert (await harness.user.get(f"/api/executions/{parent}/recording")).json["children"] == [child]
    found = (await harness.user.get("/api/executions", parent_execution_id=parent)).json
    assert [entry["execution_id"] for entry in found] == [child]


async def test_a_child_stays_while_its_parent_is_in_quarantine(harness: ArchiveHarness) -> None:
    parent, child, last = await parent_and_child(harness)

    def broken(decider: decide.Decider) -> None:
        raise RuntimeError("no idea what follows")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(decide.DECIDE, e.CALL_DONE, broken)
        await harness.hands.report(last, data=1)
    assert (await harness.user.get(f"/api/executions/{parent}")).json["quarantined"]
    assert (await harness.plan())["planned"] == []
    await harness.do_tasks(harness.retention(retention_days=1e-9), "expire")
    assert (await harness.user.get(f"/api/executions/{child}")).json["archived"] is False, "its end may be asked for"
    assert (await harness.user.delete(f"/api/quarantine/{parent}")).status == 200
    await harness.archive()
    assert (await harness.user.get(f"/api/executions/{child}")).json["archived"] is True


async def test_a_result_with_a_time_of_its_own(harness: ArchiveHarness) -> None:
    ended = await harness.run("demo/two")
    running = str((await harness.user.post("/api/execute", {"path": "demo/two"})).json["execution_id"])
    for id in (ended, running):
        await stored(harness, id, "over", "just-over", "not-yet")
        for name, age in (("over", "-21 min"), ("just-over", "-19 min"), ("not-yet", "1 h")):
            await harness.sql(
                f"""INSERT INTO noetl.result_ref (
                    execution_id, key, ref, store, bytes, sha256, content_type, scope, expires_at)
                VALUES (:id, :key, 'noetl://x', 'disk', 3, '', 'a/json', 'execution', now() + interval '{age}')""",
                id=id,
                key=f"{id}/step/{name}.json",
            )
    done = await harness.do_tasks(harness.retention(), "results")
    assert done["results_expired"] == 2
    for id in (ended, running):
        # a worker may still be reading what has just expired
        assert results_of(harness, id) == [f"{id}/step/just-over.json", f"{id}/step/not-yet.json"]
        assert await harness.count("result_ref", f"execution_id = {id}") == 2


async def run_with_results(harness: ArchiveHarness, **of: dict[str, Any]) -> tuple[str, dict[str, dict[str, Any]]]:
    """An execution that has ended, each of whose two steps has stored a result; `of`: what references say besides."""
    id = str((await harness.user.post("/api/execute", {"path": "demo/two"})).json["execution_id"])
    refs: dict[str, dict[str, Any]] = {}
    commands = await harness.hands.claim()
    for name in ("first", "second"):
        [command] = commands
        stored = await externalise(
            [name],
            Place(execution_id=id, step=name, suffix="c"),
            ResultStores(harness.store),
            Output(inline_bytes=0),
        )
        refs[name] = {**stored["ref"], **of.get(name, {})}
        commands = (await harness.hands.report(command, ref=refs[name]))["commands"]
    assert (await harness.user.get(f"/api/executions/{id}")).json["status"] == "COMPLETED"
    return id, refs


@pytest.mark.parametrize("archived", [False, True], ids=["hot", "archived"])
async def test_a_permanent_result_outlives_its_execution(harness: ArchiveHarness, archived: bool) -> None:
    id, refs = await run_with_results(harness, first={"scope": "permanent"})
    await stored(harness, id, "without-a-row")
    if archived:
        await harness.archive()
    retention = harness.retention(retention_days=1e-9, result_ttl_days=1e-9)
    await harness.do_tasks(retention, *("results", "orphans", "purge", "expire", "purge", "expire", "strays"))
    assert (await harness.user.get(f"/api/executions/{id}")).status == 404
    assert await harness.count("archived") == 0
    assert harness.files() == [refs["first"]["key"]]
    assert await harness.sql("SELECT key, scope FROM noetl.result_ref") == [[refs["first"]["key"], "permanent"]]


async def test_results_of_an_archived_execution_go_by_their_own_rules(harness: ArchiveHarness) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    id, refs = await run_with_results(harness, first={"scope": "step"}, second={"expires_at": later.isoformat()})
    await harness.archive()
    assert await harness.count("result_ref") == 2
    assert (await harness.user.get("/api/replay/validate", execution_id=id)).json["differences"] == []
    await harness.sql("UPDATE noetl.archived SET ended_at = ended_at - interval '1 h'")
    await harness.do_tasks(harness.retention(), "results", "orphans")
    assert results_of(harness, id) == [refs["second"]["key"]]
    await harness.sql("UPDATE noetl.result_ref SET expires_at = expires_at - interval '2 h'")
    await harness.do_tasks(harness.retention(), "results")
    assert results_of(harness, id) == []
    assert await harness.count("result_ref") == 0
    assert (await harness.user.get("/api/replay/validate", execution_id=id)).json["differences"] == []


async def test_rows_and_log_agree_whatever_was_deleted(harness: ArchiveHarness) -> None:
    """And a rebuild brings back no row whose object is gone."""
    id, _ = await run_with_results(harness, first={"scope": "step"})
    await harness.sql("UPDATE noetl.execution SET ended_at = ended_at - interval '1 h'")

    async def differences() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await harness.user.get("/api/replay/validate", execution_id=id)).json[
            "differences"
        ]
        # its end was moved
        return [it for it in found if it["projection"] != "execution"]

    async def rebuilt() -> int:
        answer = await harness.user.of("operator").post("/api/replay/rebuild", {"execution_id": id})
        assert answer.status == 200, answer.body
        return await harness.count("result_ref")

    assert await rebuilt() == 2
    await harness.sql("UPDATE noetl.execution SET ended_at = ended_at - interval '1 h'")
    await harness.do_tasks(harness.retention(), "orphans")
    assert await harness.count("result_ref") == 1
    assert await differences() == []
    assert await rebuilt() == 1
    await harness.do_tasks(harness.retention(result_ttl_days=1e-9), "results")
    assert results_of(harness, id) == []
    assert await harness.count("result_ref") == 0
    assert await differences() == []
    assert await rebuilt() == 0


async def test_a_row_that_is_lost_is_a_difference_although_others_were_deleted(harness: ArchiveHarness) -> None:
    id, refs = await run_with_results(harness, first={"scope": "step"})
    await harness.sql("UPDATE noetl.execution SET results_kept = 'execution'")
    await harness.sql("DELETE FROM noetl.result_ref")
    answer = (await harness.user.get("/api/replay/validate", execution_id=id)).json
    assert [it["key"] for it in answer["differences"]] == [{"key": refs["second"]["key"]}]


async def test_a_restart_looks_for_each_result_that_may_have_gone_by_itself(harness: ArchiveHarness) -> None:
    id, refs = await run_with_results(harness, first={"scope": "step"})
    await harness.store.delete(refs["first"]["key"])
    answer = await harness.user.post(f"/api/executions/{id}/restart", {"from": "second"})
    assert answer.status == 409 and "no longer stored" in answer.json["detail"], answer.body


async def test_executions_are_deleted_while_a_store_is_away_and_what_it_has_of_them_later(
    harness: ArchiveHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = await old_run(harness, 101)
    await stored(harness, id, "a")
    retention = harness.retention(retention_days=100)

    async def away(prefix: str, after: str = "") -> AsyncIterator[str]:
        raise OSError("the store is away")
        yield prefix

    with monkeypatch.context() as patch:
        patch.setattr(harness.store, "list", away)
        assert (await harness.do_tasks(retention, "expire", "purge", "expire"))["executions_expired"] == 1
    assert (await harness.user.get(f"/api/executions/{id}")).status == 404
    assert len(results_of(harness, id)) == 1
    await harness.do_tasks(harness.retention(), "strays")
    assert results_of(harness, id) == []


async def test_a_batch_of_the_archive_stays_while_its_files_cannot_be_deleted(
    harness: ArchiveHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await old_run(harness, 101)
    await harness.archive()
    retention = harness.retention(retention_days=100)

    async def away(key: str) -> None:
        raise OSError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(harness.store, "delete", away)
        await harness.do_tasks(retention, "purge", "expire", "purge", "expire")
    assert await harness.count("archive") == 1
    assert len(harness.files()) == 4
    await harness.do_tasks(harness.retention(retention_days=100), "expire")
    assert (await harness.count("archive"), harness.files()) == (0, [])


@pytest.mark.parametrize("ages", [{"result_ttl_days": 1.0}, {"retention_days": 1.0}], ids=["ttl", "retention"])
async def test_a_pass_does_only_so_much_and_goes_on(
    harness: ArchiveHarness, ages: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.reconciler.retention.TASK_SECONDS", 0.0)
    ids = [await old_run(harness, 2) for _ in range(3)]
    for id in ids:
        await stored(harness, id, *(f"n{number}" for number in range(40)))
    retention = harness.retention(**ages)
    task = "results" if "result_ttl_days" in ages else "expire"
    await harness.sql("UPDATE noetl.chore SET due_at = now() + interval '1 h' WHERE name <> :name", name=task)
    left, passes = [len(harness.files())], 0
    while left[-1] and passes < 50:
        await retention.run_next_task()
        left.append(len(harness.files()))
        passes += 1
    assert left[-1] == 0 and passes > 3
    assert all(before - after <= 40 for before, after in pairwise(left))


async def test_two_reconcilers_share_the_tasks(harness: ArchiveHarness) -> None:
    one, two = harness.retention(), harness.retention()
    tasks = await harness.count("chore", "due_at <= now()")
    await asyncio.gather(*(retention.run_next_task() for retention in (one, two) for _ in range(-(-tasks // 2))))
    assert await harness.count("chore", "due_at <= now()") == 0
