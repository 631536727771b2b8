"""What the reconciler sends away by itself: to the archive, for good, results, and whole months of events."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from tests.integration.archive.conftest import Stand, days_ago, started_at

from noetl_serverless.engine import decide
from noetl_serverless.engine import events as e
from noetl_serverless.store.connection import connect

PARENT = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: parent, path: demo/parent}
workflow:
  - {step: call, tool: {kind: playbook, path: demo/two}, next: {arcs: [{step: last}]}}
  - {step: last, tool: {kind: noop}}
"""


async def stored(stand: Stand, id: str, *names: str) -> None:
    for name in names:
        await stand.store.put(f"{id}/step/{name}.json", b"[1]")


def results_of(stand: Stand, id: str) -> list[str]:
    return [key for key in stand.files() if key.startswith(f"{id}/")]


async def partitions(stand: Stand) -> set[str]:
    sql = "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'noetl.event'::regclass"
    return {name for (name,) in await stand.sql(sql)}


async def make_partition(stand: Stand, id: str) -> str:
    """The partition of the month in which the execution started, which is made ahead in real life."""
    await stand.sql("SELECT noetl.ensure_partitions(:at)", at=started_at(id))
    return f"event_{started_at(id):%Y_%m}"


async def old_run(stand: Stand, days: float, path: str = "demo/two") -> str:
    id = await stand.run(path)
    await make_partition(stand, str(int(id) - (round(days * 86_400_000) << 22)))
    return await stand.shift(id, days)


async def test_nothing_leaves_unless_it_is_asked_for(stand: Stand) -> None:
    id = await old_run(stand, 1000)
    await stored(stand, id, "a")
    await stand.do_tasks(stand.retention(), "archive", "expire", "results", "purge")
    assert (await stand.user.get(f"/api/executions/{id}")).json["archived"] is False
    assert results_of(stand, id)


async def test_the_reconciler_archives_what_is_old_enough(stand: Stand) -> None:
    old, young = await old_run(stand, 31), await old_run(stand, 29)
    done = await stand.do_tasks(stand.retention(archive_after_days=30), "archive")
    assert done["batches_planned"] == 1
    assert (await stand.user.get(f"/api/executions/{old}")).json["archived"] is True
    assert (await stand.user.get(f"/api/executions/{young}")).json["archived"] is False


async def test_a_month_of_which_all_has_left_is_dropped_not_deleted(stand: Stand) -> None:
    ids = [await old_run(stand, 70 + hour / 24) for hour in range(3)]
    # in the same month, whichever day of it today is
    ids = [id for id in ids if started_at(id).month == started_at(ids[0]).month]
    name = await make_partition(stand, ids[0])
    await stand.archive()
    assert await stand.count(name) > 0, "its events wait for the drop"
    assert all([(await stand.user.get(f"/api/executions/{id}/events")).json for id in ids])
    done = await stand.do_tasks(stand.retention(), "purge")
    assert (done["partitions_dropped"] >= 1, done["events_purged"]) == (True, 0)
    assert name not in await partitions(stand)
    assert await stand.count("archive", "purged_at IS NULL") == 0
    assert all([(await stand.user.get(f"/api/executions/{id}/events")).json for id in ids])


async def test_a_month_with_something_left_in_it_stays(stand: Stand) -> None:
    gone, stays = await old_run(stand, 70), await old_run(stand, 70)
    name = await make_partition(stand, gone)
    await stand.sql("UPDATE noetl.execution SET ended_at = now() WHERE execution_id = :id", id=stays)
    await stand.plan(days_ago(1))
    await stand.archivist().run(600)
    assert (await stand.do_tasks(stand.retention(), "purge"))["events_purged"] == 0
    assert name in await partitions(stand)
    # not for ever: after a week what has left is deleted from beside it
    await stand.sql("UPDATE noetl.archive SET registered_at = now() - interval '8 days'")
    assert (await stand.do_tasks(stand.retention(), "purge"))["events_purged"] > 0
    assert await stand.count("event", f"execution_id = {gone}") == 0
    assert await stand.count("event", f"execution_id = {stays}") > 0


async def test_a_log_without_its_row_keeps_its_month(stand: Stand) -> None:
    gone, lost = await old_run(stand, 70), await old_run(stand, 70)
    name = await make_partition(stand, gone)
    await stand.sql("DELETE FROM noetl.execution WHERE execution_id = :id", id=lost)
    await stand.archive()
    await stand.do_tasks(stand.retention(), "purge")
    assert name in await partitions(stand)
    rebuilt = await stand.user.of("operator").post("/api/replay/rebuild", {"execution_id": lost})
    assert rebuilt.status == 200
    await stand.archive()
    await stand.do_tasks(stand.retention(), "purge")
    assert name not in await partitions(stand)


