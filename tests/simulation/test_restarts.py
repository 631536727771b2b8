"""Executions of drawn playbooks fail or are cancelled anywhere, are restarted, and end as if nothing had happened."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.log_rules import audit_decisions, audit_log
from tests.oracle.execution import Unclear
from tests.oracle.following import Differs, follow
from tests.oracle.playbook import read
from tests.unit.orchestrator.conftest import Engine, frame_of
from tests.unit.orchestrator.conftest import outcome as reported

from noetl_serverless.engine import events as e
from noetl_serverless.engine.digest import digest
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.replay import fold
from noetl_serverless.errors import Conflict, InvalidRequest
from noetl_serverless.inspection.diff import diff
from noetl_serverless.inspection.explain import explain
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.protocol import ClaimedCommand, FrameOutcome, Outcome

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\nworkflow:\n"
BOOM = {"kind": "tool", "code": "boom", "message": "it broke", "retryable": False}
SEEDS = range(40)
RESTARTS = 4


def drawn(chance: random.Random) -> str:
    """A playbook: branches, conditions, joins, loops, cycles, steps that are not admitted, and handled failures."""
    count = chance.randint(4, 9)
    lines = []
    for number in range(count):
        later = [f"s{other}" for other in range(number + 1, count)]
        targets = chance.sample(later, min(len(later), chance.choice((0, 1, 1, 2, 3)) or (not number)))
        arcs = []
        if number and chance.random() < 0.2:
            # a cycle: its head may be any step before it
            head = chance.randrange(number)
            arcs.append(f'{{step: s{head}, when: "{{{{ ctx.s{number} < 2 }}}}"}}')
        for target in targets:
            met = chance.choice(("", "", "!= 1", "> 1"))
            condition = f', when: "{{{{ ctx.s{number} {met} }}}}"' if met else ""
            arcs.append(f"{{step: {target}{condition}}}")
        mode = chance.choice(("inclusive", "exclusive"))
        parts = [f"step: s{number}", "tool: {kind: noop}"]
        parts.append(f'set: {{ctx.s{number}: "{{{{ (ctx.s{number} | default(0)) + 1 }}}}"}}')
        if chance.random() < 0.15:
            parts.append('loop: {in: "{{ [1, 2, 3] }}", iterator: n, spec: {mode: parallel, max_in_flight: 2}}')
        if number and chance.random() < 0.1:
            parts.append("spec: {policy: {admit: {rules: [{else: {then: {allow: false}}}]}}}")
        if arcs:
            unmatched = chance.choice(("complete", "quiet"))
            routing = f"spec: {{mode: {mode}, on_no_match: {unmatched}}}, arcs: [{', '.join(arcs)}]"
            parts.append(f"next: {{{routing}}}")
        lines.append(f"- {{{', '.join(parts)}}}")
    return HEAD + "\n".join(lines)


@dataclass
class Game:
    engine: Engine
    chance: random.Random
    # step -> how often it has succeeded, of loops each item
    effects: Counter[str] = field(default_factory=Counter)
    # whether the oracle does not follow even a run that nothing befell
    is_odd: bool = False

    async def play(self, id: str, *, trouble: float) -> None:
        """Run until the execution ends, in any order; each command fails with this probability, or all is cancelled."""
        held: list[ClaimedCommand] = []
        while self.engine.status(id) == "RUNNING":
            held += await self.engine.claim()
            assert held, "it waits for nothing"
            command = held.pop(self.chance.randrange(len(held)))
            fails = self.chance.random() < trouble
            if fails and self.chance.random() < 0.3:
                await self.engine.orchestrator.controls.cancel(id, "enough")
                return
            await self.engine.report(self._outcome(command, fails))

    def _outcome(self, command: ClaimedCommand, fails: bool) -> Outcome:
        if command.frame is None:
            self.effects[command.step] += not fails
            if fails:
                return reported(command, status="error", error=BOOM)
            return reported(command, {"of": command.step, "run": command.generation})
        window = frame_of(command)
        size = window.end - window.start
        self.effects[command.step] += 0 if fails else size
        errors = {str(window.start): BOOM} if fails else {}
        counts = {"start": window.start, "end": window.end, "ok": size - len(errors), "failed": len(errors)}
        return reported(command, [None if fails else 1] * size, frame=FrameOutcome(**counts, errors=errors))

    async def restart(self, id: str) -> str:
        workload = (await self.engine.log.load([id]))[id].state.workload
        log = await self.engine.log.events(id)
        begun = sorted({event.step for event in log if event.type == e.ISSUED and event.step})
        step = self.chance.choice(begun) if begun and self.chance.random() < 0.3 else None
        try:
            found = await self.engine.orchestrator.restart(id, log, workload, step=step)
        except InvalidRequest:
            assert step is not None
            found = await self.engine.orchestrator.restart(id, log, workload)
        new = found.execution_id or ""
        reused = {it.step: it.generation or 0 for it in found.restart.reused}
        if step is None:
            ended = {
                (route["step"], route["generation"])
                for event in log
                for route in event.payload.get("routes", ())
                if route["event"] == e.CALL_DONE or route.get("arcs")
            }
            done = {step for step, generation in ended if reused.get(step) == generation}
            assert {step for step, _ in ended} - done <= set(found.restart.again), "what was done is lost"
        for event in await self.engine.log.events(new):
            if event.type == e.ISSUED:
                assert (event.generation or 0) > reused.get(event.step or "", 0), "what is reused has run again"
        return new

    async def check(self, id: str) -> None:
        log, loaded = await self.engine.log.events(id), (await self.engine.log.load([id]))[id]
        plan = load_plan(await self.engine.catalog.text(loaded.plan_hash))
        assert audit_log(id, log) + audit_decisions(id, log, plan, {}) == []
        assert fold(id, log).snapshot() == loaded.state.snapshot()
        assert diff(id, log, plan, plan).empty
        assert digest(id, log).ended
        explain(id, log, plan)
        if self.is_odd:
            return
        with suppress(Unclear):
            follow(read(await self.engine.catalog.text(loaded.plan_hash)), {}, log)

    async def result(self, id: str) -> dict[str, Any]:
        state = (await self.engine.log.load([id]))[id].state
        outcomes = {name: {**outcome, "ref": None} for name, outcome in sorted(state.outcomes.items())}
        return {"status": state.status, "ctx": dict(sorted(state.ctx.items())), "outcomes": outcomes}


def follows(text: str, log: Sequence[Event]) -> bool:
    try:
        follow(read(text), {}, log)
    except (Differs, Unclear):
        return False
    return True


@pytest.mark.parametrize("seed", SEEDS)
async def test_it_ends_as_if_nothing_had_happened(seed: int) -> None:
    chance = random.Random(seed)
    text = drawn(chance)
    calm = Game(Engine(), chance)
    calm.engine.catalog.register(text)
    undisturbed = await calm.engine.start()
    await calm.play(undisturbed, trouble=0)
    expected = await calm.result(undisturbed)

    game = Game(Engine(), chance, is_odd=not follows(text, await calm.engine.log.events(undisturbed)))
    game.engine.catalog.register(text)
    id = await game.engine.start()
    for left in reversed(range(RESTARTS)):
        await game.play(id, trouble=0.2 if left else 0)
        await game.check(id)
        if game.engine.status(id) == "COMPLETED":
            break
        game.engine.seconds += 1
        id = await game.restart(id)
    await game.play(id, trouble=0)
    await game.check(id)
    assert await game.result(id) == expected, text


def versions(chance: random.Random) -> list[str]:
    """A chain of steps and a loop, of which each version undoes others if it fails."""
    count = chance.randint(3, 5)
    loop = chance.randrange(count)
    texts = []
    for _ in range(3):
        lines = []
        for number in range(count):
            parts = [f"step: s{number}", "tool: {kind: noop}"]
            if number == loop:
                spec = "{mode: parallel, policy: {exec: distributed}}"
                parts.append(f'loop: {{in: "{{{{ [1, 2, 3] }}}}", iterator: n, spec: {spec}}}')
            if chance.random() < 0.5:
                parts.append("compensate: {tool: {kind: noop}}")
            if number < count - 1:
                parts.append(f"next: {{arcs: [{{step: s{number + 1}}}]}}")
            lines.append(f"- {{{', '.join(parts)}}}")
        texts.append(HEAD + "\n".join(lines))
    return list(dict.fromkeys(texts))


@dataclass
class Several:
    """Executions that go on with one another, at once and in any versions."""

    game: Game
    # id -> the turn in which it began, and in which it was found to have ended
    began: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    turn: int = 0

    @property
    def engine(self) -> Engine:
        return self.game.engine

    async def play(self, texts: Sequence[str]) -> None:
        chance = self.game.chance
        old = await self.engine.start(version=1)
        self.began[old] = 0
        held: list[ClaimedCommand] = []
        for self.turn in range(1, 150):
            held += await self.engine.claim()
            if held and chance.random() < 0.8:
                command = held.pop(chance.randrange(len(held)))
                await self.engine.report(self.game._outcome(command, chance.random() < 0.2))
            elif chance.random() < 0.3:
                await self.engine.orchestrator.controls.cancel(chance.choice([*self.began]), "enough")
            elif len(self.began) < 12:
                await self.restart(chance.choice([*self.began]), chance.randint(1, len(texts)))
            self.look()
        while held := [*held, *await self.engine.claim()]:
            await self.engine.report(self.game._outcome(held.pop(), chance.random() < 0.1))
        self.turn += 1
        self.look()

    def look(self) -> None:
        for id in self.began.keys() - self.ended.keys():
            if self.engine.status(id) != "RUNNING":
                self.ended[id] = self.turn

    async def restart(self, id: str, version: int) -> None:
        step = self.game.chance.choice([None, None, "s0", "s1", "s2"])
        with suppress(Conflict, InvalidRequest):
            found = await self.engine.orchestrator.restart(
                id, await self.engine.log.events(id), {}, step=step, version=version
            )
            self.began[found.execution_id or ""] = self.turn

    async def taken_over(self, id: str) -> dict[str, set[tuple[str, int]]]:
        """step -> where it was done, by itself or items of it: executions, and the events that tell it."""
        found: dict[str, set[tuple[str, int]]] = {}
        for event in await self.engine.log.events(id):
            if event.type in (e.REUSED, e.LOOP_REUSED):
                of, step = event.payload["of"], event.step or ""
                before = await self.taken_over(of["execution_id"])
                found[step] = {(of["execution_id"], of["seq"]), *before.get(step, ())}
        return found

    async def undone(self, id: str) -> set[tuple[str, int]]:
        """Of that, what it has undone, or has tried to."""
        log = await self.engine.log.events(id)
        if e.COMPENSATION_STARTED not in {event.type for event in log}:
            return set()
        loaded = (await self.engine.log.load([id]))[id]
        steps = load_plan(await self.engine.catalog.text(loaded.plan_hash)).steps
        noted = {run["step"] for event in log for run in event.payload.get("compensable", ())}
        noted |= {event.step or "" for event in log if event.type == e.LOOP_REUSED}
        taken_over = await self.taken_over(id)
        undone = [name for name in noted & taken_over.keys() if steps[name].compensation is not None]
        return set().union(*(taken_over[name] for name in undone))


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_relies_on_what_another_of_any_version_has_undone(seed: int) -> None:
    chance = random.Random(seed)
    texts = versions(chance)
    # of a version that undoes nothing, the oracle tells that it has tried to
    several = Several(Game(Engine(), chance, is_odd=True))
    for text in texts:
        several.engine.catalog.register(text)
    await several.play(texts)
    for id in several.began:
        await several.game.check(id)
        undone = await several.undone(id)
        for other in several.began.keys() - {id}:
            if undone & set().union(*(await several.taken_over(other)).values()):
                assert several.ended[other] <= several.began[id], f"{other} relies on what {id} has undone"
