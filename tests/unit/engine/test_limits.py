"""What is too large for an event or a state is refused where it is made, by its name."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest
from tests.unit.engine.run import Run

from noetl_serverless import limits
from noetl_serverless.engine import loops
from noetl_serverless.engine.limits import DecisionSize, DecisionTooLarge, check_ctx, check_scope, check_set, size_of
from noetl_serverless.playbook.values import InvalidValue


def text(size: int) -> str:
    """A text of so many bytes of JSON."""
    return "x" * (size - 2)


def many(size: int, each: int) -> dict[str, Any]:
    return {f"v{number}": text(each) for number in range(size // each)}


def test_a_value_may_have_its_limit_and_not_a_byte_more() -> None:
    check_set({}, {})
    check_set({}, {"x": text(limits.SET_VALUE_BYTES)})
    with pytest.raises(InvalidValue, match=rf"ctx\.x would have {limits.SET_VALUE_BYTES + 1} bytes"):
        check_set({}, {"x": text(limits.SET_VALUE_BYTES + 1)})


def test_so_may_all_that_one_step_sets() -> None:
    full = many(limits.SET_BYTES, limits.SET_VALUE_BYTES)
    check_set({}, full)
    with pytest.raises(InvalidValue, match="what one step sets"):
        check_set({}, {**full, "more": 1})


def test_and_all_of_ctx_with_what_was_set_before() -> None:
    ctx = many(limits.CTX_BYTES, limits.SET_VALUE_BYTES)
    with pytest.raises(InvalidValue, match="ctx would have"):
        check_set(ctx, {"more": 1})
    first = next(iter(ctx))
    check_set({**ctx, first: 1, "other": 1}, {"more": 1})


def test_and_what_a_step_reads() -> None:
    ctx = many(limits.SCOPE_BYTES, limits.INLINE_BYTES)
    with pytest.raises(InvalidValue, match="what the step reads"):
        check_scope({"ctx": ctx, "steps": {"a": {"data": 1}}})
    check_scope({"ctx": {**ctx, next(iter(ctx)): 1}, "steps": {}})


SETS = """
- step: each
  loop: {in: "{{ range(80) | list }}", iterator: x, spec: {mode: parallel, max_in_flight: 40}}
  tool:
    kind: python
    input: {all: "{{ ctx }}"}
    code: "result = 1"
    spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.last: "{{ output.data }}"}}}}]}}
