"""What a worker ran ahead: offered what it takes, taken in under the lease of the first, refused if it differs."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import dedent
from typing import Any

import orjson
import pytest
from tests.unit.orchestrator.conftest import Engine
from tests.unit.orchestrator.conftest import outcome as done

from noetl_serverless.commands.issued_command import digest_of
from noetl_serverless.engine import events as e
from noetl_serverless.engine.state import State
from noetl_serverless.orchestrator import claims
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.protocol import ClaimedCommand, Order, Outcome, ReportRequest, ReportResponse
from noetl_serverless.records import Claimant, CommitResult, ExecutionCommit
from noetl_serverless.worker.drain.speculation import Speculation

PIPELINED = "executor: {spec: {durability: pipelined}}\nworkload: {x: 1, y: 2}\n"
CHAIN = """
- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
- {step: b, tool: {kind: python, input: {v: "{{ a.n }}"}, code: ""}, next: {arcs: [{step: c}]}}
- {step: c, tool: {kind: python, input: {v: "{{ b.n }}"}, code: ""}, next: {arcs: [{step: d}]}}
- {step: d, tool: {kind: python, input: {v: "{{ c.n }}"}, code: ""}}
"""
FORK = """
- {step: a, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}]}}
- {step: b, tool: {kind: noop}}
- {step: c, tool: {kind: noop}}
"""


def order_of(step: str, before: str, n: int) -> str:
    """The digest of what `step` is issued with after `before` gave n."""
    route = {"step": before, "generation": 1, "event": "call.done", "arcs": [step]}
    scope = {"ctx": {}, "steps": {before: {"status": "ok", "data": {"n": n}}}}
    return digest_of({"kind": "step", "attempt": 1, "scope": scope, "routes": [route]})


def ahead(anchor: ClaimedCommand, step: str, before: str, n: int, **more: Any) -> Outcome:
    """`before` gave n, and `step` n + 1."""
    return Outcome(
        execution_id=anchor.execution_id,
        command_id=f"{step}#1",
        fence=anchor.fence,
        status="done",
        data={"n": n + 1},
        order=order_of(step, before, n),
        **more,
    )


def statuses(answer: ReportResponse) -> list[str]:
    return [result.status for result in answer.results]


def sent(command: ClaimedCommand) -> ClaimedCommand:
    return ClaimedCommand.model_validate_json(command.model_dump_json())


@pytest.fixture
async def first(engine: Engine) -> ClaimedCommand:
    engine.catalog.add("t/t", CHAIN, PIPELINED)
    await engine.start()
    (first,) = await engine.claim()
    return first


# -- offered


async def test_a_command_that_is_the_only_one_brings_the_state(engine: Engine, first: ClaimedCommand) -> None:
    assert first.ahead is not None
    assert (first.ahead.head, first.ahead.workload, first.workload) == (2, {"x": 1, "y": 2}, {})
    given = ClaimedCommand.model_validate_json(first.model_dump_json()).ahead
    assert given is not None
    state = State.restore(given.state, given.workload)
    case = (await engine.log.load([first.execution_id]))[first.execution_id]
    assert state == case.state
    assert first.order == digest_of(engine.memory.executions[first.execution_id].events[1].payload)


async def test_speculative_commands_are_what_would_be_claimed_to_the_order_of_keys(engine: Engine) -> None:
    body = """
    - step: a
      tool: {kind: noop}
      set: {ctx.zeta: "{{ {'y': 1, 'b': {'z': 1, 'a': 2}} }}", ctx.alpha: 1}
      next: {arcs: [{step: b}]}
    - step: b
      tool: {kind: python, code: "", input: {v: "{{ a }}", z: "{{ ctx.zeta }}", a: "{{ ctx.alpha }}", w: "{{ w }}"}}
    """
    engine.catalog.add("t/t", dedent(body), "executor: {spec: {durability: pipelined}}\nworkload: {w: {k: 1, c: 2}}\n")
    await engine.start()
    (first,) = [sent(command) for command in await engine.claim()]
    outcome = done(first, {"n": 1, "c": {"x": 1, "a": 2}}, at=5)
    plan = load_plan(next(iter(engine.catalog.found.values())).content)
    ahead = Speculation.of(first, plan, "w-1", lambda step: True)
    assert ahead is not None
    chained = ahead.next_command(first, outcome)
    assert chained is not None

    await engine.report(outcome)
    # by one that has seen nothing of it
    engine.orchestrator = engine.another()
    (claimed,) = [sent(command) for command in await engine.claim()]

    assert chained.command_id == claimed.command_id
    for part in ("scope", "workload"):
        both = [orjson.dumps(getattr(command, part)) for command in (chained, claimed)]
        assert both[0] == both[1], f"the {part} of a step depends on who decided it"
    assert list(claimed.scope["steps"]["a"]["data"]) == ["n", "c"], "not as it was written"


async def test_without_the_playbooks_word_it_does_not(engine: Engine) -> None:
    engine.catalog.add("t/t", CHAIN)
    await engine.start()
    (first,) = await engine.claim()
    assert (first.ahead, first.order) == (None, None)


async def test_one_of_several_does_not(engine: Engine) -> None:
    engine.catalog.add("t/t", FORK, PIPELINED)
    await engine.start()
    (first,) = await engine.claim()
    answer = await engine.report(done(first), capacity=2)
    assert [command.ahead for command in answer.commands] == [None, None]
    # the last one left is the only one again
    answer = await engine.report(done(answer.commands[0]), capacity=2)
    assert answer.commands == []


async def test_a_large_workload_does_not_travel(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "AHEAD_BYTES", 10)
    engine.catalog.add("t/t", CHAIN, PIPELINED)
    await engine.start()
    (first,) = await engine.claim()
    assert first.ahead is None
    assert first.order is not None


# -- taken in


async def test_outcomes_of_a_chain_are_one_commit(engine: Engine, first: ClaimedCommand) -> None:
    answer = await engine.report(
        done(first, {"n": 1}), ahead(first, "b", "a", 1), ahead(first, "c", "b", 2), capacity=1
    )
    assert statuses(answer) == ["accepted", "accepted", "accepted"]
    (last,) = answer.commands
    assert (last.command_id, last.delivery, last.scope["steps"]["c"]["data"]) == ("d#1", 1, {"n": 3})
    assert last.ahead is not None
    assert list(engine.memory.commands) == [(first.execution_id, "d#1")]
    await engine.report(done(last, {"n": 4}))
    assert engine.status(first.execution_id) == "COMPLETED"
    types = engine.types(first.execution_id)
    assert types == [e.STARTED, e.ISSUED, *[e.CALL_DONE, e.ISSUED] * 3, e.CALL_DONE, e.COMPLETED]


async def test_all_of_a_chain_to_its_end(engine: Engine, first: ClaimedCommand) -> None:
    rest = [ahead(first, "b", "a", 1), ahead(first, "c", "b", 2), ahead(first, "d", "c", 3)]
    await engine.report(done(first, {"n": 1}), *rest)
    assert engine.status(first.execution_id) == "COMPLETED"
    assert engine.memory.commands == {}


async def test_what_the_worker_runs_already_brings_its_lease_alone(engine: Engine, first: ClaimedCommand) -> None:
    async def report(order: str) -> ClaimedCommand:
        key = Order(execution_id=first.execution_id, command_id="b#1", order=order)
        request = ReportRequest(worker_id="w-1", outcomes=[done(first, {"n": 1})], capacity=1, running=[key])
        (command,) = (await engine.orchestrator.report(request)).commands
        return command

    command = await report(order_of("b", "a", 1))
    assert (command.command_id, command.scope, command.workload, command.ahead) == ("b#1", {}, {}, None)
    assert command.fence > first.fence


async def test_what_the_worker_runs_with_something_else_brings_all(engine: Engine, first: ClaimedCommand) -> None:
    key = Order(execution_id=first.execution_id, command_id="b#1", order=order_of("b", "a", 7))
    request = ReportRequest(worker_id="w-1", outcomes=[done(first, {"n": 1})], capacity=1, running=[key])
    (command,) = (await engine.orchestrator.report(request)).commands
    assert command.scope["steps"]["a"]["data"] == {"n": 1}
    assert command.ahead is not None


async def test_each_step_ends_when_its_worker_says(engine: Engine, first: ClaimedCommand) -> None:
    now = int(engine.seconds * 1000)
    began = engine.memory.executions[first.execution_id].events[0].at
    engine.seconds += 10
    await engine.report(
        done(first, {"n": 1}, at=now + 2000),
        # a clock that went backwards, and one that is ahead
        ahead(first, "b", "a", 1, at=now - 50_000),
        ahead(first, "c", "b", 2, at=now + 99_000),
    )
    events = engine.memory.executions[first.execution_id].events
    at = [event.at - now for event in events if event.type == e.CALL_DONE]
    assert (began, at) == (now, [2000, 2000, 10_000])


# -- refused


async def test_a_command_that_was_run_with_something_else_is_refused(engine: Engine, first: ClaimedCommand) -> None:
    answer = await engine.report(
        done(first, {"n": 1}), ahead(first, "b", "a", 7), ahead(first, "c", "b", 8), capacity=1
    )
    assert statuses(answer) == ["accepted", "stale", "stale"]
    (command,) = answer.commands
    assert (command.command_id, command.scope["steps"]["a"]["data"]) == ("b#1", {"n": 1})


async def test_a_command_that_was_not_issued_is_refused(engine: Engine, first: ClaimedCommand) -> None:
    answer = await engine.report(done(first, {"n": 1}), ahead(first, "d", "a", 1), capacity=1)
    assert statuses(answer) == ["accepted", "stale"]
    assert [command.command_id for command in answer.commands] == ["b#1"]


async def test_nothing_is_taken_under_a_lease_that_went_to_another(engine: Engine, first: ClaimedCommand) -> None:
    engine.seconds += 100
    await engine.log.expire_leases(3, 10)
    (other,) = await engine.claim(worker="w-2")
    before = engine.types(first.execution_id)
    answer = await engine.report(done(first, {"n": 1}), ahead(first, "b", "a", 1))
    assert statuses(answer) == ["stale", "stale"]
    assert engine.types(first.execution_id) == before
    assert statuses(await engine.report(done(other, {"n": 5}), worker="w-2")) == ["accepted"]


async def test_nothing_is_taken_without_the_outcome_it_follows_from(engine: Engine, first: ClaimedCommand) -> None:
    answer = await engine.report(done(first, {"n": 1}), capacity=0)
    assert statuses(answer) == ["accepted"]
    # b waits for whoever claims it: the fence of a is worth nothing any more
    assert statuses(await engine.report(ahead(first, "b", "a", 1))) == ["stale"]
    assert [command.command_id for command in await engine.claim()] == ["b#1"]


async def test_a_report_that_is_sent_again_is_stale_as_a_whole(engine: Engine, first: ClaimedCommand) -> None:
    outcomes = [done(first, {"n": 1}), ahead(first, "b", "a", 1)]
    assert statuses(await engine.report(*outcomes, capacity=1)) == ["accepted", "accepted"]
    again = await engine.report(*outcomes, capacity=1)
    assert (statuses(again), again.commands) == (["stale", "stale"], [])
    # another instance, that does not know it either
    assert statuses(await engine.report(*outcomes, by=engine.another())) == ["stale", "stale"]
    (held,) = await engine.claim(recover=True)
    assert (held.command_id, held.order, held.ahead is not None) == ("c#1", order_of("c", "b", 2), True)


def lose_races(engine: Engine, execution_id: str, times: int) -> list[Sequence[ExecutionCommit]]:
    """Whoever commits finds that another was first, so many `times`; the list takes what each commit was given."""
    commit = engine.memory.committing
    tries: list[Sequence[ExecutionCommit]] = []

    async def late(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        tries.append(parts)
        ahead = len(tries) <= times
        execution = engine.memory.executions[execution_id]
        execution.head += ahead
        try:
            return await commit(parts, claimant)
        finally:
            execution.head -= ahead

    engine.memory.committing = late
    return tries


async def test_who_loses_the_race_decides_once_more(engine: Engine, first: ClaimedCommand) -> None:
    tries = lose_races(engine, first.execution_id, 1)
    answer = await engine.report(done(first, {"n": 1}), ahead(first, "b", "a", 1), capacity=1)
    assert statuses(answer) == ["accepted", "accepted"]
    assert len(tries) == 2


async def test_of_a_busy_execution_the_first_outcome_goes_to_the_inbox(engine: Engine, first: ClaimedCommand) -> None:
    lose_races(engine, first.execution_id, 2)
    answer = await engine.report(done(first, {"n": 1}), ahead(first, "b", "a", 1), capacity=1)
    assert statuses(answer) == ["accepted", "stale"]
    assert [command.command_id for command in answer.commands] == ["b#1"]
