"""The log in memory held against the SQL: the same calls, made up at random, on both; the answers and every row of
every table must be the same after each.

A failure prints the story, call by call; its seed tells it again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import orjson
import pytest
from tests.integration.store.rows import difference, remembered, stored

from noetl_serverless import limits
from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.state import Command
from noetl_serverless.hosts.local.postgres import Postgres, create_database
from noetl_serverless.orchestrator.pauses import due_times, with_timers
from noetl_serverless.orchestrator.start import new_child, new_root
from noetl_serverless.orchestrator.transition import Transition
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.protocol import CommandKey, Held
from noetl_serverless.records import (
    Claimant,
    CommitResult,
    ExecutionCommit,
    Lease,
    ReportedFact,
    Startable,
    UnstorableCommit,
)
from noetl_serverless.store.connection import connect
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.migrate import migrate
from noetl_serverless.testing.catalog import MemoryCatalogEntry
from noetl_serverless.testing.event_store import MemoryEventStore

TEXT = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t, path: t/t}
executor: {spec: {weight: 30}}
workload: {items: [1, 2, 3]}
workflow:
  - step: a
    tool: {kind: noop}
    set: {ctx.last: "{{ output.data }}"}
    next: {spec: {mode: inclusive}, arcs: [{step: each}, {step: b}, {step: below}]}
  - step: each
    loop: {in: "{{ workload['items'] }}", iterator: x, spec: {mode: parallel, max_in_flight: 2}}
    spec: {policy: {lifecycle: {timeout: 60}}}
    tool: {kind: noop}
    next: {arcs: [{step: c, when: "{{ event.name in ['loop.done', 'loop.failed'] }}"}]}
  - {step: b, tool: {kind: noop}, next: {arcs: [{step: b, when: "{{ output.data is mapping }}"}, {step: c}]}}
  - step: below
    spec: {policy: {lifecycle: {timeout: 60}}}
    tool: {kind: noop}
    next: {arcs: [{step: c, when: "{{ event.name in ['call.done', 'call.error'] }}"}]}
  - {step: c, tool: {kind: noop}, next: {arcs: [{step: a}]}}
"""
PLAN = load_plan(TEXT)
# nothing is ever under way beside a step: its lease is direct
LINE_TEXT = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: line, path: t/line}
workflow:
  - {step: x, tool: {kind: noop}, next: {arcs: [{step: y}]}}
  - {step: y, tool: {kind: noop}, next: {arcs: [{step: x}]}}
"""
LINE = load_plan(LINE_TEXT)
# of each key there is one queue: the order of several is left to chance
LIMITED_TEXT = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: limited, path: t/limited}
workflow:
  - step: each
    loop: {in: [1, 2, 3, 4, 5], iterator: i, spec: {mode: parallel, max_in_flight: 4}}
    spec: {concurrency: {key: k, limit: 3}, rate: {per: 1h, limit: 12}, policy: {lifecycle: {timeout: 60}}}
    tool: {kind: noop}
    next: {arcs: [{step: x, when: "{{ event.name in ['loop.done', 'loop.failed'] }}"}]}
  - {step: x, tool: {kind: noop}}
"""
ADMITTED_TEXT = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: admitted, path: t/admitted}
executor: {spec: {concurrency: {limit: 2}, rate: {key: starts, per: 1h, limit: 6}}}
workflow:
  - step: each
    loop: {in: [1, 2, 3], iterator: i, spec: {mode: parallel, max_in_flight: 2}}
    tool: {kind: noop}
    next: {arcs: [{step: x}]}
  - {step: x, tool: {kind: noop}}