async def test_a_month_in_use_is_dropped_later(stand: Stand, postgres_url: str) -> None:
    name = await make_partition(stand, await old_run(stand, 70))
    await stand.archive()
    reader = connect(postgres_url)
    try:
        reader.run("BEGIN")
        reader.run("SELECT 1 FROM noetl.event LIMIT 1")
        await stand.do_tasks(stand.retention(), "purge")
        assert name in await partitions(stand)
        reader.run("COMMIT")
    finally:
        reader.close()
    await stand.do_tasks(stand.retention(), "purge")
    assert name not in await partitions(stand)


async def test_what_is_past_retention_is_deleted_with_its_results(stand: Stand) -> None:
    old, young = await old_run(stand, 101), await old_run(stand, 99)
    await stored(stand, old, "a", "b")
    await stored(stand, young, "a")
    name = await make_partition(stand, old)
    done = await stand.do_tasks(stand.retention(retention_days=100), "expire", "purge")
    assert done["executions_expired"] == 1
    assert (await stand.user.get(f"/api/executions/{old}")).status == 404
    assert (await stand.user.get(f"/api/executions/{old}/events")).status == 404
    assert results_of(stand, old) == [] and len(results_of(stand, young)) == 1
    assert [entry["execution_id"] for entry in (await stand.user.get("/api/executions")).json] == [young]
    same_month = started_at(old).month == started_at(young).month
    assert (name in await partitions(stand)) is same_month
    if not same_month:
        assert await stand.count("archive") == await stand.count("archived") == 0


async def test_retention_ends_the_archive_too(stand: Stand) -> None:
    old = await old_run(stand, 101)
    await stored(stand, old, "a")
    await stand.archive()
    retention = stand.retention(retention_days=100)
    await stand.do_tasks(retention, "purge", "expire", "purge", "expire")
    assert stand.files() == []
    assert (await stand.user.get(f"/api/executions/{old}")).status == 404
    assert await stand.count("archive") == await stand.count("archived") == await stand.count("event") == 0


async def test_results_go_after_their_time_and_the_log_stays(stand: Stand) -> None:
    old, young, archived = await old_run(stand, 8), await old_run(stand, 6), await old_run(stand, 20)
    await stand.plan(days_ago(15))
    await stand.archivist().run(600)
    for id in (old, young, archived):
        await stored(stand, id, "a", "b")
    running = str((await stand.user.post("/api/execute", {"path": "demo/two"})).json["execution_id"])
    await stored(stand, running, "a")
    done = await stand.do_tasks(stand.retention(result_ttl_days=7), "results")
    assert done["executions_without_results"] == 2
    assert [len(results_of(stand, id)) for id in (old, archived, young, running)] == [0, 0, 2, 1]
    assert (await stand.user.get(f"/api/executions/{old}/events")).json
    # each once: what is written below the prefix later is not looked for again
    await stored(stand, old, "late")
    await stand.do_tasks(stand.retention(result_ttl_days=7), "results")
    assert len(results_of(stand, old)) == 1


async def parent_and_child(stand: Stand) -> tuple[str, str, dict[str, Any]]:
    """A parent that runs on, its child that has ended, and the parent's next command."""
    assert (await stand.user.post("/api/catalog/register", {"content": PARENT})).status == 200
    parent = str((await stand.user.post("/api/execute", {"path": "demo/parent"})).json["execution_id"])
    [call] = await stand.hands.claim()
    commands = (await stand.hands.report(call, status="parked", child={"path": "demo/two"}))["commands"]
    commands = commands or await stand.hands.claim()
    while commands[0]["execution_id"] != parent:
        [command, *rest] = commands
        commands = rest + (await stand.hands.report(command, data=1))["commands"] or await stand.hands.claim()
        if commands and commands[0]["execution_id"] == parent and commands[0]["step"] == "call":
            commands = (await stand.hands.report(commands[0], data=1))["commands"] or await stand.hands.claim()
    found = (await stand.user.get("/api/executions", parent_execution_id=parent)).json
    [child] = [entry["execution_id"] for entry in found]
    assert found[0]["status"] == "COMPLETED"
    return parent, child, commands[0]


