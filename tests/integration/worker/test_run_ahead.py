"""Pipelined durability: the worker over the real ledger and a log in memory, with and without trouble."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from tests.integration.worker.stack import Direct, Stack

from noetl_serverless.engine import digest as digests
from noetl_serverless.engine import events as e
from noetl_serverless.errors import Unavailable
from noetl_serverless.protocol import ClaimRequest, ReportRequest
from noetl_serverless.tools.port import ToolCall, ToolContext, ToolOutcome

PIPELINED = "executor: {spec: {durability: pipelined}}\n"
STEP = "executor: {spec: {durability: step}}\n"
MIXED = """
workload: {rows: [1, 2, 3], deep: {limit: 3}}
workflow:
  - {step: begin, tool: {kind: noop}, set: {ctx.i: "{{ 0 }}"}, next: {arcs: [{step: turn}]}}
  - step: turn
    tool: {kind: python, code: "", input: {n: "{{ ctx.i }}"}}
    set: {ctx.i: "{{ output.data.n }}", ctx.pair: "{{ (output.data.n, 1.0) }}"}
    next: {arcs: [{step: turn, when: "{{ ctx.i < workload.deep.limit }}"}, {step: fail}]}
  - step: fail
    tool: {kind: python, code: "", input: {n: "boom"}}
    next: {arcs: [{step: each, when: "{{ event.name == 'call.error' }}"}, {step: never}]}
  - {step: never, tool: {kind: noop}}
  - step: each
    loop: {in: "{{ workload.rows }}", iterator: row, spec: {mode: sequential}}
    tool: {kind: python, code: "", input: {n: "{{ row }}"}}
    next: {arcs: [{step: one}]}
  - step: one
    tool: {kind: python, code: "", input: {n: "{{ each.results[2].n }}", pair: "{{ ctx.pair }}"}}
    next: {spec: {mode: inclusive}, arcs: [{step: left}, {step: right}]}
  - {step: left, tool: {kind: noop}, next: {arcs: [{step: join}]}}
  - {step: right, tool: {kind: noop}, next: {arcs: [{step: join}]}}
  - {step: join, tool: {kind: noop}, next: {arcs: [{step: big}]}}
  - {step: big, tool: {kind: python, code: "", input: {n: 100000}}, next: {arcs: [{step: after}]}}
  - step: after
    tool: {kind: python, code: "", input: {n: "{{ big.n }}"}}
    next: {arcs: [{step: last}]}
  - {step: last, tool: {kind: python, code: "", input: {n: 1}}}
"""


def pipelined(body: str) -> str:
    return PIPELINED + dedent(body)


def chain(length: int) -> str:
    steps = []
    for number in range(1, length + 1):
        given = f"{{{{ s{number - 1}.n }}}}" if number > 1 else "{{ 0 }}"
        step: dict[str, Any] = {"step": f"s{number}", "tool": {"kind": "python", "code": "", "input": {"n": given}}}
        if number < length:
            step["next"] = {"arcs": [{"step": f"s{number + 1}"}]}
        steps.append(step)
    return f"workflow: {json.dumps(steps)}\n"


class Adder:
    """Adds one; counts; stops at steps that wait for a gate."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.keys: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    def count(self) -> Counter[str]:
        return Counter(self.ran)

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        self.ran.append(context.command_id)
        self.keys.append(context.idempotency_key)
        if context.step in self.gates:
            await self.gates[context.step].wait()
        await asyncio.sleep(0)
        given = call.input.get("n", 0)
        if given == "boom":
            return ToolOutcome("error", error={"kind": "python", "code": "boom", "message": "boom", "retryable": False})
        data = {"n": given + 1}
        return ToolOutcome("ok", data={**data, "pad": "x" * given} if given > 1000 else data)

    async def close(self) -> None:
        return None


@pytest.fixture
def tool() -> Adder:
    return Adder()


@pytest.fixture
async def stack(tmp_path: Path, tool: Adder) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path, lambda kind: tool)
    stack.client.delay = 0.005
    yield stack
    await stack.worker.close()


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def issued(stack: Stack, id: str) -> Counter[str | None]:
    return Counter(event.command_id for event in stack.log.executions[id].events if event.type == e.ISSUED)


def ahead(stack: Stack) -> list[str]:
    """The commands whose outcomes were reported before they were claimed."""
    return [item.command_id for report in stack.client.reports for item in report.outcomes if item.order is not None]


def comparable(stack: Stack, id: str) -> list[Any]:
    """The log without clocks, fences, ids and names of workers."""
    log = []
    for event in stack.log.executions[id].events:
        payload = {name: value for name, value in event.payload.items() if name not in ("meta", "plan", "bytes")}
        text = json.dumps(payload, sort_keys=True).replace(id, "ID")
        log.append((event.seq, event.cause, event.type, event.step, event.generation, event.command_id, text))
    return log


