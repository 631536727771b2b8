"""Chains of steps, a tool that counts how often each ran, and what their logs have in common."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from textwrap import dedent
from typing import Any

from tests.integration.worker.stack import Stack

from noetl_serverless.engine import digest as digests
from noetl_serverless.engine import events as e
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


def issued(stack: Stack, id: str) -> Counter[str | None]:
    return Counter(event.command_id for event in stack.log.executions[id].events if event.type == e.ISSUED)


def run_speculatively(stack: Stack) -> set[str]:
    """The commands that were begun before they were claimed."""
    return {item.command_id for report in stack.client.reports for item in report.running} | set(unclaimed(stack))


def unclaimed(stack: Stack) -> list[str]:
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


def done(stack: Stack, id: str) -> list[Any]:
    return [event for event in stack.log.executions[id].events if event.type == e.CALL_DONE]
