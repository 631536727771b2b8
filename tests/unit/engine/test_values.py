"""What is decided on is what is stored: copies of a state agree to the last byte, all other values are refused."""

from __future__ import annotations

import orjson
import pytest
from tests.unit.engine.run import Run

from noetl_serverless.engine.replay import fold

FIRST = """
- step: a
  tool: {kind: noop}
  next:
    arcs:
      - {step: left, when: "{{ (a.data.scores | list | first) == 'winner' }}"}
      - {step: right}
- {step: left, tool: {kind: noop}}
- {step: right, tool: {kind: noop}}
"""


def test_the_order_of_keys_is_the_one_that_was_written_for_every_copy_of_a_state() -> None:
    run = Run(FIRST)
    run.done("a", {"scores": {"winner": 2, "also": 1}})
    assert run.running == {"left"}
    kept = orjson.dumps(run.state.snapshot())
    assert orjson.dumps(fold("7", run.log).snapshot()) == kept, "a replayed state is another one"


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("{{ output.data.n * 1000000000000 }}", "64 bits"),
        ("{{ 'YQBi' | b64decode }}", "NUL"),
        ("{{ output.data.n * 1e308 }}", "infinite"),
        ("{{ {1: 'a', '1': 'b'} }}", "same string"),
        ("{{ [output.data.n, 'x'.encode()] }}", "bytes"),
        ("{{ 'x' * 70000 }}", "more than 65536"),
    ],
)
def test_a_value_that_cannot_be_stored_fails_the_step_that_sets_it(value: str, rule: str) -> None:
    run = Run(f'- {{step: a, tool: {{kind: noop}}, set: {{ctx.total: "{value}"}}, next: {{arcs: [{{step: a}}]}}}}')
    run.done("a", {"n": 10**9})
    assert run.state.status == "failed", "the execution went on with a value that cannot be stored"
    assert rule in run.failure["message"]
    assert run.failure["step"] == "a"


def test_integers_as_keys_are_texts_for_whoever_decides() -> None:
    run = Run(
        """
        - step: a
          tool: {kind: noop}
          set: {ctx.names: "{{ {1: 'one'} }}"}
          next: {arcs: [{step: good, when: "{{ ctx.names['1'] == 'one' }}"}, {step: bad}]}
        - {step: good, tool: {kind: noop}}
        - {step: bad, tool: {kind: noop}}
        """
    )
    run.done("a")
    assert run.running == {"good"}


def test_a_loop_that_reads_a_large_value_writes_it_once() -> None:
    run = Run(
        """
        - {step: a, tool: {kind: noop}, set: {ctx.big: "{{ output.data }}"}, next: {arcs: [{step: each}]}}
        - step: each
          loop: {in: "{{ range(200) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 200}}
          tool: {kind: python, input: {big: "{{ ctx.big }}", n: "{{ iter.n }}"}, code: "result = n"}
        """
    )
    run.done("a", "x" * 60_000)
    frames = run.issued("each")
    assert len(frames) == 200
    written = sum(len(orjson.dumps(event.payload)) for event in run.log if event.step == "each")
    assert written < 3 * 60_000, f"200 items wrote {written} bytes of one value of 60,000"
    (opening,) = [event for event in run.log if event.type == "loop.opened"]
    assert opening.payload["scope"]["ctx"] == {"big": "x" * 60_000}, "the frames could not find it in the opening"


def test_what_a_command_is_issued_with_is_the_same_in_every_process() -> None:
    names = [f"k{number}" for number in range(20)]
    sets = ", ".join(f'ctx.{name}: "{{{{ output.data }}}}"' for name in names)
    reads = ", ".join(f'{name}: "{{{{ ctx.{name} }}}}"' for name in names)
    run = Run(
        f"""
        - {{step: a, tool: {{kind: noop}}, set: {{{sets}}}, next: {{arcs: [{{step: b}}]}}}}
        - {{step: b, tool: {{kind: python, input: {{{reads}}}, code: "result = 1"}}}}
        """
    )
    run.done("a", 1)
    (issued,) = run.issued("b")
    assert list(issued.payload["scope"]["ctx"]) == sorted(names), "the order of a set, which each process hashes anew"
