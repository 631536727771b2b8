"""What several executions that go on with the same have taken over is undone once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.orchestrator.conftest import Engine, frame_of
from tests.unit.orchestrator.conftest import outcome as reported
from tests.unit.orchestrator.test_restart import BOOM, CHAIN, SAGA, add, check, drive, failing, restart, restarted

from noetl_serverless.engine import events as e
from noetl_serverless.errors import Conflict
from noetl_serverless.orchestrator.restart import Restarted
from noetl_serverless.protocol import FrameOutcome
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


async def status(engine: Engine, id: str) -> str:
    return (await engine.orchestrator.state(id)).status


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


def rival_after_the_look(either: Engine, old: str, **more: Any) -> list[str]:
    """Let another restart begin once the first one has looked at the others: the list gets its id."""
    looked = either.log.related_restarts
    rivals: list[str] = []

    async def late(execution_id: str) -> list[RelatedRestart]:
        found = await looked(execution_id)
        if not rivals:
            rivals.append("")
            rivals[0] = await restarted(either, old, **more)
        return found

    either.log.related_restarts = late  # type: ignore[method-assign]
    return rivals


async def test_a_commit_that_does_not_know_another_one_writes_nothing(either: Engine) -> None:
    """The look at the others came before one of them began."""
    old = await cancelled(either)
    rivals = rival_after_the_look(either, old)
    with pytest.raises(Conflict, match="has not ended"):
        await restart(either, old)
    assert {it.execution_id for it in await either.log.related_restarts(old)} == {old, rivals[0]}


async def test_a_restart_that_takes_over_nothing_to_undo_runs_beside_others(either: Engine) -> None:
    undoable = await cancelled(either)
    await restarted(either, undoable)
    found = await restart(either, undoable, step="a")
    assert found.restart.compensable == []


async def test_restarts_of_a_playbook_without_compensation_run_beside_one_another(either: Engine) -> None:
    old = await cancelled(either, CHAIN)
    assert len({await restarted(either, old) for _ in range(3)}) == 3


# the next version of SAGA, in which nothing is undone, and in which `a` is gone
PLAIN = """
- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
- {step: b, tool: {kind: noop}, next: {arcs: [{step: c}]}}
- {step: c, tool: {kind: noop}}
"""
WITHOUT_A = "- {step: b, tool: {kind: noop}}\n"


@pytest.mark.parametrize("newer", [PLAIN, WITHOUT_A], ids=["no compensation", "no step"])
async def test_a_version_that_undoes_nothing_does_not_rely_on_what_another_may_undo(either: Engine, newer: str) -> None:
    old = await cancelled(either)
    undoes = await restarted(either, old)
    add(either, newer)
    for dry_run in (True, False):
        with pytest.raises(Conflict, match=f"{undoes}, which goes on .*, has not ended, and undoes what is done if"):
            await restart(either, old, version=2, dry_run=dry_run)
    await drive(either, failing("b"))
    for dry_run in (True, False):
        with pytest.raises(Conflict, match=f"{undoes}, which goes on with the same, has undone what was done"):
            await restart(either, old, version=2, dry_run=dry_run)
    assert (await restart(either, old, version=1, step="a", dry_run=True)).restart.kept == frozenset()


async def test_one_that_relies_on_what_is_done_keeps_others_from_undoing_it(either: Engine) -> None:
    """Its own version undoes nothing."""
    old = await cancelled(either)
    add(either, PLAIN)
    relies = await restarted(either, old, version=2)
    with pytest.raises(Conflict, match=f"{relies}, .*, has not ended, and this restart would undo what is done if it"):
        await restart(either, old, version=1)
    other = await restart(either, old, version=2)
    assert "What they did stays as it is" in other.restart.warnings[0]
    await drive(either, failing())
    found = await restart(either, old, version=1)
    assert [
        f"{id} goes on with the same, and has completed" in " ".join(found.restart.warnings)
        for id in (relies, other.execution_id)
    ] == [True, True]


async def test_what_no_other_undoes_is_taken_over_beside_it(either: Engine) -> None:
    """Both take over `first`, which has no compensation."""
    old = await cancelled(either, "- {step: first, tool: {kind: noop}, next: {arcs: [{step: a}]}}" + SAGA, after=2)
    undoes = await restarted(either, old)
    found = await restart(either, old, step="a")
    assert [reused.step for reused in found.restart.reused] == ["first"]
    await drive(either, failing("b"))
    for id in (undoes, found.execution_id or ""):
        assert await status(either, id) == "failed"
    assert (await restart(either, old, step="a")).execution_id


LOOP = """
- step: each
  loop: {in: "{{ [0, 1, 2, 3] }}", iterator: n, spec: {mode: parallel, policy: {exec: distributed}}}
  tool: {kind: noop}
  COMPENSATE
  next: {arcs: [{step: last}]}
