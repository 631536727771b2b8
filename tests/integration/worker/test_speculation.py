"""Pipelined durability: the worker over the real orchestrator and a log in memory."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.eventually import eventually
from tests.integration.worker.chains import (
    MIXED,
    PIPELINED,
    STEP,
    Adder,
    chain,
    comparable,
    digest,
    pipelined,
    run_speculatively,
    unclaimed,
)
from tests.integration.worker.stack import Stack

from noetl_serverless.engine import events as e
from noetl_serverless.protocol import ReportRequest


async def test_a_chain_takes_few_reports_and_leaves_the_log_of_one_step_after_the_other(
    stack: Stack, tool: Adder
) -> None:
    slow = await stack.run(STEP + chain(40))
    count, keys = len(stack.client.reports), [key.split("/", 1)[1] for key in tool.keys]
    tool.keys.clear()
    fast = await stack.run(PIPELINED + chain(40))

    assert (count, fast.status, fast.outcomes["s40"]["data"]) == (40, "completed", {"n": 40})
    assert len(stack.client.reports) - count < 20
    assert run_speculatively(stack) == {f"s{number}#1" for number in range(2, 41)}
    assert comparable(stack, fast.execution_id) == comparable(stack, slow.execution_id)
    assert digest(stack, fast.execution_id) == digest(stack, slow.execution_id)
    assert [key.split("/", 1)[1] for key in tool.keys] == keys


async def test_loops_branches_joins_failures_and_references_leave_the_same_log(stack: Stack) -> None:
    slow = await stack.run(STEP + MIXED)
    fast = await stack.run(PIPELINED + MIXED)

    assert (slow.status, fast.status) == ("completed", "completed")
    assert "ref" in fast.outcomes["big"]
    ran = run_speculatively(stack)
    assert {"turn#2", "fail#1", "after#1"} <= ran
    assert not {"left#1", "right#1"} & ran
    # left and right end in any order
    assert digest(stack, fast.execution_id) == digest(stack, slow.execution_id)
    assert Counter(kind for _, _, kind, *_ in comparable(stack, fast.execution_id)) == Counter(
        kind for _, _, kind, *_ in comparable(stack, slow.execution_id)
    )
    assert len(stack.log.refs) == 4


async def test_no_step_runs_speculatively_unless_the_playbook_says_so(stack: Stack) -> None:
    await stack.run(chain(5))

    assert run_speculatively(stack) == set()


async def test_times_are_reported_by_the_worker(stack: Stack) -> None:
    state = await stack.run(PIPELINED + chain(30))

    at = [event.at for event in stack.log.executions[state.execution_id].events]
    assert at == sorted(at)
    reported = [item.at for report in stack.client.reports for item in report.outcomes]
    assert [item for item in at if item in reported] != []


async def test_many_at_once(stack: Stack) -> None:
    stack.catalog.add("t/t", PIPELINED + chain(8))
    ids = [(await stack.orchestrator.start(path="t/t")).execution_id for _ in range(30)]
    summary = await stack.worker.drain(20)

    states = [await stack.state(id) for id in ids]
    assert {state.status for state in states} == {"completed"}
    assert {state.outcomes["s8"]["data"]["n"] for state in states} == {8}
    assert (summary["done"], summary["lost"], summary["unreported"], summary["more"]) == (240, 0, 0, False)
    assert summary["speculative"] == len(unclaimed(stack)) > 0


async def test_a_step_that_parks_and_a_retry_with_a_timer_end_the_speculative_run(stack: Stack) -> None:
    stack.catalog.add("t/child", PIPELINED + chain(3))
    body = """
    workflow:
      - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
      - {step: b, tool: {kind: noop}, next: {arcs: [{step: late}]}}
      - step: late
        tool:
          kind: python
          code: ""
          input: {n: "{{ _attempt }}"}
          spec:
            policy:
              rules:
                - when: "{{ _attempt < 2 }}"
                  then: {do: retry, attempts: 3, backoff: fixed, delay: 600}
        next: {arcs: [{step: c}]}
      - {step: c, tool: {kind: noop}, next: {arcs: [{step: d}]}}
      - {step: d, tool: {kind: noop}}
    """
    state = await stack.run(pipelined(body))

    assert state.status == "completed"
    kinds = stack.types(state.execution_id)
    assert (kinds.count(e.TIMER_SET), kinds.count(e.TIMER_FIRED), kinds.count(e.CALL_DONE)) == (1, 1, 5)


# -- bounds


async def test_no_more_than_64_steps_are_unreported(stack: Stack, tool: Adder) -> None:
    gate = asyncio.Event()

    async def wait(request: ReportRequest) -> None:
        await gate.wait()

    stack.client.meanwhile = wait
    run = asyncio.create_task(stack.run(PIPELINED + chain(100)))
    await eventually(lambda: len(tool.ran) == 64)
    await asyncio.sleep(0.05)
    assert len(tool.ran) == 64
    gate.set()

    assert (await run).status == "completed"
    assert tool.count() == dict.fromkeys(tool.ran, 1)
    assert len(tool.ran) == 100


async def test_what_is_unreported_is_no_older_than_a_second(stack: Stack, tool: Adder) -> None:
    gate = asyncio.Event()

    async def wait(request: ReportRequest) -> None:
        await gate.wait()

    stack.client.meanwhile = wait
    tool.gates["s3"] = asyncio.Event()
    run = asyncio.create_task(stack.run(PIPELINED + chain(6)))
    await eventually(lambda: "s3#1" in tool.ran)
    await asyncio.sleep(1.05)
    tool.gates["s3"].set()
    await asyncio.sleep(0.05)
    assert "s4#1" not in tool.ran
    gate.set()

    assert (await run).status == "completed"
    assert len(tool.ran) == 6


async def test_a_step_for_another_pool_does_not_run_speculatively(stack: Stack, tool: Adder) -> None:
    body = """
    workflow:
      - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
      - {step: b, tool: {kind: duckdb, query: SELECT 1}, next: {arcs: [{step: c}]}}
      - {step: c, tool: {kind: noop}, next: {arcs: [{step: d}]}}
      - {step: d, tool: {kind: noop}}
    """
    stack.worker.settings = stack.another(stack.client, pools={"duckdb": "data"}).settings
    assert (await stack.run(pipelined(body))).status == "completed"

    assert run_speculatively(stack) <= {"c#1", "d#1"}
