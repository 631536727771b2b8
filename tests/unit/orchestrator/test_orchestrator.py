"""From request to commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from tests.unit.orchestrator.conftest import Engine, frame_of, outcome
from tests.unit.orchestrator.conftest import outcome as done

from noetl_serverless.engine import events as e
from noetl_serverless.errors import Conflict, InvalidRequest, NotFound, Unavailable
from noetl_serverless.limits import ERROR_BYTES
from noetl_serverless.protocol import CommandKey, HeartbeatRequest, Held
from noetl_serverless.records import Claimant, CommitResult, ExecutionCommit

CHAIN = """
- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
- {step: b, tool: {kind: python, input: {v: "{{ a.n }}", w: "{{ workload.x }}"}, code: "result = v"}}
"""
LOOP = """
- step: each
  loop: {in: "{{ [10, 20, 30] }}", iterator: x, spec: {mode: parallel, max_in_flight: 2}}
  tool: {kind: python, input: {x: "{{ iter.x }}"}, code: "result = x"}
"""
PARENT = """
- {step: call, tool: {kind: playbook, path: t/child, input: {x: 1}}, next: {arcs: [{step: after}]}}
- {step: after, tool: {kind: noop}}
"""


async def error_of(engine: Engine, id: str) -> dict[str, Any]:
    """The error that the execution failed with."""
    error = (await engine.log.load([id]))[id].state.error
    assert error is not None
    return error


async def test_a_chain_costs_one_report_per_step_and_no_message(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN, "workload: {x: 1, unused: 2}\n")
    id = await engine.start()
    assert engine.recorder.notified == [("shared", "invocation"), ("shared", "a#1")]
    (first,) = await engine.claim()
    answer = await engine.report(done(first, {"n": 5}), capacity=1)
    assert answer.results[0].status == "accepted"
    (second,) = answer.commands
    assert (second.command_id, second.delivery, second.workload) == ("b#1", 1, {"x": 1})
    assert second.scope["steps"] == {"a": {"status": "ok", "data": {"n": 5}}}
    await engine.report(done(second, 5))
    assert engine.status(id) == "COMPLETED"
    assert len(engine.recorder.notified) == 2, "nothing is told that the worker already holds"


async def test_a_worker_without_room_gets_nothing_and_others_are_notified(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    await engine.start(payload={"x": 1})
    (first,) = await engine.claim()
    answer = await engine.report(done(first, {"n": 5}), capacity=0)
    assert answer.commands == []
    assert engine.recorder.notified[-2:] == [("shared", "invocation"), ("shared", "b#1")]


async def test_plans_are_sent_once(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    await engine.start(payload={"x": 1})
    from noetl_serverless.protocol import ClaimRequest

    answer = await engine.orchestrator.claim(ClaimRequest(worker_id="w-1"))
    (plan,) = answer.plans
    assert answer.plans[plan] == engine.catalog.found["t/t"].content
    await engine.start(payload={"x": 1})
    assert (await engine.orchestrator.claim(ClaimRequest(worker_id="w-1", plans=[plan]))).plans == {}


async def test_a_report_twice_is_stale_the_second_time(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start(payload={"x": 1})
    (first,) = await engine.claim()
    await engine.report(done(first, {"n": 5}))
    again = await engine.report(done(first, {"n": 6}))
    assert again.results[0].status == "stale"
    assert engine.types(id).count("call.done") == 1


async def test_a_worker_whose_lease_was_given_away_is_refused(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    await engine.start(payload={"x": 1})
    (slow,) = await engine.claim(lease=1.0)
    engine.seconds += 5
    await engine.log.expire_leases(3, 10)
    (fast,) = await engine.claim(worker="w-2")
    assert (await engine.report(done(slow, {"n": 1}))).results[0].status == "stale"
    assert (await engine.report(done(fast, {"n": 2}), worker="w-2")).results[0].status == "accepted"


async def test_another_instance_knows_what_the_first_decided(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start(payload={"x": 1})
    other = engine.another()
    (first,) = await engine.claim()
    answer = await engine.report(done(first, {"n": 5}), capacity=1, by=other)
    answer = await engine.report(done(answer.commands[0], 5))
    assert answer.results[0].status == "accepted"
    assert engine.status(id) == "COMPLETED"


async def test_many_outcomes_of_many_executions_go_in_one_report(engine: Engine) -> None:
    engine.catalog.add("t/t", LOOP)
    ids = [await engine.start() for _ in range(3)]
    commands = await engine.claim(limit=100)
    assert len(commands) == 6
    answer = await engine.report(
        *(
            done(
                c,
                [0],
                frame={"start": frame_of(c).start, "end": frame_of(c).end, "ok": 1, "failed": 0, "item_ms": 100},
            )
            for c in commands
        ),
        capacity=100,
    )
    assert {result.status for result in answer.results} == {"accepted"}
    assert len(answer.commands) == 3
    assert [command.items for command in answer.commands] == [[30]] * 3
    assert {engine.status(id) for id in ids} == {"RUNNING"}


async def test_a_frame_gets_its_slice_of_the_collection(engine: Engine) -> None:
    engine.catalog.add("t/t", LOOP)
    await engine.start()
    commands = await engine.claim()
    assert [(c.items, frame_of(c).index, c.count) for c in commands] == [([10], 0, 3), ([20], 1, 3)]


async def test_an_outcome_that_does_not_fit_fails_its_step_with_the_reason(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start(payload={"x": 1})
    (first,) = await engine.claim()
    answer = await engine.report(done(first, "x" * 70_000))
    assert answer.results[0].status == "refused"
    assert "above the inline limit" in (answer.results[0].detail or "")
    assert engine.status(id) == "FAILED"


async def test_a_result_by_reference_is_registered_with_its_outcome(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    await engine.start(payload={"x": 1})
    (first,) = await engine.claim()
    uri = f"noetl://execution/{first.execution_id}/result/a/00000000"
    ref: dict[str, Any] = {"kind": "result_ref", "ref": uri, "store": "disk", "key": f"{first.execution_id}/a/0"}
    ref["meta"] = {"bytes": 9, "sha256": "0" * 64}
    await engine.report(done(first, ref=ref))
    assert engine.memory.refs[(first.execution_id, ref["key"])]["bytes"] == 9


async def test_a_released_command_waits_for_another_worker(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start(payload={"x": 1})
    (first,) = await engine.claim()
    answer = await engine.report(done(first, status="released"))
    assert answer.results[0].status == "accepted"
    assert engine.types(id) == ["playbook.initialized", "command.issued"]
    (again,) = await engine.claim(worker="w-2")
    assert (again.command_id, again.lost) == ("a#1", None)


async def test_a_command_that_is_released_when_it_had_begun_says_so_to_the_next(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    await engine.start(payload={"x": 1})
    (first,) = await engine.claim()
    await engine.report(done(first, status="released", meta={"started_at": "2026-01-01T00:00:00.000Z"}))
    (again,) = await engine.claim(worker="w-2")
    assert [(lost["worker"], "given_back_at" in lost) for lost in again.lost or ()] == [("w-1", True)]


async def test_after_a_lost_answer_a_worker_gets_what_it_holds(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    await engine.start(payload={"x": 1})
    (first,) = await engine.claim()
    await engine.report(done(first, {"n": 5}), capacity=1)
    (found,) = await engine.claim(recover=True)
    assert found.command_id == "b#1"
    holding = [CommandKey(execution_id=found.execution_id, command_id=found.command_id)]
    assert await engine.claim(recover=True, holding=holding) == []


async def test_a_heartbeat_names_lost_commands(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start(payload={"x": 1})
    (first,) = await engine.claim()
    held = [Held(execution_id=id, command_id="a#1", fence=first.fence)]
    assert (await engine.orchestrator.heartbeat(HeartbeatRequest(worker_id="w-1", commands=held))).lost == []
    await engine.orchestrator.controls.cancel(id, "enough")
    lost = (await engine.orchestrator.heartbeat(HeartbeatRequest(worker_id="w-1", commands=held))).lost
    assert [key.command_id for key in lost] == ["a#1"]


async def test_an_idempotency_key_starts_once_and_refuses_another_request(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    first = await engine.orchestrator.start(path="t/t", payload={"x": 1}, idempotency_key="k")
    again = await engine.orchestrator.start(path="t/t", payload={"x": 1}, idempotency_key="k")
    assert (again.execution_id, again.replayed) == (first.execution_id, True)
    with pytest.raises(Conflict, match="another playbook or payload"):
        await engine.orchestrator.start(path="t/t", payload={"x": 2}, idempotency_key="k")


async def test_a_payload_is_merged_over_the_workload(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN, "workload: {x: 1, deep: {a: 1, b: 2}}\n")
    id = await engine.start(payload={"deep": {"b": 3}, "ctx": {"seen": True}})
    state = (await engine.log.load([id]))[id].state
    assert state.workload == {"x": 1, "deep": {"a": 1, "b": 3}}
    assert state.ctx == {"seen": True}


async def test_a_large_workload_stands_beside_the_log(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start(payload={"x": "y" * 100_000})
    assert "workload" not in engine.memory.executions[id].events[0].payload
    assert len((await engine.log.load([id]))[id].state.workload["x"]) == 100_000
    with pytest.raises(InvalidRequest, match="pass a URL instead"):
        await engine.start(payload={"x": "y" * 9_000_000})


async def test_a_child_runs_and_its_parent_goes_on(engine: Engine) -> None:
    engine.catalog.add("t/t", PARENT)
    engine.catalog.add("t/child", CHAIN)
    id = await engine.start()
    (call,) = await engine.claim()
    await engine.report(done(call, status="parked", child={"path": "t/child", "payload": {"x": 1}}))
    (first,) = await engine.claim()
    assert first.execution_id != id
    (second,) = (await engine.report(done(first, {"n": 2}), capacity=1)).commands
    await engine.report(done(second, 2))
    (after,) = await engine.claim()
    assert (after.execution_id, after.command_id) == (id, "after#1")
    await engine.report(done(after))
    assert engine.status(id) == "COMPLETED"
    assert engine.types(id).count("child.ended") == 1


async def test_a_batch_may_end_a_child_and_report_for_its_parent_at_once(engine: Engine) -> None:
    both = """
    - {step: split, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: call}, {step: other}]}}
    - {step: call, tool: {kind: playbook, path: t/child}}
    - {step: other, tool: {kind: noop}}
    """
    engine.catalog.add("t/t", both)
    engine.catalog.add("t/child", "- {step: only, tool: {kind: noop}}\n")
    id = await engine.start()
    (split,) = await engine.claim()
    answer = await engine.report(done(split), capacity=5)
    call, other = answer.commands
    await engine.report(done(call, status="parked", child={"path": "t/child"}))
    (only,) = await engine.claim()
    answer = await engine.report(done(only), done(other))
    assert {result.status for result in answer.results} == {"accepted"}
    assert engine.status(id) == "COMPLETED"


async def test_a_missing_child_fails_the_step(engine: Engine) -> None:
    engine.catalog.add("t/t", PARENT)
    id = await engine.start()
    (call,) = await engine.claim()
    await engine.report(done(call, status="parked", child={"path": "t/child"}))
    assert engine.status(id) == "FAILED"
    assert (await error_of(engine, id))["code"] == "child.not_found"


async def test_a_missing_child_fails_its_item_of_a_loop(engine: Engine) -> None:
    engine.catalog.add(
        "t/t",
        """
        - step: each
          loop: {in: "{{ [7, 8] }}", iterator: x, spec: {mode: parallel}}
          tool: {kind: playbook, path: t/child}
        """,
    )
    id = await engine.start()
    first, second = sorted(await engine.claim(), key=lambda command: command.command_id)
    await engine.report(done(first, status="parked", child={"path": "t/child"}))
    state = (await engine.log.load([id]))[id].state
    assert (state.ended, state.loops["each#1"].failed, state.loops["each#1"].ok) == (False, 1, 0)
    await engine.report(done(second, status="parked", child={"path": "t/child"}))
    assert engine.status(id) == "FAILED"
    committed = [event.payload for event in engine.memory.executions[id].events if event.type == "frame.committed"]
    assert [(one["start"], one["end"], one["failed"], one["error"]["code"]) for one in committed] == [
        (0, 1, 1, "child.not_found"),
        (1, 2, 1, "child.not_found"),
    ]


@pytest.mark.parametrize("ctx", [[1], "text", None])
async def test_a_child_that_cannot_begin_with_its_payload_is_an_error_of_the_step(engine: Engine, ctx: Any) -> None:
    engine.catalog.add("t/t", PARENT)
    engine.catalog.add("t/child", CHAIN)
    id = await engine.start()
    (call,) = await engine.claim()
    answer = await engine.report(done(call, status="parked", child={"path": "t/child", "payload": {"ctx": ctx}}))
    assert answer.results[0].status == "accepted"
    error = await error_of(engine, id)
    assert (engine.status(id), error["code"]) == ("FAILED", "child.invalid")
    assert error["message"] == "playbook t/child cannot be started: payload.ctx must be an object"
    assert await engine.log.executions_with_inbox(10) == [], "nothing is stuck"


async def test_playbooks_that_call_each_other_for_ever_are_stopped(engine: Engine) -> None:
    engine.catalog.add("t/t", "- {step: again, tool: {kind: playbook, path: t/t}}\n")
    id = await engine.start()
    for _ in range(40):
        commands = await engine.claim()
        if not commands:
            break
        await engine.report(done(commands[0], status="parked", child={"path": "t/t"}))
    assert engine.status(id) == "FAILED"
    assert "child.too_deep" in str((await engine.log.load([id]))[id].state.error)


async def test_the_error_of_playbooks_that_start_each_other_does_not_grow_with_their_depth(engine: Engine) -> None:
    engine.catalog.add("t/t", "- {step: call, tool: {kind: playbook, path: t/t}}\n")
    ids = [await engine.start()]
    for _ in range(12):
        (call,) = await engine.claim()
        await engine.report(done(call, status="parked", child={"path": "t/t"}))
        ids += await engine.log.running_descendants(call.execution_id)
    (call,) = await engine.claim()
    # the message of each tells the reason, too
    failure = {"kind": "t", "code": "boom", "message": "x" * 9000, "retryable": False}
    await engine.report(done(call, status="error", error=failure))
    errors = [case.state.error for case in (await engine.log.load(ids)).values()]
    assert len(errors) == 13
    assert max(len(orjson.dumps(error)) for error in errors) <= ERROR_BYTES + 100, "but for the name of its step"
    facts = [
        event.payload["error"]
        for id in ids[:-1]
        for event in engine.memory.executions[id].events
        if event.type == e.CHILD_ENDED
    ]
    assert len(facts) == 12
    assert max(len(orjson.dumps(error)) for error in facts) <= ERROR_BYTES, (
        "what a parent is told is larger than an error"
    )
    first = await error_of(engine, ids[0])
    assert (first["code"], first["cause"]["code"], first["execution_id"]) == ("child.failed", "child.failed", ids[1])
    assert first["message"].startswith(f"the child execution {ids[1]} failed: xxx")


async def test_cancelling_ends_the_children_too(engine: Engine) -> None:
    engine.catalog.add("t/t", PARENT)
    engine.catalog.add("t/child", CHAIN)
    id = await engine.start()
    (call,) = await engine.claim()
    await engine.report(done(call, status="parked", child={"path": "t/child", "payload": {"x": 1}}))
    (child,) = await engine.log.running_descendants(id)
    assert await engine.orchestrator.controls.cancel(id, "enough") == ("cancelled", [id, child])
    assert (engine.status(id), engine.status(child)) == ("CANCELLED", "CANCELLED")
    assert await engine.orchestrator.controls.cancel(id, "again") == ("already_completed", [])
    with pytest.raises(NotFound):
        await engine.orchestrator.controls.cancel("404", "nobody")


async def test_a_failed_parent_takes_its_children_with_it(engine: Engine) -> None:
    engine.catalog.add(
        "t/t",
        """
        - {step: split, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: call}, {step: other}]}}
        - {step: call, tool: {kind: playbook, path: t/child}}
        - {step: other, tool: {kind: noop}}
        """,
    )
    engine.catalog.add("t/child", CHAIN)
    await engine.start()
    (split,) = await engine.claim()
    call, other = (await engine.report(done(split), capacity=5)).commands
    await engine.report(done(call, status="parked", child={"path": "t/child", "payload": {"x": 1}}))
    (child,) = await engine.log.running_descendants(split.execution_id)
    await engine.report(done(other, status="error", error={"kind": "t", "code": "boom", "message": "broke"}))
    assert engine.status(child) == "CANCELLED"


async def test_a_dead_letter_command_fails_its_step_and_is_kept(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start(payload={"x": 1})
    await engine.claim(lease=1.0)
    engine.seconds += 5
    (dead,) = await engine.log.undeliverable(1, 10)
    assert await engine.orchestrator.fail_undeliverable(dead)
    assert not await engine.orchestrator.fail_undeliverable(dead), "it is buried once"
    error = await error_of(engine, id)
    assert error["code"] == "command.delivery_limit"
    assert "delivered to 1 workers and none reported an outcome" in error["message"]
    assert engine.memory.commands[(id, "a#1")].status == "dead"


async def test_a_dead_letter_frame_fails_its_items(engine: Engine) -> None:
    engine.catalog.add("t/t", LOOP)
    id = await engine.start()
    await engine.claim(lease=1.0)
    engine.seconds += 5
    for dead in await engine.log.undeliverable(1, 10):
        assert await engine.orchestrator.fail_undeliverable(dead)
    assert engine.status(id) == "FAILED"


async def test_who_loses_the_row_twice_leaves_the_outcome_for_whoever_holds_it(engine: Engine) -> None:
    """Another instance goes on with the loop between each read and each commit of this one."""
    engine.catalog.add("t/t", LOOP)
    id = await engine.start()
    commands = await engine.claim()
    other, log = engine.another(), engine.memory
    commit = log.committing
    interrupted: list[bool] = []

    async def interrupt(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        if len(interrupted) < 2:
            interrupted.append(True)
            log.executions[id].head += 1
            committed = await commit(parts, claimant)
            log.executions[id].head -= 1
            return committed
        return await commit(parts, claimant)

    log.committing = interrupt
    frame = {"start": 0, "end": 1, "ok": 1, "failed": 0, "item_ms": 100}
    answer = await engine.report(done(commands[0], [0], frame=frame), capacity=1, by=other)
    assert len(interrupted) == 2
    assert answer.results[0].status == "accepted"
    assert [command.items for command in answer.commands] == [[30]], "it takes in the inbox itself if nobody else does"
    assert log.executions[id].inbox == {}
    assert engine.types(id).count("frame.committed") == 1


async def test_an_outcome_in_the_inbox_is_taken_in_by_the_next_who_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.catalog.add("t/t", CHAIN)
    id = await engine.start(payload={"x": 1})
    (first,) = await engine.claim()

    async def busy(*_args: Any, **_more: Any) -> Any:
        raise Unavailable("busy")

    async def lost(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        return CommitResult(frozenset(), [], [], [])

    commit = engine.memory.committing
    engine.memory.committing = lost
    with monkeypatch.context() as patch:
        patch.setattr(engine.orchestrator._commits, "commit_fact", busy)
        answer = await engine.report(done(first, {"n": 5}))
    assert answer.results[0].status == "accepted", "what is in the inbox is kept"
    engine.memory.committing = commit
    assert await engine.orchestrator.process_inbox(id)
    assert engine.types(id)[-2:] == ["call.done", "command.issued"]


async def test_the_reason_why_a_child_cannot_be_started_is_shortened(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.catalog.add("t/t", "- {step: call, tool: {kind: playbook, path: t/child}}\n")
    id = await engine.start()
    (call,) = await engine.claim()

    async def absent(path: str, version: int | None = None) -> Any:
        raise NotFound("x" * 1_000_000)

    monkeypatch.setattr(engine.catalog, "get", absent)
    await engine.report(outcome(call, status="parked", child={"path": "t/child"}))
    failed = [event.payload["error"] for event in engine.memory.executions[id].events if event.type == e.CALL_ERROR]
    assert [error["code"] for error in failed] == ["child.not_found"]
    assert len(orjson.dumps(failed)) < ERROR_BYTES
