"""What several executions that go on with the same have taken over is undone once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.orchestrator.conftest import Engine
from tests.unit.orchestrator.conftest import outcome as reported
from tests.unit.orchestrator.test_restart import CHAIN, SAGA, add, check, drive, failing, restart, restarted

from noetl_serverless.engine import events as e
from noetl_serverless.errors import Conflict
from noetl_serverless.orchestrator.restart import Restarted
from noetl_serverless.records import RelatedRestart


async def cancelled(engine: Engine, workflow: str = SAGA, *, after: int = 1) -> str:
    """One that was cancelled when this many steps had ended."""
    add(engine, workflow)
    old = await engine.start()
    for n in range(after):
        (command,) = await engine.claim()
        await engine.report(reported(command, {"n": n}), by=engine.another())
    await engine.orchestrator.controls.cancel(old, "enough")
    return old


async def test_what_one_of_them_has_undone_is_not_taken_over_by_another(either: Engine) -> None:
    old = await cancelled(either)
    first = await restarted(either, old)
    before = await cancelled_restart(either, old, first)
    # `b` fails, and `a` is undone
    undoes = await restarted(either, before)
    await drive(either, failing("b"))
    for id in (old, before):
        with pytest.raises(Conflict, match=f"{undoes}, which goes on with the same, has undone .*run --again {undoes}"):
            await restart(either, id)
        with pytest.raises(Conflict, match="has undone"):
            await restart(either, id, dry_run=True)
    await check(either, undoes)


async def cancelled_restart(engine: Engine, old: str, new: str) -> str:
    """Another one cannot begin while it runs; then it is cancelled, which undoes nothing."""
    with pytest.raises(Conflict, match=f"{new}, which goes on with the same, has not ended"):
        await restart(engine, old)
    await engine.orchestrator.controls.cancel(new, "enough")
    return new


async def test_one_that_undid_what_it_did_and_was_cancelled_meanwhile_counts_too(either: Engine) -> None:
    old = await cancelled(either)
    new = await restarted(either, old)
    (command,) = await either.claim()
    await either.report(reported(command, status="error", error={"kind": "tool", "code": "boom", "message": "no"}))
    await either.orchestrator.controls.cancel(new, "enough")
    with pytest.raises(Conflict, match="has undone what was done, or tried to"):
        await restart(either, old)


async def test_concurrent_restarts_do_not_both_take_over_what_may_be_undone(either: Engine) -> None:
    old = await cancelled(either)
    found = await asyncio.gather(*(restart(either, old) for _ in range(4)), return_exceptions=True)
    started = [it.execution_id for it in found if isinstance(it, Restarted)]
    refused = [it for it in found if isinstance(it, Conflict)]
    assert (len(started), len(refused)) == (1, 3), found
    assert all(f"{started[0]}, which goes on with the same, has not ended" in str(error) for error in refused)


async def test_a_commit_that_does_not_know_another_one_writes_nothing(either: Engine) -> None:
    """The look at the others came before one of them began."""
    old = await cancelled(either)
    looked = either.log.related_restarts
    rivals: list[str] = []

    async def late(execution_id: str) -> list[RelatedRestart]:
        found = await looked(execution_id)
        if not rivals:
            rivals.append("")
            rivals[0] = await restarted(either, old)
        return found

    either.log.related_restarts = late  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="has not ended"):
        await restart(either, old)
    assert {it.execution_id for it in await looked(old)} == {old, rivals[0]}


async def test_a_restart_that_takes_over_nothing_to_undo_runs_beside_others(either: Engine) -> None:
    undoable = await cancelled(either)
    await restarted(either, undoable)
    found = await restart(either, undoable, step="a")
    assert found.restart.compensable == []


async def test_restarts_of_a_playbook_without_compensation_run_beside_one_another(either: Engine) -> None:
    old = await cancelled(either, CHAIN)
    assert len({await restarted(either, old) for _ in range(3)}) == 3


async def test_a_restart_beside_one_that_has_completed_warns(either: Engine) -> None:
    old = await cancelled(either)
    new = await restarted(either, old)
    await drive(either, failing())
    found = await restart(either, old)
    assert f"execution {new} goes on with the same, and has completed" in found.restart.warnings[-1]
    await drive(either, failing())
    assert (await check(either, found.execution_id or ""))[-1].type == e.COMPLETED


async def test_who_is_related_to_whom(either: Engine) -> None:
    old = await cancelled(either)
    assert await either.log.related_restarts(old) == [RelatedRestart(old, "CANCELLED", False, False)]
    one = await restarted(either, old)
    await either.orchestrator.controls.cancel(one, "enough")
    await cancelled(either)
    other = await restarted(either, one)
    expected = [
        RelatedRestart(old, "CANCELLED", False, False),
        RelatedRestart(one, "CANCELLED", False, False),
        RelatedRestart(other, "RUNNING", True, False),
    ]
    for id in (old, one, other):
        assert await either.log.related_restarts(id) == sorted(expected, key=lambda it: int(it.execution_id))
    assert await either.log.related_restarts("404") == [RelatedRestart("404", None, False, None)]


# what fails beside a sub-playbook
BESIDE = """
- {step: start, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: call}, {step: bad}]}}
- {step: call, tool: {kind: playbook, path: t/child}}
- {step: bad, tool: {kind: noop}}
"""


async def with_child(engine: Engine, child: str) -> tuple[str, str]:
    """One that has failed while its sub-playbook ran, and that one."""
    engine.catalog.add("t/child", child)
    add(engine, BESIDE)
    old = await engine.start()
    (command,) = await engine.claim()
    await engine.report(reported(command), by=engine.another())
    (id,) = await failed_beside(engine, "t/child")
    return old, id


async def failed_beside(engine: Engine, *paths: str) -> list[str]:
    """It fails at `bad` while a sub-playbook runs that has done a step, or one below it; their ids, from the top."""
    call, bad = sorted(await engine.claim(), key=lambda it: it.step, reverse=True)
    ids = [call.execution_id]
    for path in paths:
        below: dict[str, Any] = {"path": path, "version": None, "payload": {}, "return_step": None}
        await engine.report(reported(call, status="parked", child=below), by=engine.another())
        ids += await engine.log.running_descendants(ids[-1])
        (call,) = await engine.claim()
    await engine.report(reported(call), by=engine.another())
    error = {"kind": "tool", "code": "boom", "message": "it broke"}
    await engine.report(reported(bad, status="error", error=error), by=engine.another())
    return ids[1:]


async def with_grandchild(engine: Engine) -> tuple[str, str, str]:
    """One that has failed, its sub-playbook, which was cancelled at once, and the one of this, which undoes."""
    engine.catalog.add("t/last", SAGA)
    engine.catalog.add("t/child", "- {step: call, tool: {kind: playbook, path: t/last}}\n")
    add(engine, BESIDE)
    old = await engine.start()
    (command,) = await engine.claim()
    await engine.report(reported(command), by=engine.another())
    child, last = await failed_beside(engine, "t/child", "t/last")
    loaded = await engine.log.load([old, child, last])
    assert [loaded[id].state.status for id in (old, child, last)] == ["failed", "cancelled", "running"]
    return old, child, last


async def test_it_waits_for_a_sub_playbook_that_has_still_to_undo_what_it_did(either: Engine) -> None:
    old, child = await with_child(either, SAGA)
    for dry_run in (True, False):
        with pytest.raises(Conflict, match=f"its sub-playbook {child} has still to undo what it has done"):
            await restart(either, old, dry_run=dry_run)
    await either.orchestrator.controls.cancel(child, "by hand")
    found = await restart(either, old)
    assert found.restart.warnings == []
    await check(either, found.execution_id or "")


async def test_a_sub_playbook_that_still_runs_and_undoes_nothing_is_named(either: Engine) -> None:
    either.catalog.add("t/child", CHAIN)
    add(either, "- {step: call, tool: {kind: playbook, path: t/child}}\n")
    old = await either.start()
    (call,) = await either.claim()
    below: dict[str, Any] = {"path": "t/child", "version": None, "payload": {}, "return_step": None}
    await either.report(reported(call, status="parked", child=below))
    (child,) = await either.log.running_descendants(old)
    await either.orchestrator.controls.cancel(old, "enough", cascade=False)
    found = await restart(either, old)
    assert found.restart.warnings == [f"execution {child}, a sub-playbook of the old execution, still runs"]


async def test_it_waits_for_what_is_left_to_undo_below_a_sub_playbook_that_has_ended(either: Engine) -> None:
    old, child, last = await with_grandchild(either)
    assert await either.log.running_descendants(old) == await either.log.running_descendants(child) == [last]
    assert await either.log.running_restarts(old) == {last: old}
    with pytest.raises(Conflict, match=f"its sub-playbook {last} has still to undo what it has done"):
        await restart(either, old)
    await either.orchestrator.controls.cancel(last, "by hand")
    assert await either.log.running_descendants(old) == []
    assert (await restart(either, old)).restart.warnings == []


async def test_it_waits_for_a_sub_playbook_of_another_restart(either: Engine) -> None:
    """Which is itself below one that has ended."""
    old, child = await with_child(either, SAGA)
    await either.orchestrator.controls.cancel(child, "by hand")
    one = await restarted(either, old, step="start")
    (command,) = await either.claim()
    await either.report(reported(command), by=either.another())
    (below,) = await failed_beside(either, "t/child")
    assert await either.log.running_restarts(old) == {below: one}
    with pytest.raises(Conflict, match=f"sub-playbook {below} of execution {one}, .*has still to undo"):
        await restart(either, old)
    with pytest.raises(Conflict, match=f"its sub-playbook {below} has still to undo"):
        await restart(either, one)
    await either.orchestrator.controls.cancel(below, "by hand")
    again = await restarted(either, old, step="start")
    assert await either.log.running_restarts(old) == {}, "a restart that runs, and undoes nothing"
    await check(either, again)


async def test_it_waits_for_a_restart_that_undoes_what_it_did(either: Engine) -> None:
    old = await cancelled(either)
    one = await restarted(either, old, step="a")
    (command,) = await either.claim()
    await either.report(reported(command), by=either.another())
    (command,) = await either.claim()
    error = {"kind": "tool", "code": "boom", "message": "it broke"}
    await either.report(reported(command, status="error", error=error), by=either.another())
    assert await either.log.running_restarts(old) == {one: one}
    with pytest.raises(Conflict, match=f"yet: execution {one}, .*has still to undo what it has done"):
        await restart(either, old, step="a")
    await drive(either, failing())
    assert (await restart(either, old, step="a")).restart.warnings == []


async def test_a_commit_that_has_not_seen_what_is_to_be_undone_writes_nothing(either: Engine) -> None:
    """A restart began after the look at what runs, and has failed, while its sub-playbook undoes what it did."""
    old, child = await with_child(either, SAGA)
    await either.orchestrator.controls.cancel(child, "by hand")
    looked = either.log.running_restarts
    rivals: list[str] = []

    async def late(execution_id: str) -> dict[str, str]:
        found = await looked(execution_id)
        if not rivals:
            rivals.append("")
            rivals[0] = await restarted(either, old, step="start")
            (command,) = await either.claim()
            await either.report(reported(command), by=either.another())
            rivals.extend(await failed_beside(either, "t/child"))
        return found

    either.log.running_restarts = late  # type: ignore[method-assign]
    with pytest.raises(Conflict, match=r"sub-playbook [0-9]+ of execution [0-9]+, .*has still to undo"):
        await restart(either, old, step="start")
    one, below = rivals
    assert await looked(old) == {below: one}
    assert {it.execution_id for it in await either.log.related_restarts(old)} == {old, one}


async def test_a_cancellation_reaches_what_is_below_a_sub_playbook_that_has_ended(either: Engine) -> None:
    """The sub-playbook has ended, and left one behind that undoes what it did."""
    either.catalog.add("t/last", SAGA)
    either.catalog.add("t/child", "- {step: call, tool: {kind: playbook, path: t/last}}\n")
    add(
        either,
        "- {step: first, tool: {kind: noop}, compensate: {tool: {kind: noop}}, next: {arcs: [{step: start}]}}" + BESIDE,
    )
    old = await either.start()
    for _ in range(2):
        (command,) = await either.claim()
        await either.report(reported(command), by=either.another())
    child, last = await failed_beside(either, "t/child", "t/last")
    loaded = await either.log.load([old, child, last])
    assert [loaded[id].state.status for id in (old, child, last)] == ["running", "cancelled", "running"]
    assert await either.orchestrator.controls.cancel(old, "enough") == ("cancelled", [old, last])
    loaded = await either.log.load([old, last])
    assert [loaded[id].state.status for id in (old, last)] == ["cancelled", "cancelled"]
