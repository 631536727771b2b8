"""A mistake in the engine, on purpose, and executions that it sets apart."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.orchestrator.conftest import Engine, outcome

from noetl_serverless.engine import decide
from noetl_serverless.engine import events as e
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.testing.event_store import MemoryEventStore

CHAIN = """
- {step: a, tool: {kind: noop}, next: {arcs: [{step: b}]}}
- {step: b, tool: {kind: noop}, next: {arcs: [{step: c}]}}
- {step: c, tool: {kind: noop}}
"""
FORK = """
- {step: split, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: other}]}}
- {step: b, tool: {kind: noop}, set: {ctx.b: "{{ output.data }}"}, next: {arcs: [{step: join}]}}
- {step: other, tool: {kind: noop}, next: {arcs: [{step: join}]}}
- {step: join, tool: {kind: noop, input: {b: "{{ ctx.b }}", other: "{{ other }}"}}}
"""
TIMED = """
- step: split
  tool: {kind: noop}
  next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: other}, {step: timed}]}
- {step: b, tool: {kind: noop}}
- {step: other, tool: {kind: noop, input: {at: "{{ split }}"}}}
- {step: timed, tool: {kind: noop}}
"""
CALLS = """
- {step: split, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: call}, {step: b}]}}
- {step: call, tool: {kind: playbook, path: t/child}, next: {arcs: [{step: after}]}}
- {step: b, tool: {kind: noop}, next: {arcs: [{step: after}]}}
- {step: after, tool: {kind: noop}}
"""
CALL = "- {step: call, tool: {kind: playbook, path: t/child}}\n"
CHILD = "- {step: only, tool: {kind: noop}}\n"


class Mistake(Exception):
    """Stands for a mistake in the engine."""


class Faulty:
    """Breaks the decision of one kind of fact for one step."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def at(self, step: str, kind: str = e.CALL_DONE) -> None:
        sound = decide.DECIDE[kind]

        def broken(decider: decide.Decider) -> None:
            if decider.fact.step == step:
                raise Mistake(f"no idea what follows from {step}")
            sound(decider)

        self._patch.setitem(decide.DECIDE, kind, broken)

    def mend(self) -> None:
        self._patch.undo()


async def status(engine: Engine, id: str) -> str:
    return (await engine.log.load([id]))[id].state.status


async def types(engine: Engine, id: str) -> list[str]:
    return [event.type for event in await engine.log.events(id)]


async def work(engine: Engine, **data: Any) -> list[str]:
    """Do whatever is pending, to its end; the commands, in order."""
    done: list[str] = []
    commands = await engine.claim()
    while commands:
        command, *others = commands
        done.append(command.command_id)
        answer = await engine.report(outcome(command, data.get(command.step, {})), capacity=10)
        assert answer.results[0].status == "accepted", answer.results[0].detail
        commands = answer.commands + others or await engine.claim()
    return done


async def into_quarantine(engine: Engine, faulty: Faulty, workflow: str = CHAIN) -> str:
    """An execution of t/t whose step b could not be decided."""
    engine.catalog.add("t/t", workflow)
    id = await engine.start()
    faulty.at("b")
    await work(engine)
    faulty.mend()
    assert [row.execution_id for row in await engine.orchestrator.quarantined_executions(10)] == [id]
    return id


async def parked(engine: Engine, text: str, **child: Any) -> tuple[str, Any]:
    """An execution that waits for a child of this text, and its command b, which is out beside it."""
    engine.catalog.add("t/t", CALLS)
    engine.catalog.add("t/child", text)
    id = await engine.start()
    (split,) = await engine.claim()
    call, b = (await engine.report(outcome(split), capacity=10)).commands
    await engine.report(outcome(call, status="parked", child={"path": "t/child", **child}))
    return id, b


async def parallel_to_a_child(engine: Engine, faulty: Faulty) -> tuple[str, str, Any]:
    """An execution in quarantine, its child that goes on, and the child's command."""
    id, b = await parked(engine, CHILD)
    (only,) = await engine.claim()
    faulty.at("b")
    await engine.report(outcome(b))
    assert (await engine.orchestrator.quarantined_execution(id)).execution_id == id
    return id, only.execution_id, only


async def spoil(engine: Engine, id: str, state: str = '{"tokens": 5}') -> Orchestrator:
    """Another instance, which has to read the state, and cannot."""
    if isinstance(engine.log, MemoryEventStore):
        engine.log.executions[id].state = state.encode()
    else:
        sql = "UPDATE noetl.execution SET state = CAST(:state AS json) WHERE execution_id = :id"
        await engine.postgres._database.run(sql, state=state, id=int(id))
    return engine.another()
