"""A pipelined playbook of three steps, and the commands of it."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent

from noetl_serverless.engine import events as e
from noetl_serverless.engine.decide import advance
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.state import State
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.protocol import Ahead, ClaimedCommand

HEAD = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t, path: t/t}
executor: {spec: {durability: DURABILITY}}
workload: {limit: 2, unused: 1}
workflow:
"""
CHAIN = """
- step: a
  tool: {kind: noop}
  set: {ctx.seen: "{{ (output.data.n, 1.0) }}"}
  next: {arcs: [{step: b}]}
- step: b
  tool: {kind: noop, input: {n: "{{ a.n }}", seen: "{{ ctx.seen }}", limit: "{{ workload.limit }}"}}
  next: {arcs: [{step: c}]}
- {step: c, tool: {kind: noop}}
"""


def begun(workflow: str, durability: str = "pipelined") -> tuple[Plan, State, Event]:
    """An execution of `workflow` as its first command is out."""
    plan = load_plan(HEAD.replace("DURABILITY", durability) + dedent(workflow))
    payload = {"entry": plan.entry, "workload": dict(plan.workload)}
    state, decisions = advance(plan, State("7"), Event(e.STARTED, 5, seq=1, payload=payload))
    return plan, replace(state, seq=1 + len(decisions)), decisions[-1]


def claimed(plan: Plan, state: State, issued: Event) -> ClaimedCommand:
    command = ClaimedCommand(
        execution_id="7",
        command_id=issued.command_id or "",
        step=issued.step or "",
        generation=1,
        kind=issued.payload["kind"],
        attempt=1,
        delivery=1,
        fence=9,
        lease_until="2030-01-01T00:00:00Z",
        plan="as the control plane calls it",
        path="t/t",
        workload={},
        scope={"ctx": {}, "steps": {}},
        order="o",
        ahead=Ahead(head=state.seq, state=state.snapshot(), workload=dict(state.workload)),
    )
    return ClaimedCommand.model_validate_json(command.model_dump_json())