- {step: after, tool: {kind: noop}}
"""

AFTER = "- {step: b, tool: {kind: noop}}\n"


def test_ctx_has_its_bound_for_what_tasks_set_too() -> None:
    run = Run("- {step: a, tool: {kind: noop}}\n")
    values = many(limits.CTX_BYTES, limits.SET_VALUE_BYTES)
    run.state.ctx.update(values)
    run.log[0].payload["ctx"] = values
    run.report("a#1", "call.deferred", delay=1, set={"more": 1})
    assert run.failure["code"] == "value.invalid"
    assert "ctx would have" in run.failure["message"]


def with_ctx(size: int, monkeypatch: pytest.MonkeyPatch) -> Run:
    """At a loop whose frames each bring so many bytes of ctx, as an earlier release has opened it."""
    monkeypatch.setattr(loops, "_shares_ctx", lambda *_: False)
    first = f"""
        - step: a
          tool: {{kind: noop}}
          set: {{ {", ".join(f'ctx.v{n}: "{{{{ output.data }}}}"' for n in range(2))} }}
          next: {{arcs: [{{step: each}}]}}
        """
    run = Run(dedent(first) + SETS)
    run.done("a", text(size // 2))
    return run


def test_a_frame_brings_no_more_than_a_scope_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCOPE_BYTES", 90_000)
    run = with_ctx(80_000, monkeypatch)
    run.frame("each#1.0", [1], set={"last": text(20_000)}, item_ms=1000)
    assert run.failure["code"] == "value.invalid"
    assert "what the step reads" in run.failure["message"]


def test_frames_that_bring_much_go_out_when_others_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "FRAMES_BYTES", 400_000)
    run = with_ctx(80_000, monkeypatch)
    assert 1 < len(run.state.commands) < 10, "forty frames would bring 3.2 MB"
    for _ in range(200):
        if not run.state.loops:
            break
        name, command = next(iter(run.state.commands.items()))
        assert command.frame is not None
        run.frame(name, [1] * (command.frame[2] - command.frame[1]), item_ms=1000)
    assert run.state.status == "completed"
    assert run.state.outcomes["each"]["data"]["stats"]["success"] == 80


def test_the_error_of_an_execution_has_its_bound_with_what_its_arcs_made_of_it() -> None:
    run = Run('- {step: a, tool: {kind: noop}, next: {arcs: [{step: b, when: "{{ error.no.thing }}"}]}}\n' + AFTER)
    error = {"kind": "tool", "code": "boom", "message": "m" * (limits.ERROR_BYTES - 100), "retryable": False}
    run.report("a#1", "call.error", error=error)
    assert (run.state.status, run.failure["code"]) == ("failed", "boom")
    assert size_of(run.state.error) <= limits.ERROR_BYTES


def test_a_decision_may_have_its_limit_and_not_one_more() -> None:
    size = DecisionSize()
    size.add_bytes(limits.DECISION_BYTES - 1, "a")
    size.add_bytes(1, "b")
    with pytest.raises(DecisionTooLarge, match=f"more than {limits.DECISION_BYTES} bytes") as caught:
        size.add_bytes(1, "c")
    assert caught.value.step == "c"
    error = caught.value.to_dict()
    assert (error["kind"], error["code"], error["retryable"]) == ("routing", "decision.too_large", False)
    for _ in range(limits.DECISION_EVENTS):
        size.add_event("a")
    with pytest.raises(DecisionTooLarge, match=f"more than {limits.DECISION_EVENTS} events") as caught:
        size.add_event(None)
    assert caught.value.step is None


def test_a_size_is_that_of_its_json() -> None:
    assert size_of({"a": ["ü", 1]}) == len('{"a":["ü",1]}'.encode())
    assert size_of({"a": ["ü", 2**70]}) == len('{"a":["ü",]}'.encode()) + len(str(2**70)), "as an older release had it"
    assert check_set({}, {"x": 1, "y": "ab"}) == 5
    assert check_scope({"ctx": {}, "steps": {}}) == len('{"ctx":{},"steps":{}}')


def test_ctx_has_its_limit_to_the_byte() -> None:
    ctx = many(limits.CTX_BYTES, limits.SET_VALUE_BYTES)
    name = next(iter(ctx))
    over = size_of(ctx) - limits.CTX_BYTES
    ctx[name] = text(limits.SET_VALUE_BYTES - over)
    if len(ctx) <= limits.CTX_BYTES // limits.SET_VALUE_BYTES:
        ctx[name] = text(limits.SET_VALUE_BYTES - over - len(',"z":1'))
        ctx["z"] = 1
    assert size_of(ctx) == limits.CTX_BYTES
    check_ctx(ctx)
    with pytest.raises(InvalidValue, match=f"ctx would have {limits.CTX_BYTES + 1} bytes"):
        check_ctx({**ctx, name: ctx[name] + "x"})


def test_what_a_step_reads_has_its_limit_to_the_byte() -> None:
    scope = {"ctx": {"x": text(limits.SCOPE_BYTES - len('{"ctx":{"x":}}'))}}
    assert check_scope(scope) == limits.SCOPE_BYTES
    with pytest.raises(InvalidValue, match=f"{limits.SCOPE_BYTES + 1} bytes"):
        check_scope({"ctx": {"x": scope["ctx"]["x"] + "x"}})


def test_a_range_that_is_refused_is_reported_as_such_and_not_as_a_cycle() -> None:
    run = Run(
        '- {step: a, tool: {kind: noop}, next: {arcs: [{step: b, when: "{{ range(10 ** 10) | sum > 3 }}"}]}}\n'
        "- {step: b, tool: {kind: noop}}\n"
    )
    run.done("a")
    error = run.failure
    assert (error["code"], "at most 1000000 numbers of range()" in error["message"]) == ("template.too_large", True), (
        error
    )
