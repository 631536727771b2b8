"""Whole playbooks: the worker with its real tools and python processes, over an orchestrator with a log in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.worker.stack import Stack

from noetl_serverless.tools import registry


@pytest.fixture(params=["in JSON", "in process"])
async def stack(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path, in_process=request.param == "in process")
    yield stack
    await stack.worker.close()
    await registry.close()


async def test_steps_hand_on_their_results(stack: Stack) -> None:
    state = await stack.run(
        """
        workload: {n: 3}
        workflow:
          - step: one
            tool: {kind: python, code: "result = {'x': n * 2}", input: {n: "{{ workload.n }}"}}
            next: {arcs: [{step: two}]}
          - step: two
            tool: {kind: python, code: "result = {'y': x + 1}", input: {x: "{{ one.x }}"}}
        """
    )
    assert state.status == "completed"
    assert state.outcomes["two"]["data"] == {"y": 7}


async def test_a_big_result_passes_by_reference(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: make
            tool: {kind: python, code: "result = {'text': 'x' * 2_000_000, 'n': 5}"}
            next:
              arcs:
                - {step: measure, when: "{{ make.n == 5 }}"}
          - step: measure
            tool: {kind: python, code: "result = len(text)", input: {text: "{{ make.text }}"}}
        """
    )
    assert state.status == "completed"
    assert "ref" in state.outcomes["make"]
    assert state.outcomes["measure"]["data"] == 2_000_000
    assert len(stack.log.refs) == 1


async def test_selected_fields_route_small_and_big(stack: Stack) -> None:
    for size in (1, 100_000):
        state = await stack.run(
            """
            workload: {size: 1}
            workflow:
              - step: make
                tool:
                  kind: python
                  code: "result = {'page': {'next': 7}, 'text': 'x' * size}"
                  input: {size: "{{ workload.size }}"}
                  output: {select: [{path: $.page.next, as: cursor}]}
                next: {arcs: [{step: more, when: "{{ make.cursor == 7 }}"}]}
              - step: more
                tool: {kind: noop}
            """,
            size=size,
        )
        assert state.status == "completed"
        assert state.last == "more"


@pytest.mark.parametrize("spec", ["{mode: parallel, max_in_flight: 3}", "{mode: sequential}"])
async def test_a_loop_gives_its_results_in_order(stack: Stack, spec: str) -> None:
    body = """
        workload: {rows: [5, 6, 7, 8]}
        workflow:
          - step: each
            loop: {in: "{{ workload.rows }}", iterator: row, spec: SPEC}
            tool:
              kind: python
              code: "result = row * 10 + i"
              input: {row: "{{ row }}", i: "{{ iter._index }}"}
            next: {arcs: [{step: sum, when: "{{ event.name == 'loop.done' }}"}]}
          - step: sum
            tool: {kind: python, code: "result = sum(rows)", input: {rows: "{{ each.results }}"}}
        """
    state = await stack.run(body.replace("SPEC", spec))
    assert state.status == "completed"
    assert state.outcomes["each"]["data"]["results"] == [50, 61, 72, 83]
    assert state.outcomes["sum"]["data"] == 266


async def test_a_wide_loop_over_a_stored_collection_is_read_through_its_manifest(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: make
            tool: {kind: python, code: "result = {'rows': [{'i': i, 'pad': 'x' * 60} for i in range(2000)]}"}
            next: {arcs: [{step: each}]}
          - step: each
            loop: {in: "{{ make.rows }}", iterator: row, spec: {mode: parallel, max_in_flight: 16}}
            tool: {kind: noop, spec: {policy: {rules: [{else: {then: {do: continue, set: {iter.k: "{{ row.i }}"}}}}]}}}
            next: {arcs: [{step: count}]}
          - step: count
            tool: {kind: python, code: "result = len(rows)", input: {rows: "{{ each.results }}"}}
        """
    )
    assert state.status == "completed"
    assert state.outcomes["each"]["ref"]["kind"] == "manifest"
    assert state.outcomes["count"]["data"] == 2000


async def test_a_pipeline_pages_with_jump_and_break(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: read_all
            tool:
              - name: begin
                kind: noop
                spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.page: 1, ctx.rows: 0}}}}]}}
              - name: page
                kind: python
                input: {p: "{{ ctx.page }}"}
                code: "result = {'n': p, 'more': p < 4}"
              - name: store
                kind: noop
                spec:
                  policy:
                    rules:
                      - when: "{{ page.more }}"
                        then:
                          do: jump
                          to: page
                          set: {ctx.page: "{{ ctx.page + 1 }}", ctx.rows: "{{ ctx.rows + page.n }}"}
                      - else: {then: {do: break}}
            next: {arcs: [{step: report}]}
          - step: report
            tool: {kind: python, code: "result = [page, rows]", input: {page: "{{ ctx.page }}", rows: "{{ ctx.rows }}"}}
        """
    )
    assert state.status == "completed"
    assert state.outcomes["report"]["data"] == [4, 6]
    assert state.outcomes["read_all"]["data"]["status"] == "break"


