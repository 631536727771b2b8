"""An execution goes on with another one from the step that failed, and what is done stays done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from textwrap import dedent
from typing import Any

import pytest
from tests.log_rules import audit_decisions, audit_log
from tests.unit.orchestrator.conftest import Engine, frame_of
from tests.unit.orchestrator.conftest import outcome as done

from noetl_serverless.engine import events as e
from noetl_serverless.engine.digest import digest
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.replay import fold
from noetl_serverless.errors import Conflict, InvalidRequest, NotFound
from noetl_serverless.inspection.diff import diff
from noetl_serverless.orchestrator.restart import Restarted
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.protocol import ClaimedCommand, FrameOutcome
from noetl_serverless.records import CommitResult

Answer = Callable[[ClaimedCommand], Any]
HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\n"
BOOM = {"kind": "tool", "code": "boom", "message": "it broke", "retryable": False}
CHAIN = """
- {step: a, tool: {kind: noop}, set: {ctx.seen: "{{ output.data }}"}, next: {arcs: [{step: b}]}}
- {step: b, tool: {kind: noop, input: {a: "{{ a.n }}", seen: "{{ ctx.seen }}"}}, next: {arcs: [{step: c}]}}
- {step: c, tool: {kind: noop, input: {b: "{{ b }}"}}}
"""
# two branches and their join
BRANCHES = """
- {step: start, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}]}}
- {step: left, tool: {kind: noop}, set: {ctx.left: 1}, next: {arcs: [{step: join}]}}
- {step: right, tool: {kind: noop}, next: {arcs: [{step: join}]}}
- {step: join, tool: {kind: noop, input: {left: "{{ left.n }}", of: "{{ ctx.left }}"}}}
"""
CYCLE = """
- {step: head, tool: {kind: noop}, set: {ctx.turn: "{{ (ctx.turn | default(0)) + 1 }}"}, next: {arcs: [{step: body}]}}
- step: body
  tool: {kind: noop}
  next: {arcs: [{step: head, when: "{{ ctx.turn < 3 }}"}, {step: end}]}
