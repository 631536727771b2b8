"""What is set by reference, between workers, control planes and the release before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from tests.unit.orchestrator.conftest import Engine, outcome
from tests.unit.orchestrator.test_payloads import Store, call_key

from noetl_serverless.engine.state import OF_CTX, OF_LOOP
from noetl_serverless.errors import Busy
from noetl_serverless.limits import ANSWER_BYTES
from noetl_serverless.protocol import FrameOutcome
from noetl_serverless.records import Claimant, CommitResult, ExecutionCommit
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.stores import ResultStores

WORKFLOW = """
- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
- {step: b, tool: {kind: python, code: "result = x", input: {x: "{{ ctx.big }}", y: "{{ ctx.n }}"}}}
"""
PASSING = """
- {step: a, tool: {kind: noop}, set: {ctx.big: "{{ a }}"}, next: {arcs: [{step: b}]}}
- {step: b, tool: {kind: python, code: "result = x", input: {x: "{{ ctx.big }}"}}}
"""
LOOP = """
- step: each
  loop: {in: [0, 1, 2], iterator: x, spec: {mode: parallel}}
  tool: {kind: noop, spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.last: "{{ iter.x }}"}}}}]}}}
"""
BIG = ["x" * 100_000, 7]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def engine(store: Store) -> Engine:
    engine = Engine(results=lambda: ResultStores(store))
    engine.catalog.add("t/t", WORKFLOW)
    return engine


async def held(store: Store, id: str, value: Any = BIG) -> dict[str, Any]:
    put = await externalise(
        value, Place(execution_id=id, step="a", suffix="x"), ResultStores(store), Output(inline_bytes=0)
    )
    ref: dict[str, Any] = put["ref"]
    return ref


async def after_the_first(engine: Engine, store: Store, value: Any = BIG, **more: Any) -> tuple[str, Any]:
    """The execution whose first step has set a value by reference, and its second command."""
    id = await engine.start(**more)
    (first,) = await engine.claim()
    await engine.report(outcome(first, set={"n": 1}, set_refs={"big": await held(store, id, value)}))
    (second,) = await engine.claim()
    return id, second


async def test_the_next_command_is_given_the_reference_and_the_store_knows_the_value(
    engine: Engine, store: Store
) -> None:
    id, second = await after_the_first(engine, store)
    assert (second.scope["ctx"], second.scope["ctx_refs"]["big"]["key"]) == ({"n": 1}, call_key(store))
    assert [key for _, key in engine.memory.refs] == list(store.kept)
    events = engine.memory.executions[id].events
    assert max(len(orjson.dumps(event.payload)) for event in events) < 8192
    assert store.reads == [], "the control plane reads what only workers need"


async def test_a_value_of_an_execution_that_is_not_below_this_one_is_refused(engine: Engine, store: Store) -> None:
    other, id = await engine.start(), await engine.start()
    commands = {command.execution_id: command for command in await engine.claim()}
    refs = {"own": await held(store, id), "big": await held(store, other)}
    answer = await engine.report(outcome(commands[id], set_refs=refs))
    assert answer.results[0].status == "refused"
    assert f"execution {other}" in (answer.results[0].detail or "")
    state = await engine.orchestrator.state(id)
    assert (state.status, state.ctx_refs) == ("failed", {})


@pytest.mark.parametrize("workflow", [WORKFLOW, PASSING])
async def test_the_state_is_written_with_the_event_that_the_release_before_would_misread(
    engine: Engine, store: Store, workflow: str
) -> None:
    engine.catalog.add("t/t", workflow)
    id = await engine.start()
    (first,) = await engine.claim()
    ref = await held(store, id)
    await engine.report(outcome(first, **({"ref": ref} if workflow is PASSING else {"set_refs": {"big": ref}})))
    kept = engine.memory.executions[id]
    snapshot = orjson.loads(kept.state)
    assert snapshot["seq"] == kept.head, "that release folds the event to a ctx without the value, and keeps it so"
    assert f"{OF_CTX}big" in snapshot["outcomes"]


async def test_so_it_is_with_what_the_items_of_a_loop_have_set(engine: Engine) -> None:
    engine.catalog.add("t/t", LOOP)
    id = await engine.start()
    frame = next(command for command in await engine.claim() if command.command_id == "each#1.2")
    counts = FrameOutcome(start=2, end=3, ok=1, failed=0)
    await engine.report(outcome(frame, [2], frame=counts, set={"last": 2}, set_by={"last": 2}))
    kept = engine.memory.executions[id]
    snapshot = orjson.loads(kept.state)
    assert snapshot["seq"] == kept.head, "that release folds the event as if it were the latest"
    assert snapshot["outcomes"][f"{OF_LOOP}each#1"]["writers"] == {"last": 2}


async def test_it_is_not_left_in_the_inbox_where_the_release_before_may_take_it(engine: Engine, store: Store) -> None:
    id, other = await engine.start(), await engine.start()
    commands = {command.execution_id: command for command in await engine.claim()}
    outcomes = [outcome(commands[id], set_refs={"big": await held(store, id)}), outcome(commands[other], 1)]
    commit = engine.memory.committing

    async def lose(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        return CommitResult(frozenset(), [], [], [])

    engine.memory.committing = lose
    with pytest.raises(Busy):
        await engine.report(*outcomes)
    engine.memory.committing = commit
    assert [(await engine.log.read_inbox(each)).facts == [] for each in (id, other)] == [True, False]
    answer = await engine.report(*outcomes)
    assert [result.status for result in answer.results] == ["accepted", "stale"]
    assert list((await engine.orchestrator.state(id)).ctx_refs) == ["big"]


async def test_what_a_fact_that_nobody_waits_for_sets_has_no_effect(engine: Engine, store: Store) -> None:
    id = await engine.start()
    (first,) = await engine.claim()
    await engine.orchestrator.controls.cancel(id, "enough")
    await engine.report(outcome(first, set_refs={"big": await held(store, id)}))
    assert (await engine.orchestrator.state(id)).ctx_refs == {}


# -- workers of the release before


async def test_a_worker_of_the_release_before_is_given_the_value(engine: Engine, store: Store) -> None:
    _, second = await after_the_first(engine, store)
    (given,) = await engine.orchestrator.for_older_worker("w-1", [second])
    assert given.scope == {"ctx": {"n": 1, "big": BIG}, "steps": {}}
    assert "ctx_refs" in second.scope, "what another may be given has changed"


@pytest.mark.parametrize("how", ["too large", "too large together", "away", "gone", "a loop's"])
async def test_what_it_cannot_be_given_is_left_to_a_newer_one(engine: Engine, store: Store, how: str) -> None:
    id, second = await after_the_first(engine, store, "x" * ANSWER_BYTES if how == "too large" else BIG)
    if how == "too large together":
        # each by itself may be read
        second.scope["ctx_refs"] = {name: await held(store, id, name + "x" * 2_600_000) for name in ("big", "more")}
    elif how == "away":
        store.fault = OSError("no mount")
    elif how == "gone":
        store.kept.clear()
    elif how == "a loop's":
        second.scope["ctx_refs"]["big"] = {
            "kind": "manifest",
            "ref": f"noetl://execution/{id}/manifest/a/1",
            "store": "manifest",
            "meta": {"bytes": 5},
        }
    engine.recorder.notified.clear()
    assert await engine.orchestrator.for_older_worker("w-1", [second]) == []
    assert engine.recorder.notified == [], "the same worker would be invoked for it at once"
    (again,) = await engine.claim(worker="w-2")
    assert (again.command_id, again.delivery) == (second.command_id, 1), "it counts as a delivery that failed"


async def test_a_frame_that_continues_with_what_its_items_have_set_is_left_to_a_newer_one(engine: Engine) -> None:
    engine.catalog.add("t/t", LOOP)
    await engine.start()
    (frame, *_) = await engine.claim()
    resumed = frame.model_copy(update={"resume": {"items": {"data": {}}, "set": {"data": {"0": {"x": 1}}}}})
    assert await engine.orchestrator.for_older_worker("w-1", [resumed]) == []
    # as a worker of that release has suspended it
    resumed.resume = {"items": {"data": {}}}
    assert await engine.orchestrator.for_older_worker("w-1", [resumed]) == [resumed]


async def test_it_does_not_speculate_on_what_it_cannot_decide(engine: Engine, store: Store) -> None:
    head = "executor: {spec: {durability: pipelined}}\n"
    engine.catalog.add("t/t", WORKFLOW.replace('x: "{{ ctx.big }}", ', ""), head)
    _, second = await after_the_first(engine, store)
    assert second.ahead is not None
    (given,) = await engine.orchestrator.for_older_worker("w-1", [second])
    assert (given.ahead, given.order) == (None, second.order)


async def test_all_else_it_is_given_as_it_is(engine: Engine) -> None:
    await engine.start()
    commands = await engine.claim()
    assert await engine.orchestrator.for_older_worker("w-1", commands) == commands