"""
LIMITED, ADMITTED = load_plan(LIMITED_TEXT), load_plan(ADMITTED_TEXT)
PLANS = {plan.hash: plan for plan in (PLAN, LINE, LIMITED, ADMITTED)}
TABLES = ("execution", "event", "inbox", "command", "stage", "frame", "result_ref", "quarantine")
WORKERS = ("w-1", "w-2", "w-3")
SEEDS = range(24)
CALLS = 50
# what the domain of values lets through, and JSON readers and databases like to change
ODD: list[Any] = [
    None,
    True,
    0,
    -0.0,
    1.0,
    1e16,
    1e300,
    5e-324,
    0.1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    "",
    '\\u0000 \\ " / \x7f   é 𝄞',
    "x" * 40_000,
    [],
    {},
    [[[[[[[[[]]]]]]]]],
    {"b": 1, "aa": 2, "a": 3, "": {"z": 1, "y": {"10": 1, "9": 2}}},
    {"1": "one", "true": False, "null": None},
]
# what it does not, should it ever come so far
UNSTORABLE: list[Any] = [2**64, "\ud800", b"x", {1: 2}, object()]


ENTRIES = (
    MemoryCatalogEntry(catalog_id=5, path="t/t", version=1, hash=PLAN.hash, content=TEXT),
    MemoryCatalogEntry(catalog_id=6, path="t/line", version=1, hash=LINE.hash, content=LINE_TEXT),
    MemoryCatalogEntry(catalog_id=7, path="t/limited", version=1, hash=LIMITED.hash, content=LIMITED_TEXT),
    MemoryCatalogEntry(catalog_id=8, path="t/admitted", version=1, hash=ADMITTED.hash, content=ADMITTED_TEXT),
)
DIRECT = "SELECT count(*) FROM noetl.execution WHERE direct_worker IS NOT NULL"


@dataclass
class Both:
    """What one call gave on either side."""

    sql: Any
    memory: Any


def odd(chance: Random, depth: int = 2) -> Any:
    if depth and chance.random() < 0.3:
        keys = chance.sample(["b", "aa", "a", "10", "9", "é"], chance.randint(1, 4))
        return {key: odd(chance, depth - 1) for key in keys}
    if depth and chance.random() < 0.2:
        return [odd(chance, depth - 1) for _ in range(chance.randint(0, 3))]
    return chance.choice(ODD)


class CallSequence:
    def __init__(self, database: Database, seed: int, *, in_line: bool = False) -> None:
        """`in_line`: of executions of which one command after the other is handed over."""
        self.chance = Random(seed)
        self.of_variables = Random(seed)
        self.in_line = in_line
        self.database = database
        self.sql = PostgresEventStore(database)
        self.memory = MemoryEventStore(time.time)
        self.history: list[str] = []
        self.ids: list[str] = []
        self.keys: list[str] = []
        # leases as both gave them, current ones and stale
        self.leases: list[Both] = []
        # whether there was a direct lease after any call
        self.direct = False
        # cases of before, on which a commit comes too late
        self.old: list[Both] = []

    async def both(self, name: str, sql: Callable[[], Awaitable[Any]], memory: Callable[[], Awaitable[Any]]) -> Both:
        """Call both; what they give and every row must be the same."""
        self.history.append(name)
        gave = Both(await _outcome(sql), await _outcome(memory))
        left, right = _plain(gave.sql), _plain(gave.memory)
        assert left == right, self._failed(f"PostgreSQL gave {left!r}\n  memory gave     {right!r}")
        self.remember(gave)
        fences = {lease.sql.fence: lease.memory.fence for lease in self.leases}
        changed = difference(await stored(self.database, fences), remembered(self.memory, time.time()))
        assert not changed, self._failed(changed)
        self.direct = self.direct or (await self.database.run(DIRECT))[0][0] > 0
        return gave

    async def call(self, method: str, *args: Any) -> Both:
        return await self.both(
            f"{method}{args!r}"[:300],
            lambda: getattr(self.sql, method)(*args),
            lambda: getattr(self.memory, method)(*args),
        )

    def _failed(self, what: str) -> str:
        return "\n".join([*self.history[-12:], what])

    # -- calls

    async def step(self) -> None:
        calls: list[tuple[int, Callable[[], Awaitable[Any]]]] = [
            (9 if self.in_line else 3, self.start),
            (0 if self.in_line else 4, self.restart),
            (8, self.claim),
            (12, self.commit),
            (30 if self.in_line else 12, self.go_on),
            (5, self.append),
            (3, self.extend),
            (3, self.release),
            (3, self.expire),
            (2, self.take_undeliverable),
            (2, self.recover),
            (4, self.look),
            (2, self.quarantine),
            (2, self.spoil),
        ]
        weights, verbs = zip(*calls, strict=True)
        if not self.ids:
            await self.start()
        await self.chance.choices(verbs, weights)[0]()

    async def start(self) -> None:
        known = bool(self.keys) and self.chance.random() < 0.3
        key = self.chance.choice(self.keys) if known else self.chance.choice([None, f"k-{len(self.ids)}"])
        parts = [self.opening(key)]
        if key is not None and self.chance.random() < 0.3:
            # two that ask for one key at once
            parts.append(self.opening(key))
        if self.ids and self.chance.random() < 0.1:
            # an id that is taken
            taken = self.opening(None)
            parts.append(replace(taken, execution=replace(taken.execution, execution_id=self.chance.choice(self.ids))))
        worker, is_claimed = self.chance.choice(WORKERS), self.chance.random() < (0.9 if self.in_line else 0.3)
        claimant = Claimant(worker, "shared", self.chance.choice([3600.0, 3600.0, -1.0]), 1) if is_claimed else None
        gave = await self.commit_parts(f"start {key} {claimant}", Both(parts, parts), claimant)
        if not isinstance(gave.sql, Exception) and gave.sql.committed:
            self.ids += gave.sql.committed
            self.keys += [key] if key else []

    async def restart(self) -> None:
        """What goes on with another one; what is known of others may be old."""
        before = self.chance.choice(self.ids[-4:])
        related = [it.execution_id for it in await self.memory.related_restarts(before)]
        seen = [*await self.memory.running_restarts(before)]
        if self.chance.random() < 0.3:
            related, seen = related[:-1], seen[:-1]
        undoes = self.chance.random() < 0.5
        part = self.opening(None, {"restart_of": before, "related": related, "undoes": undoes, "seen": seen})
        gave = await self.commit_parts(f"restart {before} {related} {undoes} {seen}", Both([part], [part]), None)
        if not isinstance(gave.sql, Exception):
            self.ids += gave.sql.committed
        for method in ("related_restarts", "running_restarts"):
            for id in self.ids[-6:]:
                await self.call(method, id)

    async def claim(self) -> None:
        worker, lease = self.chance.choice(WORKERS), self.chance.choice([3600.0, -1.0])
        pending = [CommandKey(execution_id=id, command_id=name) for id, name in self.memory.commands]
        keys = None
        if self.chance.random() < 0.5:
            keys = self.chance.choices(pending, k=self.chance.randint(1, 6)) if pending else []
            keys.append(CommandKey(execution_id="1", command_id="nobody"))
        # among commands of one instant a choice is open: all of them, or none
        room = 1000 if self.chance.random() < 0.9 else 0
        await self.call("claim", Claimant(worker, "shared", lease, room), keys)

    async def recover(self) -> None:
        held = [CommandKey(execution_id=key[0], command_id=key[1]) for key in self.memory.commands]
        holding = self.chance.sample(held, self.chance.randint(0, len(held)))
        await self.call("recover_leases", self.chance.choice(WORKERS), 3600.0, holding)

    async def extend(self) -> None:
        await self.with_held("extend_leases", 3600.0)

    async def release(self) -> None:
        if not self.leases:
            return
        some = [self.some_lease() for _ in range(self.chance.randint(1, 5))]
        worker, begun = some[0][1], self.chance.randint(0, len(some))
        sql, memory = ([_held(getattr(lease, side)) for lease, _ in some] for side in ("sql", "memory"))
        await self.both(
            f"release {worker} {[key.command_id for key in sql]}, {begun} begun",
            lambda: self.sql.release_leases(worker, sql[begun:], sql[:begun]),
            lambda: self.memory.release_leases(worker, memory[begun:], memory[:begun]),
        )

    async def expire(self) -> None:
        await self.call("expire_leases", self.chance.choice([1, 2, 3]), 1000)

    async def take_undeliverable(self) -> None:
        limit = self.chance.choice([1, 2])
        gave = await self.both(
            f"poisoned {limit}",
            lambda: self.sql.undeliverable(limit, 1000),
            lambda: self.memory.undeliverable(limit, 1000),
        )
        if gave.sql and self.chance.random() < 0.5:
            place = self.chance.randrange(len(gave.sql))
            dead = sorted(gave.sql, key=_named)[place], sorted(gave.memory, key=_named)[place]
            await self.both(
                f"bury {dead[1]}",
                lambda: self.sql.add_dead_letter(dead[0]),
                lambda: self.memory.add_dead_letter(dead[1]),
            )

    async def look(self) -> None:
        id, other = self.chance.choice(self.ids), self.chance.choice([*self.ids, "77"])
        for method, *args in (
            ("load", [id, other]),
            ("events", other, self.chance.randint(0, 5), 7),
            ("executions_with_inbox", 1000),
            ("executions_with_inbox", 2, id),
            ("due_timers", 1000),
            ("is_descendant", other, id),
            ("related_restarts", other),
            ("running_restarts", other),
            ("running_descendants", other),
            ("pending_work", 60.0),
            ("startable", 1000),
            ("starts_by_key", [self.chance.choice([*self.keys, "nobody's"]), "nobody's"]),
            ("list_quarantined", 10),
            ("list_quarantined", 10, other),
            ("get_quarantined", other),
            ("clear_inbox", other),
        ):
            await self.call(method, *args)
        age = self.chance.choice([0.0, 60.0])
        # in no order
        sql, memory = self.sql.pools_with_pending, self.memory.pools_with_pending
        await self.both(f"pools_with_pending {age}", lambda: _sorted(sql(age)), lambda: _sorted(memory(age)))
        await self.inbox(id)

    async def commit(self) -> None:
        ids = self.chance.sample(self.ids, min(len(self.ids), self.chance.randint(1, 3)))
        cases = await self.call("load", ids)
        if self.chance.random() < 0.3:
            self.old.append(cases)
        if self.old and self.chance.random() < 0.15:
            cases = self.chance.choice(self.old)
        parts: Both = Both([], [])
        for id in cases.sql:
            await self.decide(id, cases.sql[id].state.ended, Both(cases.sql[id], cases.memory[id]), parts)
        worker = self.chance.choice(WORKERS)
        claimant = Claimant(worker, "shared", 3600.0, self.chance.randint(1, 4)) if self.chance.random() < 0.5 else None
        if parts.sql:
            await self.commit_parts(f"commit {ids} {claimant}", parts, claimant)

    async def go_on(self) -> None:
        """A worker reports one command, with nothing beside, and gets what follows: directly, if it is alone."""
        current = [lease for lease in self.leases if self.is_current(lease)]
        if not current:
            return
        lease = self.chance.choice(self.leases if self.chance.random() < 0.1 else current)
        id, command = lease.sql.execution_id, lease.sql.command_id
        cases = await self.call("load", [id])
        holder = self.memory.commands.get((id, command))
        if command not in cases.sql[id].state.commands or holder is None:
            return
        worker = holder.worker if holder.worker and self.chance.random() < 0.9 else self.chance.choice(WORKERS)
        fact = self.fact(cases.sql[id].state.commands[command], lease.sql)
        parts = Both([], [])
        for case, fence, into in (
            (cases.sql[id], lease.sql.fence, parts.sql),
            (cases.memory[id], lease.memory.fence, parts.memory),
        ):
            turn = Transition(case, PLANS[case.plan_hash], worker)
            turn.apply(fact, (command, fence))
            into += _with_children(turn)
        claimant = Claimant(
            worker, "shared", self.chance.choice([3600.0, 3600.0, -1.0]), self.chance.choice([0, 1, 1, 1, 1, 1])
        )
        await self.commit_parts(f"go on with {command} of {id} by {worker}, {claimant}", parts, claimant)

    async def append(self) -> None:
        facts: Both = Both([], [])
        for _ in range(self.chance.randint(1, 4)):
            if not self.leases:
                return
            lease, worker = self.some_lease()
            event = Event(
                e.CALL_DONE,
                _now(),
                step=lease.sql.step,
                generation=1,
                command_id=lease.sql.command_id,
                payload={"data": odd(self.chance)},
            )
            refs = [self.ref()] if self.chance.random() < 0.5 else []
            facts.sql.append(
                ReportedFact(
                    execution_id=lease.sql.execution_id, event=event, fence=lease.sql.fence, worker=worker, refs=refs
                )
            )
            facts.memory.append(
                ReportedFact(
                    execution_id=lease.sql.execution_id, event=event, fence=lease.memory.fence, worker=worker, refs=refs
                )
            )
            if self.chance.random() < 0.2:
                twice = replace(facts.sql[-1], event=replace(event, payload={"data": "twice"}))
                facts.sql.append(twice)
                facts.memory.append(replace(twice, fence=lease.memory.fence))
        names = [(fact.event.command_id, fact.worker) for fact in facts.sql]
        await self.both(
            f"append {names}",
            lambda: self.sql.append_to_inbox(facts.sql),
            lambda: self.memory.append_to_inbox(facts.memory),
        )

    async def quarantine(self) -> None:
        id = self.chance.choice(self.ids)
        cases = await self.call("load", [id])
        apart = {
            "seq": 1,
            "at": _now(),
            "error": {"b": 1, "a": odd(self.chance)},
            "facts": [_waiting(odd(self.chance))],
        }
        parts = Both([], [])
        for case, into in ((cases.sql[id], parts.sql), (cases.memory[id], parts.memory)):
            part = Transition(case, PLANS[case.plan_hash]).to_commit()
            part.quarantine = apart if id not in self.memory.quarantine else {}
            into.append(part)
        await self.commit_parts(f"quarantine {id}", parts, None)

    async def spoil(self) -> None:
        """A commit of several that raises in the middle leaves nothing of any."""
        ids = self.chance.sample(self.ids, min(len(self.ids), 3))
        cases = await self.call("load", ids)
        parts = Both([], [])
        for id in ids:
            for case, into in ((cases.sql[id], parts.sql), (cases.memory[id], parts.memory)):
                turn = Transition(case, PLANS[case.plan_hash])
                turn.apply(Event(e.CANCELLED, NOW, payload={"reason": "enough"}))
                into.append(turn.to_commit())
        how = self.chance.choice(["again", "unstorable", "state", "ref"])
        value = self.chance.choice(UNSTORABLE)
        for side in (parts.sql, parts.memory):
            last: ExecutionCommit = side[-1]
            if not last.events:
                return
            if how == "again":
                last.events[0] = replace(last.events[0], seq=1)
            elif how == "unstorable":
                last.events[-1] = replace(last.events[-1], payload={"value": value})
            elif how == "ref":
                last.refs.append({**self.ref(), "sha256": value})
            else:
                last.inbox_facts.append({"id": ids[0], "type": "t", "at": NOW, "payload": {"value": value}})
        gave = await self.commit_parts(f"spoil {how} {value!r}", parts, None)
        assert isinstance(gave.sql, UnstorableCommit), gave.sql

    # -- parts of them

    def opening(self, key: str | None, restart: dict[str, Any] | None = None) -> ExecutionCommit:
        payload = {"x": odd(self.chance), "ctx": {"y": self.chance.choice(ODD)}}
        entry = ENTRIES[1] if self.in_line else self.chance.choice(ENTRIES)
        opening = new_root(entry, PLANS[entry.hash], payload, _now(), key, {"kind": "user", "name": "é"})
        plan = PLANS[entry.hash]
        turn = Transition(opening.execution, plan)
        if restart is None:
            turn.apply(opening.fact)
            return turn.to_commit(opening.row)
        link = {"execution_id": restart["restart_of"], "path": entry.path, "version": 1, "seq": 1, "from": [plan.entry]}
        turn.apply(replace(opening.fact, payload={**opening.fact.payload, e.RESTART: link}))
        undoes = {e.UNDOES: [plan.entry]} if restart["undoes"] else {}
        goes_on = {"begins": [plan.entry], "waiting": {plan.entry: []}, **undoes}
        turn.apply(Event(e.RESTARTED, _now(), payload=goes_on))
        return turn.to_commit({**opening.row, **restart})

    async def decide(self, id: str, ended: bool, case: Both, parts: Both) -> None:
        """A turn of either side on the same facts."""
        inbox = await self.inbox(id)
        worker = self.chance.choice(WORKERS)
        plan = PLANS[case.sql.plan_hash]
        turns = Both(Transition(case.sql, plan, worker), Transition(case.memory, plan, worker))
        if not ended and self.chance.random() < 0.06:
            self.take(turns, Event(e.CANCELLED, _now(), payload={"reason": "enough"}))
        if self.chance.random() < 0.4:
            for (left, fact), (right, _) in zip(inbox.sql, inbox.memory, strict=True):
                turns.sql.apply(fact, inbox_id=left)
                turns.memory.apply(fact, inbox_id=right)
        mine = [lease for lease in self.leases if lease.sql.execution_id == id]
        current = [lease for lease in mine if self.is_current(lease)]
        chosen = self.chance.sample(current, min(len(current), self.chance.randint(0, 3)))
        if mine and self.chance.random() < 0.1:
            chosen.append(self.chance.choice(mine))
        for lease in chosen:
            command = turns.sql.state.commands.get(lease.sql.command_id)
            if command is not None:
                holder = self.memory.commands.get((id, lease.sql.command_id))
                if holder is not None and holder.worker and self.chance.random() < 0.8:
                    turns.sql.worker = turns.memory.worker = holder.worker
                fact = self.fact(command, lease.sql)
                turns.sql.apply(fact, (lease.sql.command_id, lease.sql.fence))
                turns.memory.apply(fact, (lease.sql.command_id, lease.memory.fence))
        if self.of_variables.random() < 0.3 and not turns.sql.state.ended:
            self.take(turns, self.variables())
        if self.chance.random() < 0.15:
            await self.pause_or_go_on(id, turns)
        state = turns.sql.state
        # nothing fires while it is paused
        for name, timer in [] if state.paused else [*state.timers.items(), *state.waits.items()]:
            is_due = self.chance.random() < (0.1 if timer.kind == "deadline" else 0.5)
            # the end of a step's time ends what else waits of it
            if is_due and turns.sql.state.has_timer(name):
                step, _, generation = timer.key.rpartition("#")
                fired = Event(
                    e.TIMER_FIRED,
                    _now(),
                    step=step,
                    generation=int(generation),
                    payload={"timer": name},
                )
                turns.sql.apply(fired, (name, 0))
                turns.memory.apply(fired, (name, 0))
                turns.sql.worker = turns.memory.worker = None
        if not turns.sql.events:
            return
        ref = self.ref()
        if self.chance.random() < 0.4:
            # to one that runs, has ended or is not there
            payload = {"execution_id": "77", "resumes": None, "status": "ok", "data": odd(self.chance)}
            fact = {"type": e.CHILD_ENDED, "step": "a", "generation": 1, "at": _now(), "payload": payload}
            fact["id"] = self.chance.choice([*self.ids, "77"])
            turns.sql.inbox_facts.append(fact)
            turns.memory.inbox_facts.append(fact)
        for turn, into in ((turns.sql, parts.sql), (turns.memory, parts.memory)):
            turn.refs += [ref]
            into += _with_children(turn)

    def variables(self) -> Event:
        chance = self.of_variables
        names = chance.sample(["x", "y", "z"], chance.randint(1, 3))
        if chance.random() < 0.3:
            return Event(e.VARIABLES_DELETED, _now(), payload={"names": names})
        payload = {"variables": {name: odd(chance) for name in names}, "type": "user_defined"}
        expiry = {"expires_at": _now() + chance.choice([0, 20, 60_000])} if chance.random() < 0.5 else {}
        return Event(e.VARIABLES_SET, _now(), payload={**payload, **expiry})

    async def pause_or_go_on(self, id: str, turns: Both) -> None:
        state = turns.sql.state
        if state.ended:
            return
        rows = Both(await self.sql.timers(id), await self.memory.timers(id))
        assert rows.sql == rows.memory, self._failed(f"timers of {id}")
        fact = Event(e.PAUSED if state.paused is None else e.RESUMED, _now())
        self.take(turns, with_timers(fact, state, due_times(rows.sql, turns.sql.events, state)))

    def is_current(self, lease: Both) -> bool:
        row = self.memory.commands.get((lease.sql.execution_id, lease.sql.command_id))
        return row is not None and row.status == "claimed" and row.fence == lease.memory.fence

    def take(self, turns: Both, fact: Event) -> None:
        turns.sql.apply(fact)
        turns.memory.apply(fact)

    def fact(self, command: Command, lease: Lease) -> Event:
        data = odd(self.chance)
        names: dict[str, Any] = {"step": lease.step, "generation": lease.generation, "command_id": lease.command_id}
        if command.frame is not None:
            _, start, end, _ = command.frame
            payload = {"start": start, "end": end, "ok": end - start, "failed": 0, "data": [data] * (end - start)}
            return Event(e.FRAME_COMMITTED, _now(), **names, payload=payload)
        if command.key.startswith("below") and self.chance.random() < 0.7:
            child = {"path": "t/t", "version": 1, "catalog_id": "5", "plan_hash": PLAN.hash, "payload": {"z": data}}
            return Event(e.CALL_PARKED, _now(), **names, payload={"child": child})
        if self.chance.random() < 0.2:
            delay = self.chance.choice([0.0, 3600.0])
            return Event(e.CALL_DEFERRED, _now(), **names, payload={"delay": delay, "resume": {"at": data}})
        if self.chance.random() < 0.1:
            wait = self.chance.choice([{"delay": 0.0}, {"due": _now() + 60_000}, {"signal": "s", "timeout": 60.0}])
            return Event(e.CALL_PARKED, _now(), **names, payload={"wait": wait, "resume": {"at": data}})
        return Event(e.CALL_DONE, _now(), **names, payload={"data": data})

    async def commit_parts(self, description: str, parts: Both, claimant: Claimant | None) -> Both:
        gave = await self.both(
            description,
            lambda: self.sql.commit(parts.sql, claimant),
            lambda: self.memory.commit(parts.memory, claimant),
        )
        if not isinstance(gave.sql, Exception):
            opened = [
                part.execution.execution_id
                for part in parts.sql
                if part.new_row and part.new_row["parent_execution_id"]
            ]
            self.ids += [id for id in opened if id in gave.sql.committed]
        return gave

    async def inbox(self, id: str) -> Both:
        inbox = Both(await self.sql.read_inbox(id), await self.memory.read_inbox(id))
        sql, memory = inbox.sql.facts, inbox.memory.facts
        assert [fact for _, fact in sql] == [fact for _, fact in memory], self._failed(f"inbox of {id}")
        assert inbox.sql.more == inbox.memory.more, self._failed(f"what waits behind the inbox of {id}")
        return Both(sql, memory)

    def some_lease(self) -> tuple[Both, str]:
        """One that was given some time, and mostly the worker that has it."""
        lease = self.chance.choice(self.leases[-12:])
        row = self.memory.commands.get((lease.sql.execution_id, lease.sql.command_id))
        holder = row.worker if row is not None else None
        return lease, holder if holder and self.chance.random() < 0.8 else self.chance.choice(WORKERS)

    async def with_held(self, method: str, *args: Any) -> None:
        if not self.leases:
            return
        some = [self.some_lease() for _ in range(self.chance.randint(1, 5))]
        worker = some[0][1]
        sql, memory = ([_held(getattr(lease, side)) for lease, _ in some] for side in ("sql", "memory"))
        await self.both(
            f"{method} {worker} {[key.command_id for key in sql]}",
            lambda: getattr(self.sql, method)(worker, sql, *args),
            lambda: getattr(self.memory, method)(worker, memory, *args),
        )

    def remember(self, gave: Both) -> None:
        """The leases in what both gave."""
        sql, memory = _leases(gave.sql), _leases(gave.memory)
        self.leases += [Both(*pair) for pair in zip(sql, memory, strict=True)]

    def ref(self) -> dict[str, Any]:
        number = self.chance.randint(0, 5)
        return {
            "ref": f"noetl://{self.chance.randint(0, 99)}",
            "step": self.chance.choice([None, "a"]),
            "store": "memory",
            "key": f"k{number}",
            "bytes": number,
            "sha256": "0" * 64,
            "content_type": "a/b",
            "scope": "execution",
            "expires_at": None,
        }


NOW = time.time_ns() // 1_000_000


def _with_children(turn: Transition) -> list[ExecutionCommit]:
    commits = [turn.to_commit()]
    for started in turn.started_children:
        opening = new_child(turn.execution, started, PLAN, started.payload.get("payload") or {})
        child = Transition(opening.execution, PLAN)
        child.apply(opening.fact)
        commits.append(child.to_commit(opening.row))
    return commits


async def _sorted(answer: Awaitable[list[str]]) -> list[str]:
    return sorted(await answer)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _named(item: Any) -> tuple[str, str]:
    return item.execution_id, item.command_id


def _leases(gave: Any) -> list[Lease]:
    found = gave.leases if isinstance(gave, CommitResult) else gave
    return sorted((item for item in found if isinstance(item, Lease)), key=_named) if isinstance(found, list) else []


def _held(lease: Lease) -> Held:
    return Held(execution_id=lease.execution_id, command_id=lease.command_id, fence=lease.fence)


def _waiting(value: Any) -> dict[str, Any]:
    fact = {"type": e.CALL_DONE, "step": "a", "generation": 1, "command": "a#1", "at": NOW}
    return {**fact, "payload": {"data": value}}


async def _outcome(call: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await call()
    except (UnstorableCommit, LookupError, orjson.JSONEncodeError) as error:
        return error


def _plain(value: Any) -> Any:
    """An answer without what each side draws by itself, and in an order where none is promised."""
    match value:
        case Exception():
            return type(value).__mro__[-3].__name__
        case Lease():
            kept = (value.execution_id, value.command_id, value.delivery, value.seq, value.step, value.generation)
            lost = [(one["worker"], one["delivery"], "given_back_at" in one) for one in value.lost or ()]
            return (*kept, orjson.dumps([value.issued, value.loop_opened]), lost)
        case set() | frozenset():
            # with fences, in appends and extensions
            return sorted(item[:2] if isinstance(item, tuple) else item for item in value)
        case dict():
            return [(key, repr(value[key])) for key in sorted(value)]
        case list() if value and isinstance(value[0], Lease):
            return [_plain(item) for item in value]
        case list() if value and isinstance(value[0], tuple) and isinstance(value[0][1], CommandKey):
            return sorted((pool, key.execution_id, key.command_id) for pool, key in value)
        case list() if value and hasattr(value[0], "fence"):
            return sorted(repr(replace(item, fence=0)) for item in value)
        case CommitResult():
            waiting = sorted((pool, key.execution_id, key.command_id) for pool, key in value.pending)
            startable = sorted((pool, key.execution_id, key.command_id) for pool, key in value.startable)
            rest = (value.with_new_facts, startable, value.next_start is None)
            return sorted(value.committed), [_plain(lease) for lease in value.leases], waiting, *rest
        case Startable():
            return _plain(value.commands), value.next_start is None
        case _:
            return repr(value)


@pytest.fixture(scope="module")
def url(postgres_server: Postgres) -> str:
    name = f"t_{secrets.token_hex(6)}"
    create_database(postgres_server.url, name)
    url = postgres_server.url_of(name)
    migrate(url)
    with closing(connect(url)) as connection:
        # of which the log in memory knows nothing
        connection.run("DELETE FROM noetl.chore")
    return url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url, 1)
    yield database
    await database.close()
    with closing(connect(url)) as connection:
        for table in (*TABLES, "begun", "rate_start", "rate_window"):
            connection.run(f"DELETE FROM noetl.{table}")


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_same_calls_give_the_same_answers_and_the_same_rows(
    database: Database, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if seed % 2:
        monkeypatch.setattr(limits, "INBOX_FACTS", 3)
        monkeypatch.setattr(limits, "INBOX_BYTES", 200)
    sequence = CallSequence(database, seed)
    for _ in range(CALLS):
        await sequence.step()


@pytest.mark.parametrize("seed", SEEDS)
async def test_so_they_do_where_leases_are_direct(database: Database, seed: int) -> None:
    sequence = CallSequence(database, seed, in_line=True)
    for _ in range(2 * CALLS):
        await sequence.step()
    assert sequence.direct, "no lease was direct"