def digest(stack: Stack, id: str) -> Any:
    execution = stack.log.executions[id]
    # the plan is another one: it says how durable its steps are
    events = [event for event in execution.events if event.type != e.STARTED]
    return digests.digest(id, events).value


# -- without trouble


async def test_a_chain_takes_few_reports_and_leaves_the_log_of_one_step_after_the_other(
    stack: Stack, tool: Adder
) -> None:
    slow = await stack.run(STEP + chain(40))
    count, keys = len(stack.client.reports), [key.split("/", 1)[1] for key in tool.keys]
    tool.keys.clear()
    fast = await stack.run(PIPELINED + chain(40))

    assert (count, fast.status, fast.outcomes["s40"]["data"]) == (40, "completed", {"n": 40})
    assert len(stack.client.reports) - count < 20
    assert len(ahead(stack)) > 20
    assert comparable(stack, fast.execution_id) == comparable(stack, slow.execution_id)
    assert digest(stack, fast.execution_id) == digest(stack, slow.execution_id)
    assert [key.split("/", 1)[1] for key in tool.keys] == keys


async def test_loops_branches_joins_failures_and_references_leave_the_same_log(stack: Stack) -> None:
    slow = await stack.run(STEP + MIXED)
    fast = await stack.run(PIPELINED + MIXED)

    assert (slow.status, fast.status) == ("completed", "completed")
    assert "ref" in fast.outcomes["big"]
    ran = ahead(stack)
    assert {"turn#2", "fail#1", "after#1"} <= set(ran)
    assert not {"left#1", "right#1"} & set(ran)
    # left and right end in any order
    assert digest(stack, fast.execution_id) == digest(stack, slow.execution_id)
    assert Counter(kind for _, _, kind, *_ in comparable(stack, fast.execution_id)) == Counter(
        kind for _, _, kind, *_ in comparable(stack, slow.execution_id)
    )
    assert len(stack.log.refs) == 4


async def test_nothing_is_run_ahead_of_a_step_unless_the_playbook_says_so(stack: Stack) -> None:
    await stack.run(chain(5))

    assert ahead(stack) == []


async def test_what_happened_when_is_told_by_the_worker(stack: Stack) -> None:
    state = await stack.run(PIPELINED + chain(30))

    at = [event.at for event in stack.log.executions[state.execution_id].events]
    assert at == sorted(at)
    reported = [item.at for report in stack.client.reports for item in report.outcomes]
    assert [item for item in at if item in reported] != []


async def test_many_at_once(stack: Stack) -> None:
    stack.catalog.add("t/t", PIPELINED + chain(8))
    ids = [(await stack.ledger.start(path="t/t")).execution_id for _ in range(30)]
    summary = await stack.worker.drain(20)

    states = [await stack.state(id) for id in ids]
    assert {state.status for state in states} == {"completed"}
    assert {state.outcomes["s8"]["data"]["n"] for state in states} == {8}
    assert (summary["done"], summary["lost"], summary["unreported"], summary["more"]) == (240, 0, 0, False)
    assert summary["ahead"] == len(ahead(stack)) > 0


async def test_a_step_that_parks_and_a_retry_with_a_timer_end_the_run_ahead(stack: Stack) -> None:
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


async def test_a_step_for_another_pool_is_not_run_ahead(stack: Stack, tool: Adder) -> None:
    body = """
    workflow:
      - {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
      - {step: b, tool: {kind: duckdb, query: SELECT 1}, next: {arcs: [{step: c}]}}
      - {step: c, tool: {kind: noop}, next: {arcs: [{step: d}]}}
      - {step: d, tool: {kind: noop}}
    """
    stack.worker.settings = stack.another(stack.client, pools={"duckdb": "data"}).settings
    assert (await stack.run(pipelined(body))).status == "completed"

    assert set(ahead(stack)) <= {"c#1", "d#1"}


# -- trouble


@pytest.mark.parametrize("lost", [1, 2, 5])
async def test_a_lost_answer_loses_nothing_and_repeats_nothing(stack: Stack, tool: Adder, lost: int) -> None:
    stack.client.lose = lost
    state = await stack.run(PIPELINED + chain(40))

    assert (state.status, state.outcomes["s40"]["data"]) == ("completed", {"n": 40})
    assert set(issued(stack, state.execution_id).values()) == {1}
    assert set(tool.count().values()) == {1}


