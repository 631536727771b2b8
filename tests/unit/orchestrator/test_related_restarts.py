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
    await engine.orchestrator.cancel(old, "enough")
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
    await engine.orchestrator.cancel(new, "enough")
    return new


async def test_one_that_undid_what_it_did_and_was_cancelled_meanwhile_counts_too(either: Engine) -> None:
    old = await cancelled(either)
    new = await restarted(either, old)
    (command,) = await either.claim()
    await either.report(reported(command, status="error", error={"kind": "tool", "code": "boom", "message": "no"}))
    await either.orchestrator.cancel(new, "enough")
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
    await either.orchestrator.cancel(one, "enough")
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


async def with_child(engine: Engine, child: str) -> tuple[str, str]:
    """One that has failed while its sub-playbook ran, and that one."""
    engine.catalog.add("t/child", child)
    add(
        engine,
        "- {step: start, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: call}, {step: bad}]}}\n"
        "- {step: call, tool: {kind: playbook, path: t/child}}\n"
        "- {step: bad, tool: {kind: noop}}\n",
    )
    old = await engine.start()
    (command,) = await engine.claim()
    await engine.report(reported(command), by=engine.another())
    call, bad = sorted(await engine.claim(), key=lambda it: it.step, reverse=True)
    below: dict[str, Any] = {"path": "t/child", "version": None, "payload": {}, "return_step": None}
    await engine.report(reported(call, status="parked", child=below), by=engine.another())
    (first,) = await engine.claim()
    await engine.report(reported(first), by=engine.another())
    (id,) = await engine.log.running_children(old)
    error = {"kind": "tool", "code": "boom", "message": "it broke"}
    await engine.report(reported(bad, status="error", error=error), by=engine.another())
    return old, id


async def test_it_waits_for_a_sub_playbook_that_has_still_to_undo_what_it_did(either: Engine) -> None:
    old, child = await with_child(either, SAGA)
    for dry_run in (True, False):
        with pytest.raises(Conflict, match=f"its sub-playbook {child} has still to undo what it has done"):
            await restart(either, old, dry_run=dry_run)
    await either.orchestrator.cancel(child, "by hand")
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
    (child,) = await either.log.running_children(old)
    await either.orchestrator.cancel(old, "enough", cascade=False)
    found = await restart(either, old)
    assert found.restart.warnings == [f"execution {child}, a sub-playbook of the old execution, still runs"]