- {step: end, tool: {kind: noop}}
"""


class Failing(Exception):
    """A step fails with BOOM."""


def failing(*steps: str, ran: Counter[str] | None = None) -> Answer:
    """Each step gives its name and how often it ran; those named fail."""

    def answer(command: ClaimedCommand) -> Any:
        if ran is not None:
            ran[command.step] += 1
        if command.step in steps:
            raise Failing
        return {"n": command.step}

    return answer


def naming(*steps: str) -> Answer:
    """Each step gives the id of its execution; those named fail."""

    def answer(command: ClaimedCommand) -> Any:
        if command.step in steps:
            raise Failing
        return {"of": command.execution_id}

    return answer


async def drive(engine: Engine, answer: Answer, *, leave: str = "") -> None:
    """Run what is pending until nothing is, but for the step `leave`."""
    while commands := await engine.claim():
        for command in commands:
            if command.step == leave:
                continue
            if command.frame is not None:
                await engine.report(frame(command, answer))
                continue
            try:
                await engine.report(done(command, answer(command)))
            except Failing:
                await engine.report(done(command, status="error", error=BOOM))


def frame(command: ClaimedCommand, answer: Answer) -> Any:
    window = frame_of(command)
    results: list[Any] = []
    errors: dict[str, Any] = {}
    for index in range(window.start, window.end):
        try:
            results.append(answer(command))
        except Failing:
            results.append(None)
            errors[str(index)] = BOOM
    counts = {"start": window.start, "end": window.end, "ok": len(results) - len(errors), "failed": len(errors)}
    return done(command, results, frame=FrameOutcome(**counts, errors=errors))


def add(engine: Engine, workflow: str, head: str = "") -> None:
    """Register it as the next version."""
    engine.catalog.register(HEAD + dedent(head) + "workflow:\n" + dedent(workflow))


async def restart(engine: Engine, id: str, **more: Any) -> Restarted:
    workload = (await engine.log.load([id]))[id].state.workload
    return await engine.orchestrator.restart(id, await engine.log.events(id), workload, **more)


async def restarted(engine: Engine, id: str, **more: Any) -> str:
    found = (await restart(engine, id, **more)).execution_id
    assert found is not None
    return found


async def check(engine: Engine, id: str) -> list[Event]:
    """Its log obeys the rules of every log, folds to its state, and decides the same again; the log."""
    log, loaded = await engine.log.events(id), (await engine.log.load([id]))[id]
    plan = load_plan(await engine.catalog.text(loaded.plan_hash))
    assert audit_log(id, log) + audit_decisions(id, log, plan, loaded.state.workload) == []
    assert fold(id, log, loaded.state.workload).snapshot() == loaded.state.snapshot()
    assert diff(id, log, plan, plan, loaded.state.workload).empty
    return log


def inputs(log: list[Event], step: str) -> dict[str, Any]:
    """What the step was last issued with."""
    scope: dict[str, Any] = [event for event in log if event.type == e.ISSUED and event.step == step][-1].payload[
        "scope"
    ]
    return scope


async def test_what_is_done_stays_done(either: Engine) -> None:
    add(either, CHAIN)
    ran: Counter[str] = Counter()
    old = await either.start(payload={"x": 1})
    await drive(either, failing("b", ran=ran))
    found = await restart(either, old)
    assert (found.restart.restart_from, found.restart.again) == (["b"], ["b"])
    assert [reused.step for reused in found.restart.reused] == ["a"]
    await drive(either, failing(ran=ran))
    assert ran == {"a": 1, "b": 2, "c": 1}
    new = found.execution_id or ""
    state = await either.orchestrator.state(new)
    assert (state.status, state.workload["x"], state.generations) == ("completed", 1, {"a": 1, "b": 1, "c": 1})
    log = await check(either, new)
    assert [event.type for event in log[:3]] == [e.STARTED, e.REUSED, e.RESTARTED]
    assert log[0].payload["restart"] == {
        "execution_id": old,
        "path": "t/t",
        "version": 1,
        "seq": len(await either.log.events(old)),
        "from": ["b"],
    }
    assert inputs(log, "b") == {"ctx": {"seen": {"n": "a"}}, "steps": {"a": {"status": "ok", "data": {"n": "a"}}}}
    assert (await either.orchestrator.state(old)).status == "failed", "the old execution has changed"


async def test_the_state_is_written_so_that_an_earlier_release_refuses_it(engine: Engine) -> None:
    add(engine, CHAIN)
    old = await engine.start()
    await drive(engine, failing("b"))
    new = await restarted(engine, old)
    await drive(engine, failing())
    assert (engine.memory.executions[old].form, engine.memory.executions[new].form) == (1, 2)


async def test_a_branch_that_is_done_stays_done_and_the_join_keeps_its_arrival(engine: Engine) -> None:
    add(engine, BRANCHES)
    ran: Counter[str] = Counter()
    old = await engine.start()
    commands = await engine.claim()
    await engine.report(done(commands[0]))
    left, right = sorted(await engine.claim(), key=lambda command: command.step)
    await engine.report(done(left, {"n": "done"}))
    await engine.report(done(right, status="error", error=BOOM))
    found = await restart(engine, old)
    assert (found.restart.again, found.restart.waiting) == (["right"], {"right": ["start"], "join": ["left"]})
    await drive(engine, failing(ran=ran))
    assert ran == {"right": 1, "join": 1}
    log = await check(engine, found.execution_id or "")
    assert inputs(log, "join")["steps"]["left"] == {"status": "ok", "data": {"n": "done"}}
    # `left` ended after `right` had begun
    assert inputs(log, "join")["ctx"] == {"left": 1}


async def test_what_was_under_way_elsewhere_begins_again(engine: Engine) -> None:
    add(engine, BRANCHES)
    ran: Counter[str] = Counter()
    old = await engine.start()
    await drive(engine, failing("right"), leave="left")
    found = await restart(engine, old)
    assert (found.restart.restart_from, sorted(found.restart.again)) == (["right"], ["left", "right"])
    await drive(engine, failing(ran=ran))
    assert ran == {"left": 1, "right": 1, "join": 1}
    await check(engine, found.execution_id or "")


async def test_what_comes_after_an_earlier_step_runs_again(engine: Engine) -> None:
    add(engine, BRANCHES)
    ran: Counter[str] = Counter()
    old = await engine.start()
    await drive(engine, failing())
    with pytest.raises(Conflict, match=r"has completed: name the step to restart from, with `from` \(--from\)"):
        await restart(engine, old)
    new = await restarted(engine, old, step="right")
    await drive(engine, failing(ran=ran))
    assert ran == {"right": 1, "join": 1}
    await check(engine, new)


async def test_the_first_step_is_where_all_begins_again_with_the_same_workload(engine: Engine) -> None:
    add(engine, CHAIN, "workload: {x: 1}\n")
    ran: Counter[str] = Counter()
    old = await engine.start(payload={"x": 2, "ctx": {"given": True}})
    await drive(engine, failing())
    new = await restarted(engine, old, step="a")
    state = await engine.orchestrator.state(new)
    assert (state.workload, state.ctx, state.outcomes) == ({"x": 2}, {"given": True}, {})
    await drive(engine, failing(ran=ran))
    assert ran == {"a": 1, "b": 1, "c": 1}
    await check(engine, new)


async def test_of_a_cycle_only_the_last_run_of_the_step_is_dropped(engine: Engine) -> None:
    add(engine, CYCLE)
    ran: Counter[str] = Counter()
    old = await engine.start()
    turns = iter((True, True, False))
    await drive(engine, lambda command: command.step if command.step != "body" or next(turns) else fail())
    found = await restart(engine, old)
    assert found.restart.ctx == {"turn": 3}
    assert [(reused.step, reused.generation) for reused in found.restart.reused] == [("head", 3), ("body", 2)]
    await drive(engine, failing(ran=ran))
    assert ran == {"body": 1, "end": 1}
    new = await engine.orchestrator.state(found.execution_id or "")
    assert (new.generations, new.status) == ({"head": 3, "body": 3, "end": 1}, "completed")
    await check(engine, found.execution_id or "")


def fail() -> None:
    raise Failing


async def test_a_failure_that_an_arc_handled_is_done(engine: Engine) -> None:
    add(
        engine,
        """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: b, when: "{{ event.name == 'call.error' }}"}]}}
        - {step: b, tool: {kind: noop, input: {why: "{{ a.error.code }}"}}, next: {arcs: [{step: c}]}}
        - {step: c, tool: {kind: noop}}
        """,
    )
    ran: Counter[str] = Counter()
    old = await engine.start()
    await drive(engine, failing("a", "c"))
    new = await restarted(engine, old)
    await drive(engine, failing(ran=ran))
    assert ran == {"c": 1}
    await check(engine, new)


async def test_a_restart_goes_on_in_a_newer_version(either: Engine) -> None:
    add(either, CHAIN, "workload: {x: 1}\n")
    ran: Counter[str] = Counter()
    old = await either.start()
    await drive(either, failing("b"))
    add(
        either,
        """
        - {step: a, tool: {kind: noop, input: {more: 1}}, next: {arcs: [{step: between}]}}
        - {step: between, tool: {kind: noop}, next: {arcs: [{step: b}]}}
        - {step: b, tool: {kind: noop, input: {a: "{{ a.n }}", y: "{{ workload.y }}"}}, next: {arcs: [{step: d}]}}
        - {step: d, tool: {kind: noop}}
        """,
        "workload: {x: 5, y: 6}\n",
    )
    assert (await restart(either, old, dry_run=True)).version == 1
    found = await restart(either, old, version="latest")
    assert found.version == 2
    assert found.restart.warnings == [
        "changed since they ran: a. They stay done, with the results they had and the arcs they took; to run one "
        "again, restart from it",
        "new, and not run, because they do not come after what runs again: between. To run one, restart from a step "
        "before it",
    ]
    await drive(either, failing(ran=ran))
    assert ran == {"b": 1, "d": 1}
    assert (await either.orchestrator.state(found.execution_id or "")).workload == {"x": 1, "y": 6}
    await check(either, found.execution_id or "")


LOOP = """
- step: each
  loop: {in: "{{ [1, 2, 3] }}", iterator: n, spec: {mode: sequential}}
  tool: {kind: noop, input: {x: %s}}
  next: {arcs: [{step: %s}]}
