"""The engine and the oracle side by side, over playbooks that are drawn; and logs that were tampered with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import dedent
from typing import Any

import orjson
import pytest
from tests.simulation.checks import _manifest, ctx_of
from tests.simulation.faults import Faults, Limits, none
from tests.simulation.playbooks import CONTROLLED, SHARE
from tests.simulation.seeds import simulate
from tests.simulation.world import World
from tests.unit.engine.run import HEAD, Run

from noetl_serverless.engine.events import Event

from .execution import Execution, Unclear
from .following import Differs, follow
from .playbook import read

BOOKS = 40
SEEDS = 30
# playbooks of values that cannot be stored or come near a limit, of which the oracle knows nothing
FAULTY = "sim/poison"
# of a hundred logs, how many may hold what the language leaves open
UNCLEAR = 0.03


@pytest.fixture(scope="module")
def calm() -> list[World]:
    return [simulate(seed, none(seed), Limits(), {})[0] for seed in range(0, BOOKS * SHARE, SHARE)]


def fetch_of(world: World) -> Any:
    def fetch(ref: Mapping[str, Any]) -> Any:
        if ref["kind"] == "manifest":
            data = {"results": _manifest(world, dict(ref)), "stats": ref["extracted"]["stats"]}
            return data[ref["field"]] if "field" in ref else data
        return orjson.loads(world.kept[ref["key"]])

    return fetch


def followed(world: World, id: str, events: Sequence[Event] | None = None) -> Execution:
    execution = world.log.executions[id]
    playbook = read(world.catalog_text(execution.loaded.plan_hash))
    return follow(playbook, execution.workload, events or execution.events, fetch_of(world))


def all_followed(worlds: Sequence[World]) -> Counter[str]:
    seen: Counter[str] = Counter()
    for world in worlds:
        for id, execution in world.log.executions.items():
            if execution.loaded.path.startswith(FAULTY):
                continue
            try:
                ours = followed(world, id)
            except Unclear:
                seen["unclear"] += 1
                continue
            state = world.log.diaries[id].shadow
            assert ours.status == execution.status.lower(), f"seed {world.seed} execution {id}"
            if ours.status == "completed":
                assert ours.ctx == ctx_of(world, state), f"seed {world.seed} execution {id}"
                assert ours.runs == {step: times for step, times in state.generations.items() if ours.runs[step]}
            seen[ours.status] += 1
    return seen


def test_without_faults_the_engine_does_what_the_language_says(calm: list[World]) -> None:
    seen = all_followed(calm)
    assert seen["completed"] > BOOKS
    assert seen["failed"] > 5
    assert seen["unclear"] <= UNCLEAR * seen.total()


def test_under_faults_it_does_so_too() -> None:
    seen = all_followed([simulate(seed, Faults(seed, Limits()), Limits(), {})[0] for seed in range(SEEDS)])
    assert seen["completed"] > SEEDS / 2
    assert seen["cancelled"]


def test_where_users_do_more_it_does_so_too() -> None:
    seeds = range(CONTROLLED * SHARE, (CONTROLLED + SEEDS) * SHARE, SHARE + 1)
    seen = all_followed([simulate(seed, Faults(seed, Limits()), Limits(), {})[0] for seed in seeds])
    assert seen["completed"] > SEEDS
    assert seen["failed"] > SEEDS / 2
    assert seen["unclear"] <= UNCLEAR * seen.total()


def _without(type: str, /, **payload: Any) -> Any:
    def change(events: list[Event]) -> list[Event]:
        found = [event for event in events if event.type == type and payload.items() <= event.payload.items()]
        return [event for event in events if event is not found[-1]]

    return change


def _other_end(events: list[Event]) -> list[Event]:
    return [
        replace(event, payload={**event.payload, "result_step": "s0"}) if event.type == "playbook.completed" else event
        for event in events
    ]


def _one_more(events: list[Event]) -> list[Event]:
    first = next(event for event in events if event.type == "command.issued" and event.payload["kind"] == "step")
    return [*events, replace(first, seq=len(events) + 1, command_id="other#1", step="other")]


def _without_the_claim_that_found_nothing(events: list[Event]) -> list[Event]:
    if not any(event.type == "loop.opened" and event.payload["mode"] == "cursor" for event in events):
        raise StopIteration
    return [replace(event, payload={**event.payload, "drained": False}) for event in events]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a loop ends while there may be rows to claim", _without_the_claim_that_found_nothing),
        ("a step that follows is not begun", _without("command.issued", kind="step", attempt=1)),
        ("a step is not skipped", _without("step.skipped")),
        ("it does not end", _without("playbook.completed")),
        ("the result is that of another step", _other_end),
        ("a step begins that nothing leads to", _one_more),
    ],
)
def test_a_log_that_was_tampered_with_is_found(calm: list[World], name: str, change: Any) -> None:
    caught = 0
    for world in calm:
        for id, execution in world.log.executions.items():
            try:
                events = change(execution.events)
            except (IndexError, StopIteration):
                continue
            faulty = execution.loaded.path.startswith(FAULTY)
            if faulty or events == execution.events or execution.status != "COMPLETED":
                continue
            try:
                followed(world, id)
            except Unclear:
                continue
            with pytest.raises(Differs):
                followed(world, id, events)
            caught += 1
    assert caught, f"no log could be changed: {name}"


def test_a_step_that_sees_another_ctx_is_found() -> None:
    workflow = """
        - {step: a, tool: {kind: noop}, set: {ctx.x: 5}, next: {arcs: [{step: b}]}}
        - {step: b, tool: {kind: python, input: {x: "{{ ctx.x }}"}, code: "result = x"}}
        """
    run = Run(workflow)
    run.done("a")
    run.done("b", 5)
    playbook = read(HEAD + "workflow:\n" + dedent(workflow))
    assert follow(playbook, {}, run.log, lambda ref: None).status == "completed"
    (issued,) = run.issued("b")
    other = replace(issued, payload={**issued.payload, "scope": {"ctx": {"x": 6}, "steps": {}}})
    with pytest.raises(Differs, match=r"b#1 sees ctx\.x = 6, not 5"):
        follow(playbook, {}, [other if event is issued else event for event in run.log], lambda ref: None)


def test_a_step_that_does_not_see_that_its_sibling_is_skipped_is_found() -> None:
    workflow = """
        - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}, {step: c}]}}
        - {step: b, tool: {kind: python, input: {c: "{{ c.status }}"}, code: "result = c"}}
        - {step: c, tool: {kind: noop}}
        """
    run = Run(workflow)
    run.done("a")
    run.done("b", "skipped")
    playbook = read(HEAD + "workflow:\n" + dedent(workflow))
    assert follow(playbook, {}, run.log, lambda ref: None).status == "completed"
    (issued,) = run.issued("b")
    other = replace(issued, payload={**issued.payload, "scope": {"ctx": {}, "steps": {}}})
    with pytest.raises(Differs, match=r"b#1 sees c as None, not as skipped"):
        follow(playbook, {}, [other if event is issued else event for event in run.log], lambda ref: None)


@pytest.mark.parametrize(("loop", "end"), [("", "call.error"), ("loop: {in: [1, 2], iterator: n}, ", "loop.failed")])
def test_a_step_whose_time_is_over_has_failed(loop: str, end: str) -> None:
    workflow = f"""
        - {{step: a, {loop}spec: {{policy: {{lifecycle: {{timeout: 9}}}}}}, tool: {{kind: python, code: "result = 1"}},
           next: {{arcs: [{{step: b, when: "{{{{ event.name == '{end}' }}}}"}}]}}}}
        - {{step: b, tool: {{kind: noop}}}}
        """
    run = Run(workflow)
    run.fact("timer.fired", step="a", generation=1, payload={"timer": "a#1!deadline"})
    run.done("b")
    text = HEAD + "workflow:\n" + dedent(workflow)
    assert follow(read(text), {}, run.log, lambda ref: None).status == "completed"
    with pytest.raises(Differs, match="may take as long as it likes"):
        follow(read(text.replace("lifecycle: {timeout: 9}", "")), {}, run.log, lambda ref: None)


@pytest.mark.parametrize("mode", ["fail_fast", "best_effort"])
def test_a_loop_whose_claim_fails_fails(mode: str) -> None:
    workflow = f"""
        - step: drain
          loop:
            iterator: row
            cursor: {{kind: postgres, auth: x, claim: "SELECT {{{{ __frame_max_rows }}}}"}}
            spec: {{mode: cursor, max_in_flight: 3, policy: {{failure: {{mode: {mode}}}}}}}
          tool: {{kind: noop}}
        """
    error = {"code": "postgres.connection", "message": "lost"}
    run = Run(workflow)
    first, second, third = (str(event.command_id) for event in run.issued("drain"))
    run.report(first, "frame.committed", start=0, end=0, ok=0, failed=0, data=[], drained=True)
    run.report(second, "frame.committed", start=1, end=1, ok=0, failed=0, data=[], error=error)
    run.report(third, "frame.committed", start=2, end=3, ok=1, failed=0, data=[1])
    found = follow(read(HEAD + "workflow:\n" + dedent(workflow)), {}, run.log, lambda ref: None)
    assert (found.status, (found.error or {}).get("code")) == ("failed", "loop.claim_failed")


SAGA = """
    - {step: a, tool: {kind: noop}, compensate: {tool: {kind: noop, result: "{{ a.n }}"}}, next: {arcs: [{step: b}]}}
    - step: b
      tool: {kind: noop}
      loop: {in: [1, 2, 3], iterator: n, spec: {mode: parallel, max_in_flight: 2}}
      compensate: {tool: {kind: noop}}
      next: {arcs: [{step: fork}]}
    - step: fork
      tool: {kind: noop}
      next: {spec: {mode: inclusive}, arcs: [{step: c}, {step: d}, {step: e}, {step: f}]}
    - {step: c, tool: {kind: noop}, compensate: {tool: {kind: noop}}, next: {arcs: [{step: never}]}}
    - {step: d, tool: {kind: noop}}
    - {step: e, tool: {kind: noop}, compensate: {tool: {kind: noop}}}
    - step: f
      tool: {kind: noop}
      loop: {in: [1, 2, 3, 4, 5], iterator: n, spec: {mode: parallel, max_in_flight: 2}}
      compensate: {tool: {kind: noop}}
    - {step: never, tool: {kind: noop}}
    """


def undone() -> Run:
    """A saga whose step `d` fails while others are under way, or wait."""
    run = Run(SAGA)
    run.done("a", {"n": 1})
    while frames := [name for name, item in run.state.commands.items() if item.key == "b#1"]:
        run.frame(frames[0], [1] * (run.window(frames[0])[2] - run.window(frames[0])[1]))
    run.done("fork")
    run.report("e#1", "call.deferred", delay=9.0)
    first = next(name for name, item in run.state.commands.items() if item.key == "f#1")
    run.frame(first, [1] * (run.window(first)[2] - run.window(first)[1]))
    run.error("d")
    run.done("c", {"n": 3})
    late, *others = [name for name in run.state.commands if name.startswith("f#")]
    run.report(late, "call.parked", wait={"signal": "late"})
    for other in others:
        run.frame(other, [1])
    run.error("f.compensate", "closed")
    while run.state.status == "running":
        (command,) = run.state.commands
        run.report(command)
    return run


def test_what_is_undone_follows_from_what_had_been_done() -> None:
    run = undone()
    found = follow(read(HEAD + "workflow:\n" + dedent(SAGA)), {}, run.log, lambda ref: None)
    error = found.error or {}
    assert error["compensation"] == {"done": ["c", "b", "a"], "failed": [{"step": "f", "code": "closed"}]}
    assert run.failure["compensation"]["done"] == ["c", "b", "a"]


def _other_order(events: list[Event]) -> list[Event]:
    names = {"b.compensate": "a.compensate", "a.compensate": "b.compensate"}
    return [replace(event, step=names.get(event.step or "", event.step)) for event in events]


def _said_otherwise(events: list[Event]) -> list[Event]:
    *others, last = events
    error = {**last.payload["error"], "compensation": {"done": ["c", "b"], "failed": []}}
    return [*others, replace(last, payload={**last.payload, "error": error})]


@pytest.mark.parametrize(
    "change",
    [_without("command.issued", kind="step"), _without("compensation.started"), _other_order, _said_otherwise],
)
def test_what_is_undone_otherwise_is_found(change: Any) -> None:
    with pytest.raises(Differs):
        follow(read(HEAD + "workflow:\n" + dedent(SAGA)), {}, change(undone().log), lambda ref: None)


def test_a_command_that_is_counted_under_another_key_or_not_at_all_is_found() -> None:
    workflow = """
        - {step: a, tool: {kind: noop}, set: {ctx.city: Rome}, next: {arcs: [{step: b}]}}
        - step: b
          tool: {kind: noop}
          spec: {concurrency: {key: "in {{ ctx.city }}", limit: 2}, rate: {per: 1m, limit: 9}}
        """
    run = Run(workflow)
    run.done("a")
    run.done("b")
    playbook = read(HEAD + "workflow:\n" + dedent(workflow))
    assert follow(playbook, {}, run.log, lambda ref: None).status == "completed"
    (issued,) = run.issued("b")
    limits = issued.payload["limits"]
    for other in ({}, {**limits, "concurrency": {"key": "in Bonn", "limit": 2}}, {"rate": limits["rate"]}):
        changed = replace(issued, payload={**issued.payload, "limits": other})
        with pytest.raises(Differs, match="b#1 is limited by"):
            follow(playbook, {}, [changed if event is issued else event for event in run.log], lambda ref: None)


VARIABLES = """
    - {step: a, tool: {kind: noop}, set: {vars.x: 5}, next: {arcs: [{step: b, when: "{{ vars.by_user == 1 }}"}]}}
    - {step: b, tool: {kind: python, input: {x: "{{ vars.x }}"}, code: "result = x"}}
    """


def test_a_step_that_sees_other_variables_is_found() -> None:
    run = Run(VARIABLES)
    run.fact("variables.set", payload={"variables": {"by_user": 1}, "type": "user_defined"})
    run.done("a")
    run.done("b", 5)
    playbook = read(HEAD + "workflow:\n" + dedent(VARIABLES))
    ours = follow(playbook, {}, run.log, lambda ref: None)
    assert (ours.status, ours.variables) == ("completed", {"by_user": 1, "x": 5})
    (issued,) = run.issued("b")
    other = replace(issued, payload={**issued.payload, "scope": {"ctx": {}, "steps": {}, "vars": {"x": 6}}})
    with pytest.raises(Differs, match=r"b#1 sees vars\.x = 6, not 5"):
        follow(playbook, {}, [other if event is issued else event for event in run.log], lambda ref: None)


@pytest.mark.parametrize("paused", [0, 500, 5000])
@pytest.mark.parametrize("waited", [0, 990, 1010])
def test_it_agrees_with_the_engine_on_what_has_expired(paused: int, waited: int) -> None:
    run = Run("- {step: a, tool: {kind: noop}, set: {ctx.seen: '{{ vars }}'}}\n")
    payload = {"variables": {"x": 1}, "type": "user_defined", "expires_at": run.now + 1000}
    run.fact("variables.set", payload=payload)
    run.fact("execution.paused", payload={})
    run.now += paused
    payload = {"variables": {"y": 2}, "type": "user_defined", "expires_at": run.now + 1000}
    run.fact("variables.set", payload=payload)
    run.fact("execution.resumed", payload={})
    run.now += waited
    run.done("a")
    assert run.state.variables.keys() == (set() if waited > 1000 else {"x", "y"})
    playbook = read(HEAD + "workflow:\n- {step: a, tool: {kind: noop}, set: {ctx.seen: '{{ vars }}'}}\n")
    ours = follow(playbook, {}, run.log, lambda ref: None)
    assert ours.variables == {name: it.value for name, it in run.state.variables.items()}
    assert ours.ctx == run.state.ctx