async def test_all_answers_lost(stack: Stack, tool: Adder) -> None:
    stack.client.lose = 1000
    state = await stack.run(PIPELINED + MIXED)

    assert state.status == "completed"
    assert set(issued(stack, state.execution_id).values()) == {1}


async def test_a_lease_that_went_to_another_takes_the_run_ahead_along(stack: Stack, tool: Adder) -> None:
    other: Any = None
    tool.gates["s4"] = asyncio.Event()

    async def steal(request: ReportRequest) -> None:
        nonlocal other
        if request.worker_id != stack.worker.id or other is not None:
            return
        # the lease of the first is over, and the reconciler gives it to another worker
        for row in stack.log.commands.values():
            row.lease_until = 0.0
        await stack.ledger._log.expire(5, 10)  # type: ignore[attr-defined]
        other = asyncio.create_task(stack.another(Direct(stack.ledger, stack.log)).drain(20, sweep=True))
        await eventually(lambda: tool.count()["s1#1"] == 2)
        tool.gates.pop("s4").set()

    stack.client.meanwhile = steal
    state = await stack.run(PIPELINED + chain(12))
    summary = await other

    assert (state.status, state.outcomes["s12"]["data"]) == ("completed", {"n": 12})
    assert set(issued(stack, state.execution_id).values()) == {1}
    assert summary["done"] + (await stack.worker.drain(1))["done"] <= 12
    # nothing of what the first had run ahead got into the log
    workers = {event.payload["meta"]["worker"] for event in done(stack, state.execution_id)}
    assert stack.worker.id not in workers
    assert tool.count()["s4#1"] == 2


def done(stack: Stack, id: str) -> list[Any]:
    return [event for event in stack.log.executions[id].events if event.type == e.CALL_DONE]


async def test_a_heartbeat_without_a_lease_stops_the_run_ahead(tmp_path: Path, tool: Adder) -> None:
    stack = Stack(tmp_path, lambda kind: tool)
    worker = stack.another(stack.client, lease=0.3)
    tool.gates["s3"] = asyncio.Event()
    stack.catalog.add("t/t", PIPELINED + chain(5))
    id = (await stack.ledger.start(path="t/t")).execution_id
    drain = asyncio.create_task(worker.drain(20))
    await eventually(lambda: "s3#1" in tool.ran and ("s3#1" in [key[1] for key in stack.log.commands]))
    # somebody else's now
    for row in stack.log.commands.values():
        row.fence += 1
    summary = await drain
    assert summary["lost"] == 1
    tool.gates.clear()
    for row in stack.log.commands.values():
        row.lease_until = 0.0
    await stack.log.expire(5, 10)
    await worker.drain(20, sweep=True)

    assert (await stack.state(id)).status == "completed"
    assert tool.count()["s3#1"] == 2
    await worker.close()


async def test_a_control_plane_that_decides_otherwise_is_obeyed(stack: Stack, tool: Adder) -> None:
    """It routes to `right`, where the worker's playbook says `left`."""
    body = """
    workflow:
      - {step: a, tool: {kind: python, code: "", input: {n: 1}}, next: {arcs: [{step: WHERE}]}}
      - {step: left, tool: {kind: python, code: "", input: {n: 1}}, next: {arcs: [{step: end}]}}
      - {step: right, tool: {kind: python, code: "", input: {n: 1}}, next: {arcs: [{step: end}]}}
      - {step: end, tool: {kind: python, code: "", input: {n: 1}}}
    """
    stack.catalog.add("t/other", pipelined(body.replace("WHERE", "left")))
    left = stack.worker.plans._compile(stack.catalog.found["t/other"].content)
    stack.worker.plans._compile = lambda text: left if "path: t/t" in text else None  # type: ignore[assignment, return-value]
    state = await stack.run(pipelined(body.replace("WHERE", "right")))

    assert state.status == "completed"
    assert set(state.outcomes) == {"a", "right", "end"}
    assert "left#1" in tool.ran
    assert "left#1" not in issued(stack, state.execution_id)


async def test_a_step_that_was_issued_with_something_else_is_run_again_with_that(stack: Stack, tool: Adder) -> None:
    body = """
    workload: {add: 5}
    workflow:
      - step: a
        tool: {kind: python, code: "", input: {n: 1}}
        set: {ctx.x: "{{ workload.add + FIX }}"}
        next: {arcs: [{step: b}]}
      - {step: b, tool: {kind: python, code: "", input: {n: "{{ ctx.x }}"}}, next: {arcs: [{step: c}]}}
      - {step: c, tool: {kind: python, code: "", input: {n: "{{ b.n }}"}}}
    """
    stack.catalog.add("t/other", pipelined(body.replace("FIX", "100")))
    wrong = stack.worker.plans._compile(stack.catalog.found["t/other"].content)
    stack.worker.plans._compile = lambda text: wrong  # type: ignore[assignment]
    state = await stack.run(pipelined(body.replace("FIX", "0")))

    assert state.outcomes["c"]["data"] == {"n": 7}
    assert tool.count()["b#1"] == 2
    assert set(issued(stack, state.execution_id).values()) == {1}