async def test_a_long_retry_is_a_timer(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: try
            tool:
              kind: python
              code: |
                if tries < 3: raise ValueError('not yet')
                result = tries
              input: {tries: "{{ ctx.tries | default(1) }}"}
              spec:
                policy:
                  rules:
                    - when: "{{ output.status == 'error' }}"
                      then:
                        {do: retry, attempts: 5, backoff: fixed, delay: 600, set: {ctx.tries: "{{ _attempt + 1 }}"}}
        """
    )
    assert state.status == "completed"
    assert stack.types(state.execution_id).count("timer.set") == 2


CHILD = """
workload: {seed: 0}
workflow:
  - step: first
    tool: {kind: python, code: "result = {'v': s + 1}", input: {s: "{{ workload.seed }}"}}
    next: {arcs: [{step: finish}]}
  - step: finish
    tool: {kind: noop}
"""


async def test_a_sub_playbook_gives_its_steps_result(stack: Stack) -> None:
    stack.catalog.add("t/child", CHILD)
    state = await stack.run(
        """
        workflow:
          - step: sub
            tool: {kind: playbook, path: t/child, input: {seed: 4}, return_step: first}
            next: {arcs: [{step: after}]}
          - step: after
            tool: {kind: python, code: "result = v", input: {v: "{{ sub.v }}"}}
        """
    )
    assert state.status == "completed"
    assert state.outcomes["after"]["data"] == 5


async def test_sub_playbooks_in_a_loop_and_in_a_pipeline(stack: Stack) -> None:
    stack.catalog.add("t/child", CHILD)
    state = await stack.run(
        """
        workflow:
          - step: each
            loop: {in: "{{ [1, 2, 3] }}", iterator: n, spec: {mode: parallel, max_in_flight: 2}}
            tool:
              - {name: sub, kind: playbook, path: t/child, input: {seed: "{{ n }}"}, return_step: first}
              - {name: double, kind: python, code: "result = {'d': v * 2}", input: {v: "{{ sub.v }}"}}
        """
    )
    assert state.status == "completed"
    assert [item["d"] for item in state.outcomes["each"]["data"]["results"]] == [4, 6, 8]


async def test_sub_playbooks_begin_with_more_than_fits_into_the_log(stack: Stack) -> None:
    stack.catalog.add(
        "t/child",
        """
        workload: {text: "", n: 0}
        workflow:
          - step: first
            tool:
              kind: python
              code: "result = {'v': len(text) + n}"
              input: {text: "{{ workload.text }}", n: "{{ workload.n }}"}
        """,
    )
    state = await stack.run(
        """
        workflow:
          - step: make
            tool: {kind: python, code: "result = {'text': 'x' * 2_000_000}"}
            next: {arcs: [{step: one}]}
          - step: one
            tool: {kind: playbook, path: t/child, input: {text: "{{ make.text }}"}}
            next: {arcs: [{step: each}]}
          - step: each
            loop: {in: "{{ [1, 2, 3] }}", iterator: n, spec: {mode: parallel, max_in_flight: 2}}
            tool: {kind: playbook, path: t/child, input: {text: "{{ make.text }}", n: "{{ n }}"}}
        """
    )
    assert state.status == "completed"
    assert state.outcomes["one"]["data"] == {"v": 2_000_000}
    assert [item["v"] for item in state.outcomes["each"]["data"]["results"]] == [2_000_001, 2_000_002, 2_000_003]


async def test_a_failed_item_takes_the_failure_arc(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: each
            loop: {in: "{{ [2, 1, 0] }}", iterator: n, spec: {mode: sequential}}
            tool: {kind: python, code: "result = 1 / n", input: {n: "{{ n }}"}}
            next: {arcs: [{step: tell, when: "{{ event.name == 'call.error' }}"}]}
          - step: tell
            tool: {kind: python, code: "result = why", input: {why: "{{ each.error.code }}"}}
        """
    )
    assert state.status == "completed"
    assert state.outcomes["tell"]["data"] == "loop.item_failed"


async def test_a_missing_name_fails_with_its_line(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: one
            tool: {kind: python, code: "result = 1", input: {n: "{{ workload.nix }}"}}
        """
    )
    assert state.status == "failed"
    assert state.error["name"] == "nix"
    assert state.error["at"] == 7