- {step: b, tool: {kind: noop}}
- {step: c, tool: {kind: noop}}
"""


async def test_of_a_loop_that_has_changed_since_items_of_it_ran_a_warning_tells(engine: Engine) -> None:
    add(engine, LOOP % (1, "b"))
    old = await engine.start()
    seen = 0

    def once(command: ClaimedCommand) -> Any:
        nonlocal seen
        seen += 1
        if seen > 2:
            raise Failing
        return seen

    await drive(engine, once)
    # where it leads changes no result
    add(engine, LOOP % (1, "c"))
    assert (await restart(engine, old, version="latest", dry_run=True)).restart.warnings == []
    add(engine, LOOP % (2, "b"))
    found = (await restart(engine, old, version="latest", dry_run=True)).restart
    assert [(loop.step, loop.done) for loop in found.loops] == [("each", 2)]
    assert found.warnings == [
        "each has changed since 2 items of it ran, whose results stay as they were; to run all of its items again, "
        "restart with --from each"
    ]


async def test_what_is_reused_says_whether_it_was_done_or_skipped_or_has_failed(engine: Engine) -> None:
    add(
        engine,
        """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: b, when: "{{ output.status == 'error' }}"}, {step: x}]}}
        - {step: x, tool: {kind: noop}, next: {arcs: [{step: c}]}}
        - {step: b, tool: {kind: noop}, next: {arcs: [{step: c}]}}
        - {step: c, tool: {kind: noop}}
        """,
    )
    old = await engine.start()
    await drive(engine, failing("a", "c"))
    reused = (await restart(engine, old, dry_run=True)).restart.reused
    assert {it.step: (it.is_skipped, it.has_failed) for it in reused} == {
        "a": (False, True),
        "b": (False, False),
        "x": (True, False),
    }


async def test_a_step_that_a_newer_version_lacks_is_left_out(engine: Engine) -> None:
    add(engine, CHAIN)
    old = await engine.start()
    await drive(engine, failing("c"))
    add(engine, "- {step: b, tool: {kind: noop}, next: {arcs: [{step: c}]}}\n- {step: c, tool: {kind: noop}}\n")
    found = await restart(engine, old, version="latest")
    assert [reused.step for reused in found.restart.reused] == ["b"]
    assert found.restart.warnings[0] == "done, and no longer in the playbook: a"
    await drive(engine, failing())
    await check(engine, found.execution_id or "")


async def test_a_step_that_cannot_be_restarted_from_is_refused(engine: Engine) -> None:
    add(engine, CHAIN)
    old = await engine.start()
    with pytest.raises(Conflict, match="has not ended: cancel it first, with `noetls cancel "):
        await restart(engine, old)
    await drive(engine, failing("b"))
    with pytest.raises(InvalidRequest, match=r"there is no step 'x' in version 1 of \S+\. Steps that ran: a, b"):
        await restart(engine, old, step="x")
    with pytest.raises(InvalidRequest, match=r"step 'c' has not begun .* Steps that ran: a, b"):
        await restart(engine, old, step="c")
    add(engine, "- {step: a, tool: {kind: noop}}")
    with pytest.raises(InvalidRequest, match=r"step 'b', where execution .* ended, does not exist in version 2 of \w"):
        await restart(engine, old, version="latest")
    with pytest.raises(NotFound):
        await engine.orchestrator.restart("1", [], {})


async def test_a_cancelled_execution_goes_on_with_what_was_under_way(engine: Engine) -> None:
    add(engine, BRANCHES)
    ran: Counter[str] = Counter()
    old = await engine.start()
    await drive(engine, failing(), leave="left")
    await engine.orchestrator.controls.cancel(old, "enough")
    found = await restart(engine, old)
    assert (found.restart.restart_from, found.restart.waiting) == (["left"], {"left": ["start"], "join": ["right"]})
    await drive(engine, failing(ran=ran))
    assert ran == {"left": 1, "join": 1}
    await check(engine, found.execution_id or "")


async def test_a_restart_can_be_restarted(engine: Engine) -> None:
    add(engine, CHAIN)
    ran: Counter[str] = Counter()
    first = await engine.start()
    await drive(engine, failing("b", ran=ran))
    second = await restarted(engine, first)
    await drive(engine, failing("c", ran=ran))
    third = await restarted(engine, second)
    await drive(engine, failing(ran=ran))
    assert ran == {"a": 1, "b": 2, "c": 2}
    log = await check(engine, third)
    assert [event.payload["of"]["execution_id"] for event in log if event.type == e.REUSED] == [first, second]
    assert await engine.log.is_descendant(first, third)
    assert not await engine.log.is_descendant(third, first)


async def test_a_loop_that_is_done_stays_done(engine: Engine) -> None:
    add(
        engine,
        """
        - step: each
          loop: {in: "{{ [1, 2, 3] }}", iterator: n, spec: {mode: parallel, max_in_flight: 2}}
          tool: {kind: noop}
          next: {arcs: [{step: b}]}
        - {step: b, tool: {kind: noop, input: {all: "{{ each }}"}}}
        """,
    )
    old = await engine.start()
    await drive(engine, failing("b"))
    ran: Counter[str] = Counter()
    new = await restarted(engine, old)
    await drive(engine, failing(ran=ran))
    assert ran == {"b": 1}
    log = await check(engine, new)
    assert inputs(log, "b")["steps"]["each"]["data"]["results"] == [{"n": "each"}] * 3


async def test_its_deadline_begins_anew(engine: Engine) -> None:
    add(engine, CHAIN, "executor: {spec: {timeout: 60}}\n")
    old = await engine.start()
    await drive(engine, failing(), leave="b")
    engine.seconds += 61
    await engine.orchestrator.fire_timer(old, e.DEADLINE, "a", 0)
    assert (await engine.orchestrator.state(old)).error["code"] == "execution.timeout"  # type: ignore[index]
    new = await restarted(engine, old)
    (timer,) = [event for event in await engine.log.events(new) if event.type == e.TIMER_SET]
    assert timer.payload["due"] == (engine.seconds + 60) * 1000
    await drive(engine, failing())
    await check(engine, new)


async def test_the_payload_changes_the_workload_and_ctx(engine: Engine) -> None:
    add(engine, CHAIN, "workload: {x: 1, y: {z: 1}}\n")
    old = await engine.start()
    await drive(engine, failing("b"))
    new = await restarted(engine, old, payload={"y": {"w": 2}, "ctx": {"seen": "mended"}})
    state = await engine.orchestrator.state(new)
    assert (state.workload, state.ctx) == ({"x": 1, "y": {"z": 1, "w": 2}}, {"seen": "mended"})
    with pytest.raises(InvalidRequest, match=r"payload\.ctx must be an object"):
        await restart(engine, old, payload={"ctx": 1})


async def test_a_key_starts_it_once(either: Engine) -> None:
    add(either, CHAIN)
    old = await either.start()
    await drive(either, failing("b"))
    first = await restart(either, old, idempotency_key="k")
    again = await restart(either, old, idempotency_key="k")
    assert (again.execution_id, again.replayed, again.restart) == (first.execution_id, True, first.restart)
    with pytest.raises(Conflict, match="this Idempotency-Key has started"):
        await restart(either, old, step="a", idempotency_key="k")


async def test_a_dry_run_starts_nothing(engine: Engine) -> None:
    add(engine, CHAIN)
    old = await engine.start()
    await drive(engine, failing("b"))
    found = await restart(engine, old, dry_run=True)
    assert (found.execution_id, found.restart.again) == (None, ["b"])
    assert list(engine.memory.executions) == [old]


async def test_it_is_written_whole_or_not_at_all(engine: Engine) -> None:
    """Its process dies at the commit, or an id is taken: then there is nothing."""
    add(engine, CHAIN)
    old = await engine.start()
    await drive(engine, failing("b"))
    committing, refused = engine.memory.committing, [CommitResult(frozenset(), [], [], [])]

    async def refuse_once(commits: Any, claimant: Any) -> CommitResult:
        return refused.pop() if refused else await committing(commits, claimant)

    engine.memory.committing = refuse_once
    new = await restarted(engine, old)
    assert list(engine.memory.executions) == [old, new]


async def test_a_sub_playbook_that_failed_is_started_anew(engine: Engine) -> None:
    engine.catalog.add("t/child", "- {step: x, tool: {kind: noop}}")
    add(
        engine,
        "- {step: call, tool: {kind: playbook, path: t/child}, next: {arcs: [{step: after}]}}\n"
        "- {step: after, tool: {kind: noop}}\n",
    )
    old = await engine.start()
    (call,) = await engine.claim()
    child: dict[str, Any] = {"path": "t/child", "version": None, "payload": {}, "return_step": None}
    await engine.report(done(call, status="parked", child=child))
    await drive(engine, failing("x"))
    new = await restarted(engine, old)
    (call,) = await engine.claim()
    await engine.report(done(call, status="parked", child=child))
    ran: Counter[str] = Counter()
    await drive(engine, failing(ran=ran))
    assert ran == {"x": 1, "after": 1}
    await check(engine, new)


async def test_the_digest_has_what_was_reused_and_no_ids(engine: Engine) -> None:
    add(engine, CHAIN)
    digests = []
    for _ in range(2):
        old = await engine.start()
        await drive(engine, naming("b"))
        new = await restarted(engine, old)
        await drive(engine, naming())
        found = digest(new, await engine.log.events(new))
        assert [link.name for link in found.links] == ["start", "a#1", "b#1", "c#1", "end"]
        digests.append(found.value)
        engine.seconds += 1
    assert digests[0] == digests[1]


async def test_the_versions_part_where_they_differ(engine: Engine) -> None:
    add(engine, CHAIN)
    old = await engine.start()
    await drive(engine, failing("b"))
    add(engine, CHAIN.replace('seen: "{{ ctx.seen }}"', "seen: mended"))
    new = await restarted(engine, old, version="latest")
    await drive(engine, failing())
    log, workload = await engine.log.events(new), (await engine.log.load([new]))[new].state.workload
    before, now = [load_plan((await engine.catalog.get("t/t", version)).content) for version in (1, 2)]
    found = diff(new, log, now, before, workload)
    assert list(found.reparameterised) == ["b"]


async def test_many_steps_are_taken_over_in_one_commit(engine: Engine) -> None:
    steps = [f"- {{step: s{n}, tool: {{kind: noop}}, next: {{arcs: [{{step: s{n + 1}}}]}}}}" for n in range(300)]
    add(engine, "\n".join([*steps, "- {step: s300, tool: {kind: noop}}"]))
    old = await engine.start()
    await drive(engine, failing("s300"))
    new = await restarted(engine, old)
    assert [event.type for event in await engine.log.events(new)].count(e.REUSED) == 300
    await drive(engine, failing())
    assert engine.status(new) == "COMPLETED"


SAGA = """
- {step: a, tool: {kind: noop}, compensate: {tool: {kind: noop, was: "{{ a.n }}"}}, next: {arcs: [{step: b}]}}
- step: b
  tool: {kind: noop}
  set: {ctx.turn: "{{ (ctx.turn | default(0)) + 1 }}"}
  compensate: {tool: {kind: noop, was: "{{ b.n }}"}}
  next: {arcs: [{step: b, when: "{{ ctx.turn < 2 }}"}, {step: c}]}
