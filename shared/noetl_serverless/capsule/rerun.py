"""Runs a recorded execution again, with the real orchestrator and the real worker's rules and templates; the recording
replaces the tools, and whoever sent its signals. Nothing leaves the process, and delays pass at once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, cast

from pydantic import BaseModel

from ..engine.digest import Digest, digest
from ..engine.events import RESTART, VARIABLES_DELETED, VARIABLES_SET, Event
from ..engine.state import Wait, split_token_key
from ..errors import InvalidRequest
from ..inspection.redecide import given_workload
from ..testing.catalog import MemoryCatalog
from ..testing.engine import MemoryEngine
from ..testing.tools import place_of
from ..tools import registry
from ..tools.config import ToolConfig
from ..tools.plans import load_plan
from ..tools.port import Credential, Tool, ToolCall, ToolContext, ToolOutcome
from .answers import Answers, NotRecorded
from .recording import Recording

# kinds without external effects, whose real tools are run
REAL = frozenset({"noop", "playbook", "wait"})
# what only users do: what steps set is part of their ends
_CHANGES = frozenset({VARIABLES_SET, VARIABLES_DELETED})


@dataclass(frozen=True)
class Missing:
    """A tool call that the recording has no answer to."""

    execution: str
    step: str
    generation: int
    item: int | None
    task: str
    why: str


@dataclass(kw_only=True)
class Rerun:
    """`events` are those of the new run. `recorded` and `now` are the same if both runs did the same."""

    status: str
    error: dict[str, Any] | None
    events: list[Event]
    recorded: Digest
    now: Digest
    calls: int
    missing: list[Missing] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return self.recorded.value == self.now.value

    def first_difference(self) -> tuple[str | None, str | None]:
        """The names of the first entries in which the two digests differ; None where one has no more entries.

        Another playbook or workload by itself changes the entry `start`: it is named only if no other entry differs.
        """
        (recorded_start, *recorded_links), (now_start, *now_links) = self.recorded.links, self.now.links
        for left, right in zip_longest(recorded_links, now_links):
            if left is None or right is None or left.sha256 != right.sha256:
                return (left.name if left else None), (right.name if right else None)
        return (None, None) if recorded_start.sha256 == now_start.sha256 else (recorded_start.name, now_start.name)


async def rerun(recording: Recording, playbook: str | None = None) -> Rerun:
    """`playbook`: the text of another version to run against the same answers. Raises InvalidPlaybook, and
    InvalidRequest for a loop over a cursor and for a restart: the rows that it claimed, and what had been done before,
    are not in the recording. Also if users have set or deleted variables: of what ran side by side, some began before
    and some after, and nothing in a run that takes no time tells which."""
    first = recording.events[0].payload if recording.events else {}
    if (restart := first.get(RESTART)) is not None:
        raise InvalidRequest(
            f"execution {recording.execution_id} goes on with execution {restart['execution_id']}, and what that one "
            "did is not in the recording: it cannot run again; noetls explain, diff and replay read what it did"
        )
    for nested in recording.with_descendants():
        if (change := next((event for event in nested.events if event.type in _CHANGES), None)) is not None:
            names = ", ".join(f"'{name}'" for name in change.payload.get("variables") or change.payload["names"])
            did = "set" if change.type == VARIABLES_SET else "deleted"
            raise InvalidRequest(
                f"somebody {did} variables of execution {nested.execution_id} while it ran, at event {change.seq}: "
                f"{names}. What had begun before that read other values, so it cannot run again; noetls explain, diff "
                "and replay read what it did"
            )
    plans = [nested.plan for nested in recording.with_descendants()]
    for plan in [*plans, *([load_plan(playbook)] if playbook is not None else [])]:
        for step in plan.steps.values():
            if step.loop is not None and step.loop.cursor is not None:
                raise InvalidRequest(
                    f"step '{step.name}' of {plan.path} loops over a cursor, whose rows are not in the recording: it "
                    "cannot run again; noetls explain, diff and replay read what it did"
                )
    with tempfile.TemporaryDirectory(prefix="noetl-rerun-") as scratch:
        return await _Simulation(recording, playbook, Path(scratch)).run()


class _Simulation:
    def __init__(self, recording: Recording, playbook: str | None, scratch: Path) -> None:
        self.recording = recording
        now = recording.events[0].at / 1000 if recording.events else 0.0
        # every tool that would run Python is replaced
        self.engine = MemoryEngine(
            self.tool,
            scratch,
            python=cast(Any, None),
            credential=_no_credential,
            now=now,
            answer_waits=self._answer_waits,
        )
        _register(recording, playbook, self.engine.catalog)
        self.stub = _Stub(self)
        # execution id of this run -> its recorded answers
        self.answers: dict[str, Answers | None] = {}
        # execution id and signal -> the waits for it, with their numbers
        self.begun: dict[tuple[str, str], dict[str, int]] = {}
        self.missing: list[Missing] = []
        self.calls = 0

    async def run(self) -> Rerun:
        recording = self.recording
        first = recording.events[0].payload if recording.events else {}
        # the input without the defaults, because another version has its own
        given = given_workload(recording.plan.workload, recording.workload)
        payload = {**given, **({"ctx": first["ctx"]} if first.get("ctx") else {})}
        id = await self.engine.start(recording.path, payload)
        self.answers[id] = Answers(recording)
        await self.engine.run_until_idle()
        await self._miss_signals()
        execution = (await self.engine.event_store.load([id]))[id]
        events = await self.engine.event_store.events(id)
        return Rerun(
            status=execution.state.status,
            error=execution.state.error,
            events=events,
            recorded=digest(recording.execution_id, self._recorded(), recording.workload),
            now=digest(id, events, execution.state.workload),
            calls=self.calls,
            missing=self.missing,
        )

    def _recorded(self) -> list[Event]:
        """The log with the hashes that the playbooks have here, because masking may have changed them."""
        hashes = {nested.plan_hash: nested.plan.hash for nested in self.recording.with_descendants()}
        if all(before == after for before, after in hashes.items()):
            return self.recording.events
        return [replace(event, payload=_renamed(event.payload, hashes)) for event in self.recording.events]

    def tool(self, kind: str) -> Tool:
        return registry.load(kind) if kind in REAL else self.stub

    async def _answer_waits(self) -> bool:
        """Send the signal that has ended a wait in the recording. Of the waits for one signal, the first one takes it:
        what follows a wait that ran out of time comes after its time."""
        for id, waits in await self._waits():
            if (answers := self.answers_of(id)) is None:
                continue
            first: dict[str, str] = {}
            for wait, name in ((wait, each.signal) for wait, each in waits.items() if each.signal is not None):
                first.setdefault(name, wait)
                begun = self.begun.setdefault((id, name), {})
                begun.setdefault(wait, len(begun))
            for name, wait in first.items():
                if (ending := answers.signal(name, self.begun[id, name][wait])) is not None:
                    data, by = ending.get("data"), None
                    if waits[wait].approval and isinstance(data, Mapping):
                        # what the engine has added to the decision
                        by = data.get("by")
                        data = {key: value for key, value in data.items() if key != "by"}
                    return await self.engine.orchestrator.controls.signal(id, name, data, by=by)
        return False

    async def _waits(self) -> list[tuple[str, Mapping[str, Wait]]]:
        """Those of the executions that have not ended."""
        rows = self.engine.event_store.executions
        loaded = await self.engine.event_store.load([id for id, row in rows.items() if row.status == "RUNNING"])
        return [(id, each.state.waits) for id, each in loaded.items() if each.state.waits]

    async def _miss_signals(self) -> None:
        """Note the waits that are left."""
        for id, waits in await self._waits():
            answers = self.answers_of(id)
            if answers is not None and not answers.ended:
                # it may have waited still
                continue
            for wait in waits.values():
                step, generation = split_token_key(wait.key)
                what = "approval" if wait.approval else "signal"
                why = f"the recording has no more {what} '{wait.signal}'"
                self.missing.append(
                    Missing(execution=id, step=step, generation=generation, item=None, task=step, why=why)
                )

    def answers_of(self, execution_id: str) -> Answers | None:
        """The answers for an execution of this run; a child's are those of the child that the same command has started
        in the recording."""
        if execution_id not in self.answers:
            link = self.engine.event_store.executions[execution_id].loaded.parent or {}
            parent = self.answers_of(str(link.get("execution_id")))
            child = None if parent is None else _child(parent.recording, link)
            self.answers[execution_id] = None if child is None else Answers(child)
        return self.answers[execution_id]


def _renamed(payload: Mapping[str, Any], hashes: Mapping[str, str]) -> dict[str, Any]:
    result = dict(payload)
    for name in ("plan", "plan_hash"):
        if payload.get(name) in hashes:
            result[name] = hashes[payload[name]]
    return result


def _child(parent: Recording, link: Mapping[str, Any]) -> Recording | None:
    for child in parent.children:
        begun = (child.events[0].payload.get("parent") or {}) if child.events else {}
        if all(begun.get(name) == link.get(name) for name in ("command_id", "step", "generation")):
            return child
    return None


class _Stub:
    """Replaces every tool that has external effects."""

    config: ClassVar[type[BaseModel]] = ToolConfig
    # it reads nothing of its call
    takes_tables: ClassVar[bool] = True

    def __init__(self, simulation: _Simulation) -> None:
        self._simulation = simulation

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        place = place_of(call, context)
        self._simulation.calls += 1
        answers = self._simulation.answers_of(context.execution_id)
        try:
            if answers is None:
                raise NotRecorded("this sub-playbook is not in the recording")
            return answers.answer(place)
        except NotRecorded as missing:
            where = (context.execution_id, place.step, place.generation, place.item, place.task)
            self._simulation.missing.append(Missing(*where, str(missing)))
            # releases the command, as a stopped worker does
            raise asyncio.CancelledError from None

    async def close(self) -> None:
        return None


def _register(recording: Recording, playbook: str | None, catalog: MemoryCatalog) -> None:
    """Add the playbooks of the recording, each under the path and the version that it had."""
    for nested in recording.with_descendants():
        text = playbook if playbook is not None and nested is recording else nested.playbook
        catalog.register(text, path=nested.path, version=nested.version)


async def _no_credential(name: str) -> Credential:
    raise KeyError(name)