async def test_a_busy_execution_is_reported_through_its_inbox(stack: Stack, tool: Adder) -> None:
    """Its row is always taken: the first outcome lies in the inbox, and the rest follows under the next lease."""
    moved: list[int] = []
    commit = stack.log.commit

    async def losing(parts: Any, claimant: Any = None) -> Any:
        if len(moved) < 2 and any(part.closes for part in parts):
            moved.append(1)
            execution = stack.log.executions[parts[0].case.execution_id]
            execution.head += 1
            try:
                return await commit(parts, claimant)
            finally:
                execution.head -= 1
        return await commit(parts, claimant)

    stack.log.commit = losing  # type: ignore[method-assign]
    state = await stack.run(PIPELINED + chain(20))

    assert (state.status, state.outcomes["s20"]["data"]) == ("completed", {"n": 20})
    assert len(moved) == 2
    assert set(issued(stack, state.execution_id).values()) == {1}
    assert set(tool.count().values()) == {1}


async def test_cancelling_stops_the_run_ahead(stack: Stack, tool: Adder) -> None:
    tool.gates["s5"] = asyncio.Event()
    stack.catalog.add("t/t", PIPELINED + chain(100))
    id = (await stack.ledger.start(path="t/t")).execution_id
    drain = asyncio.create_task(stack.worker.drain(20))
    await eventually(lambda: (id, "s5#1") in stack.log.commands)
    await stack.ledger.cancel(id, "enough")
    tool.gates["s5"].set()
    await drain

    assert (await stack.state(id)).status == "cancelled"
    assert stack.types(id)[-1] == e.CANCELLED
    assert len(tool.ran) < 100


async def test_a_control_plane_that_is_gone_leaves_it_to_others(stack: Stack, tool: Adder) -> None:
    down = True

    async def refuse(request: ReportRequest) -> None:
        if down:
            raise Unavailable("down")

    stack.client.meanwhile = refuse
    stack.catalog.add("t/t", PIPELINED + chain(10))
    id = (await stack.ledger.start(path="t/t")).execution_id
    summary = await stack.worker.drain(20)
    assert (summary["done"], summary["more"], summary["unreported"] > 0) == (0, True, True)
    down = False
    for row in stack.log.commands.values():
        row.lease_until = 0.0
    await stack.log.expire(5, 10)
    await stack.worker.drain(20, sweep=True)

    assert (await stack.state(id)).status == "completed"
    assert set(issued(stack, id).values()) == {1}


async def test_a_worker_that_stops_reports_what_it_has_and_hands_the_rest_back(tmp_path: Path, tool: Adder) -> None:
    stack = Stack(tmp_path, lambda kind: tool)
    tool.gates["s6"] = asyncio.Event()
    stack.catalog.add("t/t", PIPELINED + chain(10))
    id = (await stack.ledger.start(path="t/t")).execution_id
    worker = stack.another(stack.client)
    worker._grace = 0.05
    drain = asyncio.create_task(worker.drain(20))
    await eventually(lambda: "s6#1" in tool.ran)
    worker.stop()
    await drain
    state = await stack.state(id)
    assert state.outcomes["s5"]["data"] == {"n": 5}
    assert list(state.commands) == ["s6#1"]
    (row,) = stack.log.commands.values()
    assert row.status == "pending"
    tool.gates.clear()
    await stack.worker.drain(20, sweep=True)

    assert (await stack.state(id)).status == "completed"
    assert {name for name, count in tool.count().items() if count > 1} == {"s6#1"}
    await worker.close()
    await stack.worker.close()


async def test_what_comes_again_is_not_run_ahead_of(stack: Stack) -> None:
    """So that a later step which kills its worker is known by its own deliveries."""
    stack.catalog.add("t/t", PIPELINED + chain(3))
    await stack.ledger.start(path="t/t")
    first = (await stack.ledger.claim(ClaimRequest(worker_id="w", limit=1))).commands[0]
    stack.log.commands[(first.execution_id, first.command_id)].lease_until = 0.0
    await stack.log.expire(5, 10)
    again = (await stack.ledger.claim(ClaimRequest(worker_id="w", limit=1))).commands[0]

    assert first.ahead is not None
    assert (again.delivery, again.ahead) == (2, None)