- {step: c, tool: {kind: noop}, next: {arcs: [{step: d}]}}
- {step: d, tool: {kind: noop}, compensate: {tool: {kind: noop}}}
"""


async def cancelled_saga(engine: Engine) -> str:
    """One that was cancelled while `c` was under way."""
    add(engine, SAGA)
    old = await engine.start()
    for n in range(3):
        (command,) = await engine.claim()
        await engine.report(done(command, {"n": n}))
    await engine.claim()
    await engine.orchestrator.controls.cancel(old, "enough")
    return old


async def test_what_stays_done_is_undone_if_the_execution_that_goes_on_fails(engine: Engine) -> None:
    old = await cancelled_saga(engine)
    ran: Counter[str] = Counter()
    new = await restarted(engine, old)
    await drive(engine, failing("c", ran=ran))
    log = await check(engine, new)
    undone = [
        (event.step, event.payload["scope"]["steps"][(event.step or "").partition(".")[0]]["data"]["n"])
        for event in log
        if event.type == e.ISSUED and (event.step or "").endswith(".compensate")
    ]
    assert undone == [("b.compensate", 2), ("b.compensate", 1), ("a.compensate", 0)]
    error = (await engine.orchestrator.state(new)).error or {}
    assert error["compensation"] == {"done": ["b", "b", "a"], "failed": []}


async def test_it_is_undone_once_though_it_was_restarted_twice_and_begun_again_in_part(engine: Engine) -> None:
    first = await cancelled_saga(engine)
    second = await restarted(engine, first, step="b")
    await engine.claim()
    await engine.orchestrator.controls.cancel(second, "enough")
    assert (await restart(engine, second, step="a", dry_run=True)).restart.compensable == []
    third = await restarted(engine, second)
    await drive(engine, failing("c"))
    await check(engine, third)
    error = (await engine.orchestrator.state(third)).error or {}
    # the last run of `b` has begun again
    assert error["compensation"] == {"done": ["b", "b", "a"], "failed": []}


async def test_a_version_without_the_compensation_of_what_stays_done_says_so(engine: Engine) -> None:
    old = await cancelled_saga(engine)
    add(engine, SAGA.replace(', compensate: {tool: {kind: noop, was: "{{ a.n }}"}}', ""))
    new = await restarted(engine, old, version="latest")
    await drive(engine, failing("c"))
    compensation = ((await engine.orchestrator.state(new)).error or {})["compensation"]
    assert compensation["done"] == ["b", "b"]
    assert [(failed["step"], failed["code"]) for failed in compensation["failed"]] == [("a", "compensation.missing")]


async def test_what_has_undone_what_it_did_is_not_restarted_and_it_says_what_was_undone(engine: Engine) -> None:
    add(engine, SAGA)
    old = await engine.start()
    await drive(engine, failing("c"))
    with pytest.raises(
        Conflict, match=r"it has undone b, a, and so all that it had done.*`noetls run --again .*/rerun$"
    ):
        await restarted(engine, old)
    partly = await engine.start()
    await drive(engine, failing("c", "b.compensate"))
    with pytest.raises(
        Conflict, match=r"it has undone a; not undone, because the compensation failed: b \(\S+\)\..*settled by hand$"
    ):
        await restarted(engine, partly)


async def test_what_was_cancelled_while_it_was_undone_is_not_restarted(engine: Engine) -> None:
    add(engine, SAGA)
    old = await engine.start()
    while not (command := (await engine.claim())[0]).step.endswith(".compensate"):
        status = "error" if command.step == "c" else "done"
        await engine.report(done(command, {"n": 1}, status))
    await engine.orchestrator.controls.cancel(old, "enough")
    with pytest.raises(Conflict, match=r"it was cancelled while it undid what it had done.*settled by hand$"):
        await restarted(engine, old)


WAITS = """
- {step: a, tool: {kind: wait, signal: paid}, next: {arcs: [{step: b}]}}
- {step: b, tool: {kind: noop}, next: {arcs: [{step: c}]}}
- {step: c, tool: {kind: wait, signal: paid}}
"""


async def park(engine: Engine) -> None:
    (command,) = await engine.claim()
    await engine.report(done(command, status="parked", wait={"signal": "paid"}, resume={}), by=engine.another())


async def test_a_signal_that_no_wait_has_taken_goes_over_and_one_that_was_taken_does_not(engine: Engine) -> None:
    add(engine, WAITS)
    old = await engine.start()
    await park(engine)
    for number in (1, 2):
        await engine.orchestrator.controls.signal(old, "paid", number)
    await drive(engine, failing("b"))
    new = await restarted(engine, old)
    (command,) = await engine.claim()
    await engine.report(done(command), by=engine.another())
    await park(engine)
    state = await engine.orchestrator.state(new)
    assert (state.status, state.outcomes["a"]["data"], state.outcomes["c"]["data"]) == ("completed", 1, 2)
    await check(engine, new)
    from_the_first = await restarted(engine, old, step="a")
    assert [signal.data for signal in (await engine.orchestrator.state(from_the_first)).signals] == [2], (
        "what ended the wait that begins again has not been sent for it"
    )
    await park(engine)
    assert (await engine.orchestrator.state(from_the_first)).outcomes["a"]["data"] == 2
    await check(engine, from_the_first)


APPROVALS = """
- {step: ask, tool: {kind: wait, approval: boss}, next: {arcs: [{step: pay}]}}
- {step: pay, tool: {kind: noop}, next: {arcs: [{step: ask, when: "{{ false }}"}, {step: end}]}}
- {step: end, tool: {kind: noop}}
"""
BOSS = {"kind": "user", "name": "ann"}


async def ask(engine: Engine) -> None:
    (command,) = await engine.claim()
    await engine.report(
        done(command, status="parked", wait={"signal": "boss", "approval": True}, resume={}), by=engine.another()
    )


async def decide(engine: Engine, id: str) -> dict[str, Any]:
    """What its state has of the decision."""
    await engine.orchestrator.controls.signal(id, "boss", {"approved": True}, by=BOSS)
    return (await engine.orchestrator.state(id)).answered["boss"]


async def test_an_approval_that_stays_done_has_been_decided(either: Engine) -> None:
    add(either, APPROVALS)
    old = await either.start()
    await ask(either)
    answer = await decide(either, old)
    assert answer["by"] == BOSS
    await drive(either, failing("pay"))
    for _ in range(2):
        new = await restarted(either, old)
        assert (await either.orchestrator.state(new)).answered == {"boss": answer}
        (command,) = await either.claim()
        await either.report(done(command, status="error", error=BOOM))
        await check(either, new)
        old = new

    from_the_first = await restarted(either, old, step="ask")
    assert (await either.orchestrator.state(from_the_first)).answered == {}, "it has still to be decided"
    await ask(either)
    assert await decide(either, from_the_first) == answer
    await drive(either, failing())
    await check(either, from_the_first)


async def test_what_was_restarted_before_answers_went_over_reads_as_then(engine: Engine) -> None:
    add(engine, APPROVALS)
    old = await engine.start()
    await ask(engine)
    await decide(engine, old)
    await drive(engine, failing("pay"))
    new = await restarted(engine, old)
    log = await engine.log.events(new)
    (begins,) = [event for event in log if event.type == e.RESTARTED]
    assert begins.payload["answered"]["boss"]["step"] == "ask"
    before = [
        replace(event, payload={name: it for name, it in event.payload.items() if name != "answered"}) for event in log
    ]
    assert fold(new, before, {}).answered == {}
    (command,) = await engine.claim()
    await engine.report(done(command, status="error", error=BOOM))
    log = await engine.log.events(new)
    before = [
        replace(event, payload={name: it for name, it in event.payload.items() if name != "answered"}) for event in log
    ]
    found = await engine.orchestrator.restart(new, before, {}, dry_run=True)
    assert found.restart.answered == {}


async def test_an_approval_of_an_item_that_stays_done_has_been_decided(either: Engine) -> None:
    add(
        either,
        """
        - step: each
          loop: {in: [0, 1], iterator: n, spec: {mode: parallel, max_in_flight: 2, policy: {exec: distributed}}}
          tool: {kind: wait, approval: "boss-{{ iter.n }}"}
        """,
    )
    old = await either.start()
    names = []
    for command in await either.claim():
        names.append(f"boss-{frame_of(command).start}")
        wait = {"signal": names[-1], "approval": True}
        await either.report(done(command, status="parked", wait=wait, resume={}))
    assert sorted(names) == ["boss-0", "boss-1"]
    for name in names:
        await either.orchestrator.controls.signal(old, name, {"approved": True}, by=BOSS)
    first, _ = sorted(await either.claim(), key=lambda it: frame_of(it).start)
    counts = {"start": 0, "end": 1, "ok": 1, "failed": 0}
    await either.report(done(first, [1], frame=FrameOutcome(**counts)))
    await either.orchestrator.controls.cancel(old, "enough")
    new = await restarted(either, old)
    assert list((await either.orchestrator.state(new)).answered) == ["boss-0"]
    await either.orchestrator.controls.cancel(new, "enough")
    again = await restarted(either, new)
    assert list((await either.orchestrator.state(again)).answered) == ["boss-0"]
    await check(either, again)
    anew = await restarted(either, new, step="each")
    assert (await either.orchestrator.state(anew)).answered == {}


UNDONE = "- {step: a, tool: {kind: noop}, compensate: {tool: {kind: noop}}, next: {arcs: [{step: b}]}}\n"
NOT_UNDONE = "- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}\n"


@pytest.mark.parametrize(
    ("before", "now", "warnings"),
    [
        (NOT_UNDONE, UNDONE, ["because they had no `compensate` when they ran: a"]),
        (UNDONE, NOT_UNDONE, ["because `compensate` is no longer there: a. What they did stays as it is"]),
        (UNDONE, "", ["because `compensate` is no longer there: a. What they did stays as it is"]),
        (NOT_UNDONE, NOT_UNDONE.replace("}}\n", "}}  # other\n"), []),
        (UNDONE, UNDONE.replace("}}\n", "}}  # other\n"), []),
    ],
    ids=["added", "removed", "removed with the step", "never there", "kept"],
)
async def test_what_stays_done_and_is_not_undone_is_named(
    engine: Engine, before: str, now: str, warnings: list[str]
) -> None:
    last = "- {step: b, tool: {kind: noop}}\n"
    add(engine, before + last)
    old = await engine.start()
    (command,) = await engine.claim()
    await engine.report(done(command), by=engine.another())
    await engine.orchestrator.controls.cancel(old, "enough")
    add(engine, now + last)
    found = (await restart(engine, old, version="latest")).restart.warnings
    named = [text for text in found if "undone" in text]
    assert named == [f"not undone if this execution fails, {text}" for text in warnings]
    assert not any("compensate" in text for text in found if text not in named), "the user has no such step"


ASKS = """
- step: ask
  tool: {kind: http, method: POST, url: "https://example.com", json: {answer: "{{ keychain.decision.url }}"}}
  next: {arcs: [{step: approve}]}