async def test_a_child_s_results_stay_while_its_parent_runs(stand: Stand) -> None:
    parent, child, last = await parent_and_child(stand)
    await stored(stand, child, "a")
    await stored(stand, parent, "a")
    at_once = stand.retention(result_ttl_days=1e-9, retention_days=1e-9)
    await stand.do_tasks(at_once, "results", "expire")
    assert (len(results_of(stand, child)), len(results_of(stand, parent))) == (1, 1)
    await stand.hands.report(last, data=1)
    await asyncio.sleep(0.01)
    await stand.do_tasks(at_once, "results")
    assert results_of(stand, child) == results_of(stand, parent) == []
    assert (await stand.user.get(f"/api/executions/{child}")).status == 200
    await stand.do_tasks(at_once, "expire")
    assert (await stand.user.get(f"/api/executions/{child}")).status == 404
    assert (await stand.user.get(f"/api/executions/{parent}")).status == 404


async def test_an_archived_child_is_still_its_parent_s(stand: Stand) -> None:
    parent, child, last = await parent_and_child(stand)
    await stand.archive()
    assert (await stand.user.get(f"/api/executions/{child}")).json["archived"] is True
    await stand.hands.report(last, data=1)
    assert (await stand.user.get(f"/api/executions/{parent}/recording")).json["children"] == [child]
    await stand.archive()
    assert (await stand.user.get(f"/api/executions/{parent}/recording")).json["children"] == [child]
    found = (await stand.user.get("/api/executions", parent_execution_id=parent)).json
    assert [entry["execution_id"] for entry in found] == [child]


async def test_a_child_stays_while_its_parent_is_in_quarantine(stand: Stand) -> None:
    parent, child, last = await parent_and_child(stand)

    def broken(decider: decide.Decider) -> None:
        raise RuntimeError("no idea what follows")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(decide.DECIDE, e.CALL_DONE, broken)
        await stand.hands.report(last, data=1)
    assert (await stand.user.get(f"/api/executions/{parent}")).json["quarantined"]
    assert (await stand.plan())["planned"] == []
    await stand.do_tasks(stand.retention(retention_days=1e-9), "expire")
    assert (await stand.user.get(f"/api/executions/{child}")).json["archived"] is False, "its end may be asked for"
    assert (await stand.user.delete(f"/api/quarantine/{parent}")).status == 200
    await stand.archive()
    assert (await stand.user.get(f"/api/executions/{child}")).json["archived"] is True


async def test_a_result_with_a_time_of_its_own(stand: Stand) -> None:
    ended = await stand.run("demo/two")
    running = str((await stand.user.post("/api/execute", {"path": "demo/two"})).json["execution_id"])
    for id in (ended, running):
        await stored(stand, id, "over", "not-yet")
        for name, age in (("over", "-1 s"), ("not-yet", "1 h")):
            await stand.sql(
                f"""INSERT INTO noetl.result_ref (
                    execution_id, key, ref, store, bytes, sha256, content_type, scope, expires_at)
                VALUES (:id, :key, 'noetl://x', 'disk', 3, '', 'a/json', 'execution', now() + interval '{age}')""",
                id=id,
                key=f"{id}/step/{name}.json",
            )
    await stand.do_tasks(stand.retention(), "results")
    assert results_of(stand, ended) == [f"{ended}/step/not-yet.json"]
    assert len(results_of(stand, running)) == 2
    assert await stand.count("result_ref", f"execution_id = {ended}") == 1


@pytest.mark.parametrize("settings", [{"result_ttl_days": 1.0}, {"retention_days": 1.0}], ids=["ttl", "retention"])
async def test_a_pass_does_only_so_much_and_goes_on(
    stand: Stand, settings: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.reconciler.retention.TASK_SECONDS", 0.0)
    ids = [await old_run(stand, 2) for _ in range(3)]
    for id in ids:
        await stored(stand, id, *(f"n{number}" for number in range(40)))
    retention = stand.retention(**settings)
    task = "results" if "result_ttl_days" in settings else "expire"
    await stand.sql("UPDATE noetl.chore SET due_at = now() + interval '1 h' WHERE name <> :name", name=task)
    left, passes = [len(stand.files())], 0
    while left[-1] and passes < 50:
        await retention.run_next_task()
        left.append(len(stand.files()))
        passes += 1
    assert left[-1] == 0 and passes > 3
    assert all(before - after <= 40 for before, after in pairwise(left))


async def test_two_reconcilers_share_the_tasks(stand: Stand) -> None:
    one, two = stand.retention(), stand.retention()
    await asyncio.gather(*(retention.run_next_task() for retention in (one, two) for _ in range(2)))
    assert await stand.count("chore", "due_at <= now()") == 0
