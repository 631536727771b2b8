"""Playbooks that several tests of the orchestrator run."""

from __future__ import annotations

from .conftest import Engine, outcome

ONLY = "- {step: only, tool: {kind: noop}}\n"
CALL = "- {step: call, tool: {kind: playbook, path: t/child}}\n"
LOOP = """
- {step: a, tool: {kind: noop}, set: {ctx.n: 1}, next: {arcs: [{step: each}]}}
- step: each
  loop: {in: "{{ [10, 20, 30] }}", iterator: x, spec: {mode: parallel, max_in_flight: 2}}
  tool: {kind: python, input: {x: "{{ iter.x + ctx.n }}"}, code: "result = x"}
"""


async def parallel_to_a_child(engine: Engine) -> tuple[str, str]:
    engine.catalog.add("t/t", CALL)
    engine.catalog.add("t/child", ONLY)
    id = await engine.start()
    (call,) = await engine.claim()
    await engine.report(outcome(call, status="parked", child={"path": "t/child"}))
    (child,) = await engine.log.running_descendants(id)
    return id, child