- {step: approve, tool: {kind: wait, signal: decided}, next: {arcs: [{step: after}]}}
- {step: after, tool: {kind: noop}}
"""


async def test_a_callback_url_that_was_sent_and_cannot_be_answered_any_more_is_named(engine: Engine) -> None:
    add(engine, ASKS, "keychain: [{name: decision, kind: callback, signal: decided}]\n")
    old = await engine.start()
    (command,) = await engine.claim()
    await engine.report(done(command), by=engine.another())
    (command,) = await engine.claim()
    await engine.orchestrator.controls.cancel(old, "enough")
    warning = (
        "the callback URL 'decision' that ask has sent does not answer approve in the new execution: to send another "
        "one, restart with --from ask"
    )
    assert (await restart(engine, old, dry_run=True)).restart.warnings == [warning]
    assert (await restart(engine, old, step="ask", dry_run=True)).restart.warnings == []


async def test_a_callback_url_that_another_entry_has_in_its_text_is_named(engine: Engine) -> None:
    add(
        engine,
        ASKS.replace("keychain.decision.url", "keychain.link.value"),
        """
        keychain:
          - {name: decision, kind: callback, signal: decided}
          - {name: link, kind: static, map: {value: "see {{ keychain.decision.url }}"}}
        """,
    )
    old = await engine.start()
    (command,) = await engine.claim()
    await engine.report(done(command), by=engine.another())
    await engine.orchestrator.controls.cancel(old, "enough")
    (warning,) = (await restart(engine, old, dry_run=True)).restart.warnings
    assert warning.startswith("the callback URL 'decision' that ask has sent does not answer approve")


async def test_nothing_is_said_of_a_callback_whose_wait_stays_done(engine: Engine) -> None:
    add(engine, ASKS, "keychain: [{name: decision, kind: callback, signal: decided}]\n")
    old = await engine.start()
    await drive(engine, failing("after"))
    assert (await restart(engine, old)).restart.warnings == []


async def test_variables_of_an_execution_that_was_cancelled_while_paused_have_the_time_left_that_they_had(
    engine: Engine,
) -> None:
    add(engine, CHAIN)
    old = await engine.start()
    await engine.orchestrator.controls.set_variables(old, {"x": 1}, ttl=60)
    await engine.orchestrator.controls.set_variables(old, {"short": 1}, ttl=5)
    engine.seconds += 10
    await engine.orchestrator.controls.pause(old)
    engine.seconds += 3600
    await engine.orchestrator.controls.cancel(old, "enough")
    engine.seconds += 20
    new = await restarted(engine, old)
    variables = (await engine.orchestrator.state(new)).variables
    assert {name: it.expires_at for name, it in variables.items()} == {"x": (engine.seconds + 30) * 1000}
    await check(engine, new)