- {step: last, tool: {kind: noop}}
"""
LOOPS = LOOP.replace("COMPENSATE", ""), LOOP.replace("COMPENSATE", "compensate: {tool: {kind: noop}}")


async def failed_loop(engine: Engine) -> str:
    """One of whose items three are done, and nothing is undone; the next version of its playbook undoes them."""
    add(engine, LOOPS[0])
    old = await engine.start()
    for command in await engine.claim():
        window = frame_of(command)
        fails = window.start == 3
        errors = {"3": BOOM} if fails else {}
        counts = {"start": window.start, "end": window.end, "ok": int(not fails), "failed": int(fails)}
        await engine.report(
            reported(command, [None if fails else window.start], frame=FrameOutcome(**counts, errors=errors)),
            by=engine.another(),
        )
    assert await status(engine, old) == "failed"
    add(engine, LOOPS[1])
    return old


async def test_items_that_another_version_may_undo_are_not_taken_over(either: Engine) -> None:
    old = await failed_loop(either)
    undoes = await restarted(either, old, version=2)
    with pytest.raises(Conflict, match=f"{undoes}, which goes on with the same, has not ended, and undoes"):
        await restart(either, old, version=1)
    await drive(either, failing("each"))
    assert e.COMPENSATION_STARTED in [event.type for event in await check(either, undoes)]
    with pytest.raises(Conflict, match="has undone what was done"):
        await restart(either, old, version=1)
    anew = await restart(either, old, version=1, step="each")
    assert anew.restart.loops == []


async def test_one_that_has_completed_is_not_restarted_on_items_that_another_has_undone(either: Engine) -> None:
    old = await failed_loop(either)
    completed = await restarted(either, old, version=1)
    await drive(either, failing())
    undoes = await restarted(either, old, version=2)
    await drive(either, failing("each"))
    assert (await status(either, completed), await status(either, undoes)) == ("completed", "failed")
    with pytest.raises(Conflict, match=f"{undoes}, which goes on with the same, has undone what was done"):
        await restart(either, completed, step="last")


async def test_concurrent_restarts_of_two_versions_do_not_undo_what_one_relies_on(either: Engine) -> None:
    old = await failed_loop(either)
    found = await asyncio.gather(*(restart(either, old, version=1 + n % 2) for n in range(10)), return_exceptions=True)
    started = [it for it in found if isinstance(it, Restarted)]
    assert len(started) + sum(isinstance(it, Conflict) for it in found) == 10, found
    versions = [it.version for it in started]
    assert versions in ([2], [1] * 5), "those that undo nothing, or one alone that does"


@pytest.mark.parametrize("versions", [(1, 2), (2, 1)], ids=["it would be undone", "it would undo"])
async def test_a_commit_that_does_not_know_one_of_another_version_writes_nothing(
    either: Engine, versions: tuple[int, int]
) -> None:
    old = await failed_loop(either)
    rivals = rival_after_the_look(either, old, version=versions[1])
    with pytest.raises(Conflict, match="has not ended"):
        await restart(either, old, version=versions[0])
    assert {it.execution_id for it in await either.log.related_restarts(old)} == {old, rivals[0]}


async def test_what_one_has_undone_that_is_archived_is_as_its_version_would(either: Engine) -> None:
    old = await failed_loop(either)
    looked = either.log.related_restarts

    async def archived(execution_id: str) -> list[RelatedRestart]:
        return [*await looked(execution_id), *others]

    either.log.related_restarts = archived  # type: ignore[method-assign]
    for version, status, is_refused in ((1, "FAILED", False), (2, "FAILED", True), (3, "CANCELLED", True)):
        others = [RelatedRestart("7", version, status, False, None, None)]
        if is_refused:
            with pytest.raises(Conflict, match=f"7, .*, is archived as {status}, and may have undone what was done"):
                await restart(either, old, version=1, dry_run=True)
        else:
            await restart(either, old, version=1, dry_run=True)
        await restart(either, old, version=1, step="each", dry_run=True)
    others = [RelatedRestart("7", 2, "COMPLETED", False, False, None)]
    await restart(either, old, version=1, dry_run=True)


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
    assert await either.log.related_restarts(old) == [RelatedRestart(old, 1, "CANCELLED", False, False, [])]
    one = await restarted(either, old)
    await either.orchestrator.controls.cancel(one, "enough")
    await cancelled(either)
    other = await restarted(either, one)
    expected = [
        RelatedRestart(old, 1, "CANCELLED", False, False, []),
        RelatedRestart(one, 1, "CANCELLED", False, False, ["a"]),
        RelatedRestart(other, 1, "RUNNING", True, False, ["a"]),
    ]
    for id in (old, one, other):
        assert await either.log.related_restarts(id) == sorted(expected, key=lambda it: int(it.execution_id))
    assert await either.log.related_restarts("404") == [RelatedRestart("404", None, None, False, None, None)]


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


async def restarted_child(engine: Engine, workflow: str = SAGA) -> tuple[str, str]:
    """One that has failed, and the execution that goes on with its sub-playbook, which was cancelled."""
    engine.catalog.add("t/child", workflow)
    add(engine, "- {step: call, tool: {kind: playbook, path: t/child}}\n")
    old = await engine.start()
    return old, await restarted(engine, await cancelled_child(engine, old))


async def cancelled_child(engine: Engine, id: str) -> str:
    """Its sub-playbook, after the first step."""
    (call,) = await engine.claim()
    below: dict[str, Any] = {"path": "t/child", "version": None, "payload": {}, "return_step": None}
    await engine.report(reported(call, status="parked", child=below), by=engine.another())
    (child,) = await engine.log.running_descendants(id)
    (command,) = await engine.claim()
    await engine.report(reported(command), by=engine.another())
    await engine.orchestrator.controls.cancel(child, "enough")
    assert await status(engine, id) == "failed"
    return child


async def test_it_waits_for_what_goes_on_with_a_sub_playbook(either: Engine) -> None:
    old, goes_on = await restarted_child(either)
    assert await either.log.running_restarts(old) == {goes_on: old}
    expected = f"yet: execution {goes_on}, which goes on with one of its sub-playbooks, has still to undo"
    for dry_run in (True, False):
        with pytest.raises(Conflict, match=expected):
            await restart(either, old, dry_run=dry_run)
    await drive(either, failing("b"))
    assert await status(either, goes_on) == "failed"
    found = await restart(either, old)
    assert found.restart.warnings == []
    await check(either, found.execution_id or "")


async def test_it_waits_for_what_goes_on_with_a_sub_playbook_of_another_restart(either: Engine) -> None:
    old, first = await restarted_child(either)
    await either.orchestrator.controls.cancel(first, "by hand")
    one = await restarted(either, old)
    goes_on = await restarted(either, await cancelled_child(either, one))
    assert await either.log.running_restarts(old) == {goes_on: one}
    for id, whose in ((old, f"a sub-playbook of execution {one}"), (one, "one of its sub-playbooks")):
        with pytest.raises(Conflict, match=f"execution {goes_on}, which goes on with {whose}, has still to undo"):
            await restart(either, id)
    await either.orchestrator.controls.cancel(goes_on, "by hand")
    await restarted(either, old)


async def test_what_goes_on_with_a_sub_playbook_and_undoes_nothing_is_named(either: Engine) -> None:
    old, goes_on = await restarted_child(either, CHAIN)
    found = await restart(either, old)
    assert found.restart.warnings == [
        f"execution {goes_on}, which goes on with a sub-playbook of the old execution, still runs"
    ]


async def test_it_waits_for_what_is_below_an_execution_that_goes_on_with_a_sub_playbook(either: Engine) -> None:
    either.catalog.add("t/last", SAGA)
    old, goes_on = await restarted_child(either, BESIDE.replace("t/child", "t/last"))
    (last,) = await failed_beside(either, "t/last")
    assert await status(either, goes_on) == "failed"
    assert await either.log.running_restarts(old) == {last: old}
    with pytest.raises(Conflict, match=f"its sub-playbook {last} has still to undo what it has done"):
        await restart(either, old)


async def test_a_cancellation_does_not_reach_what_goes_on_with_a_sub_playbook(either: Engine) -> None:
    """Nobody waits for that: it was started by itself, and is cancelled by itself."""
    old, goes_on = await restarted_child(either, CHAIN)
    new = await restarted(either, old)
    for id in (old, new):
        assert goes_on not in await either.log.running_descendants(id)
    assert await either.orchestrator.controls.cancel(new, "enough") == ("cancelled", [new])
    assert await status(either, goes_on) == "running"


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
