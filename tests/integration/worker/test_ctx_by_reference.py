"""A value of ctx that is too large for an event, in whole playbooks: set by a worker or passed on by the engine, and
read steps later, by a worker that has never seen it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.integration.worker.stack import Stack

from noetl_serverless.limits import SET_VALUE_BYTES
from noetl_serverless.results.reader import Resolver
from noetl_serverless.tools import registry

SETS = "{rules: [{else: {then: {do: continue, set: {ctx.big: '{{ output.data }}'}}}}]}"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path)
    yield stack
    await stack.worker.close()
    await registry.close()


def events_of(stack: Stack, state: Any) -> list[Any]:
    return [*stack.log.executions[state.execution_id].events]


def largest(stack: Stack, state: Any) -> int:
    return max(len(orjson.dumps(event.payload)) for event in events_of(stack, state))


READS = """
  - step: make
    tool:
      kind: python
      code: "result = {'rows': [{'i': i, 't': 'x' * 1000} for i in range(n)], 'n': n}"
      input: {n: "{{ workload.n }}"}
      spec:
        policy:
          rules: [{else: {then: {do: continue, set: {ctx.big: "{{ output.data }}", ctx.n: "{{ output.data.n }}"}}}}]
    next: {arcs: [{step: one, when: "{{ ctx.n == workload.n }}"}]}
  - {step: one, tool: {kind: noop}, next: {arcs: [{step: two}]}}
  - {step: two, tool: {kind: noop}, next: {arcs: [{step: measure}]}}
  - step: measure
    tool:
      kind: python
      code: "result = {'rows': len(rows), 'last': last, 'all': len(all['rows']), 'text': len(text)}"
      input:
        rows: "{{ ctx.big.rows }}"
        last: "{{ big.rows[-1].i }}"
        all: "{{ ctx.big }}"
        text: "{{ ctx.big.rows | map(attribute='t') | join }}"
"""


@pytest.mark.parametrize("cold", [False, True])
async def test_steps_later_it_is_read_by_templates_and_python(
    stack: Stack, cold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cold:
        monkeypatch.setattr(Resolver, "_put", lambda *of: None)
    state = await stack.run(f"workload: {{n: 200}}\nworkflow:{READS}")
    assert state.status == "completed", state.error
    assert (state.ctx, list(state.ctx_refs)) == ({"n": 200}, ["big"])
    assert state.outcomes["measure"]["data"] == {"rows": 200, "last": 199, "all": 200, "text": 200_000}
    assert largest(stack, state) < 16 * 1024


@pytest.mark.parametrize(("more", "stored"), [(-1, False), (0, False), (1, True)])
async def test_at_the_limit_nothing_is_lost(stack: Stack, more: int, stored: bool) -> None:
    state = await stack.run(
        f"""
        workload: {{n: {SET_VALUE_BYTES - 2 + more}}}
        workflow:
          - step: make
            tool:
              kind: python
              code: "result = 'x' * n"
              input: {{n: "{{{{ workload.n }}}}"}}
              spec: {{policy: {SETS}}}
            next: {{arcs: [{{step: measure}}]}}
          - {{step: measure, tool: {{kind: python, code: "result = len(x)", input: {{x: "{{{{ ctx.big }}}}"}}}}}}
        """
    )
    assert state.status == "completed", state.error
    assert state.outcomes["measure"]["data"] == SET_VALUE_BYTES - 2 + more
    assert ("big" in state.ctx_refs, "big" in state.ctx) == (stored, not stored)


async def test_the_engine_passes_on_a_whole_result_by_reference(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: fetch
            tool: {kind: python, code: "result = {'rows': list(range(100_000)), 'n': 3}"}
            set: {ctx.big: "{{ fetch }}"}
            next: {arcs: [{step: measure, when: "{{ ctx.big.n == 3 }}", set: {ctx.again: "{{ ctx.big }}"}}]}
          - step: measure
            tool:
              kind: python
              code: "result = sum(rows) + n"
              input: {rows: "{{ ctx.again.rows }}", n: "{{ big.n }}"}
        """
    )
    assert state.status == "completed", state.error
    assert state.outcomes["measure"]["data"] == sum(range(100_000)) + 3
    assert state.ctx_refs["big"] == state.ctx_refs["again"] == state.outcomes["fetch"]["ref"]
    assert len(stack.log.refs) == 1, "it was stored a second time"


@pytest.mark.parametrize("spec", ["{mode: parallel, max_in_flight: 3}", "{mode: sequential}"])
async def test_loops_go_over_it_read_it_and_set_it(stack: Stack, spec: str) -> None:
    state = await stack.run(
        f"""
        workflow:
          - step: make
            tool: {{kind: python, code: "result = ['x' * 20_000] * 6", spec: {{policy: {SETS}}}}}
            next: {{arcs: [{{step: each}}]}}
          - step: each
            loop: {{in: "{{{{ ctx.big }}}}", iterator: row, spec: {spec}}}
            tool:
              kind: python
              code: "result = {{'n': len(row) + len(all), 'text': 'y' * 70_000}}"
              input: {{row: "{{{{ iter.row }}}}", all: "{{{{ ctx.big }}}}"}}
              spec:
                policy:
                  rules: [{{else: {{then: {{do: continue, set: {{ctx.last: "{{{{ output.data.text }}}}"}}}}}}}}]
            next: {{arcs: [{{step: measure}}]}}
          - step: measure
            tool:
              kind: python
              code: "result = [[item['n'] for item in items], len(last)]"
              input: {{items: "{{{{ each.results }}}}", last: "{{{{ ctx.last }}}}"}}
        """
    )
    assert state.status == "completed", state.error
    assert state.outcomes["measure"]["data"] == [[20_006] * 6, 70_000]
    assert sorted(state.ctx_refs) == ["big", "last"]


async def test_a_child_is_given_it_and_gives_it_back(stack: Stack) -> None:
    stack.catalog.add(
        "t/child",
        """
        workload: {text: ""}
        workflow:
          - {step: echo, tool: {kind: python, code: "result = {'text': t + 'y'}", input: {t: "{{ workload.text }}"}}}
        """,
    )
    state = await stack.run(
        f"""
        workflow:
          - step: make
            tool: {{kind: python, code: "result = 'x' * 200_000", spec: {{policy: {SETS}}}}}
            next: {{arcs: [{{step: call}}]}}
          - step: call
            tool: {{kind: playbook, path: t/child, input: {{text: "{{{{ ctx.big }}}}"}}}}
            set: {{ctx.back: "{{{{ call }}}}"}}
            next: {{arcs: [{{step: measure}}]}}
          - {{step: measure, tool: {{kind: python, code: "result = len(t)", input: {{t: "{{{{ ctx.back.text }}}}"}}}}}}
        """
    )
    assert state.status == "completed", state.error
    assert state.outcomes["measure"]["data"] == 200_001


async def test_run_speculatively_it_is_the_same(stack: Stack) -> None:
    text = READS.replace("range(n)", "range(200)")
    plain = await stack.run(f"workload: {{n: 200}}\nworkflow:{text}")
    pipelined = await stack.run(f"workload: {{n: 200}}\nexecutor: {{spec: {{durability: pipelined}}}}\nworkflow:{text}")
    assert pipelined.status == "completed", pipelined.error
    assert pipelined.outcomes["measure"]["data"] == plain.outcomes["measure"]["data"]
