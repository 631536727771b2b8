"""Plays the worker's part against the core: no store, no clock."""

from __future__ import annotations

from dataclasses import replace
from textwrap import dedent, indent
from typing import Any

import orjson

from noetl_serverless.engine import events as e
from noetl_serverless.engine.decide import advance
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.replay import fold
from noetl_serverless.engine.state import State
from noetl_serverless.playbook.load import load_plan

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\n"


class Run:
    """One execution. After every fact, the log is folded and compared with the state."""

    def __init__(
        self,
        workflow: str,
        head: str = "",
        payload: dict[str, Any] | None = None,
        budget: dict[str, Any] | None = None,
        started: dict[str, Any] | None = None,
    ) -> None:
        """`started`: more of the payload of its first event."""
        text = HEAD + dedent(head) + "workflow:\n" + indent(dedent(workflow), "  ")
        self.plan = load_plan(text)
        self.state = State("7")
        self.log: list[Event] = []
        self.now = 1_800_000_000_000
        workload = {**self.plan.workload, **(payload or {})}
        first = {"workload": workload, "entry": self.plan.entry, "plan": self.plan.hash, **(started or {})}
        self.fact(e.STARTED, payload={**first, **({"budget": budget} if budget else {})})

    @property
    def failure(self) -> dict[str, Any]:
        """The error that the execution failed with."""
        assert self.state.error is not None
        return self.state.error

    def window(self, command: str) -> tuple[int, int, int, int]:
        """The frame of an open command."""
        frame = self.state.commands[command].frame
        assert frame is not None
        return frame

    def fact(self, kind: str, **fields: Any) -> list[Event]:
        self.now += 1
        fact = Event(kind, self.now, seq=len(self.log) + 1, **fields)
        self.state, decisions = advance(self.plan, self.state, fact)
        self.log.append(fact)
        for decision in decisions:
            self.log.append(replace(decision, seq=len(self.log) + 1))
        self.state = replace(self.state, seq=len(self.log))
        assert plain(fold("7", self.log)) == plain(self.state), "the log folds to another state"
        kept = orjson.dumps(self.state.snapshot())
        again = State.restore(orjson.loads(kept), self.state.workload)
        assert again == self.state, "the snapshot does not restore"
        assert orjson.dumps(again.snapshot()) == kept, "it restores in another order"
        return decisions

    def report(self, command: str, kind: str = e.CALL_DONE, **payload: Any) -> list[Event]:
        step, _, generation = self.state.commands[command].key.rpartition("#")
        return self.fact(kind, step=step, generation=int(generation), command_id=command, payload=payload)

    def done(self, step: str, data: Any = None, **payload: Any) -> list[Event]:
        """The step's (only) open command ends well."""
        return self.report(self.open(step), data=data, **payload)

    def error(self, step: str, code: str = "boom") -> list[Event]:
        error = {"kind": "tool", "code": code, "message": "it broke", "retryable": False}
        return self.report(self.open(step), e.CALL_ERROR, error=error)

    def frame(self, command: str, results: list[Any], failed: int = 0, item_ms: float = 1.0, **more: Any) -> None:
        _, start, _, _ = self.state.commands[command].frame or (0, 0, 0, 0)
        counts = {"start": start, "end": start + len(results), "ok": len(results) - failed, "failed": failed}
        payload = {**counts, "data": results, "item_ms": item_ms, "bytes": len(orjson.dumps(results)), **more}
        self.report(command, e.FRAME_COMMITTED, **payload)

    def open(self, step: str) -> str:
        (command,) = [name for name, item in self.state.commands.items() if item.key.startswith(step + "#")]
        return command

    @property
    def running(self) -> set[str]:
        """The steps that have a command out."""
        return {item.key.rpartition("#")[0] for item in self.state.commands.values()}

    def types(self) -> list[str]:
        return [event.type for event in self.log]

    def skipped(self) -> list[str | None]:
        return [event.step for event in self.log if event.type == e.STEP_SKIPPED]

    def issued(self, step: str) -> list[Event]:
        return [event for event in self.log if event.type == e.ISSUED and event.step == step]


def plain(state: State) -> dict[str, Any]:
    return {**orjson.loads(orjson.dumps(state.snapshot())), "workload": dict(state.workload)}
