"""Playbooks by the number.

`tame` ones are nested blocks, each with one way in and one way out, in which no two branches write or read the same
thing: whatever the order of events, they end the same way, so that a run can be compared with one without faults.
`wild` ones are graphs of any shape, for which only the invariants hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.protocol import VERSION
from noetl_serverless.testing.catalog import MemoryCatalogEntry

from .construct_playbooks import construct_playbook
from .controlled_playbooks import controlled_playbook
from .faults import stream
from .faulty_playbooks import faulty_playbook
from .limited import limited
from .side_playbooks import SidePlaybook
from .tasks import CHILD, COUNTS, LEAF, Tasks, without_set

MAIN = "sim/main"
# so many seeds share a book: compiling one costs as much as running it
SHARE = 8
PIPELINED = '"durability": "pipelined"'
# how many that hurt stand in a book
FAULTY = (0, 1, 1, 2)
# each of so many books has limits
LIMITED = 4
# how many of one construct each
CONSTRUCTS = (0, 1, 1)
# the books from this number on are of worlds in which users do more than to start and to cancel, and events are sent
CONTROLLED = 1_000_000


@dataclass(frozen=True, slots=True)
class Block:
    entry: str
    exit: str


@dataclass(frozen=True)
class Book:
    """The playbooks of a world, and what the executions of `sim/main` are started with."""

    entries: tuple[MemoryCatalogEntry, ...]
    payloads: tuple[dict[str, Any], ...]
    tame: bool
    # playbooks that hurt, to be run beside them
    faulty: tuple[SidePlaybook, ...] = ()
    # playbooks of one construct each, of which it is known what becomes of them
    constructs: tuple[SidePlaybook, ...] = ()
    is_controlled: bool = False

    @cached_property
    def undecidable(self) -> dict[str, str | None]:
        """Path -> the type of fact that nothing can be made of."""
        return {each.path: each.undecidable for each in self.faulty if each.undecidable}

    @property
    def pipelined(self) -> bool:
        return PIPELINED in self.text

    @property
    def text(self) -> str:
        return "\n".join(entry.content for entry in self.entries)


def version_of(number: int) -> int:
    """Of the protocol between workers and control planes: that of a whole book, for the digest tells what goes by
    reference from what does not, and older workers do not say which item of a loop has set what."""
    return VERSION if number >= CONTROLLED else stream(number, "version").choice((1, VERSION, VERSION))


@lru_cache(maxsize=64)
def book(number: int) -> Book:
    rng = stream(number, "book")
    tame = rng.random() < 0.75
    version = version_of(number)
    leaf = Maker(rng, depth=2, version=version).tame(LEAF, rng.randint(1, 2))
    child = Maker(rng, depth=1, version=version).tame(CHILD, rng.randint(1, 4))
    maker = Maker(rng, version=version)
    main = maker.tame(MAIN, rng.randint(2, 8)) if tame else maker.wild(MAIN, rng.randint(3, 8))
    texts = {LEAF: leaf, CHILD: child, MAIN: main}
    payloads = tuple({"label": label, "x": rng.randrange(100)} for label in ("one", "two", "three"))
    beside = stream(number, "poisoned")
    some = tuple(faulty_playbook(beside, index) for index in range(beside.choice(FAULTY)))
    # a name by which the worlds of `test_seeds.FOUND` stay what they are
    further = stream(number, "single constructs")
    constructs = tuple(
        construct_playbook(further, index) for index in range(further.choice(CONSTRUCTS)) if version == VERSION
    )
    if number >= CONTROLLED:
        further = stream(number, "controlled")
        constructs += tuple(controlled_playbook(further, index) for index in range(2))
    for each in (*some, *constructs):
        texts.update({each.path: each.text, **dict(each.more)})
    if number % LIMITED == 1:
        texts = limited(texts, stream(number, "limits"))
    entries = tuple(
        MemoryCatalogEntry(catalog_id=index, path=path, version=1, hash=plan_of(text).hash, content=text)
        for index, (path, text) in enumerate(texts.items(), 1)
    )
    return Book(entries, payloads, tame, some, constructs, number >= CONTROLLED)


@lru_cache(maxsize=8)
def stepwise(number: int) -> Book:
    """The same book, of which no step is run ahead."""
    kept = book(number)
    entries = []
    for entry in kept.entries:
        text = entry.content.replace(PIPELINED, '"durability": "step"')
        entries.append(replace(entry, content=text, hash=plan_of(text).hash))
    return replace(kept, entries=tuple(entries))


def plan_of(text: str) -> Plan:
    plan = _PLANS.get(text)
    if plan is None:
        plan = _PLANS[text] = load_plan(text)
        while len(_PLANS) > 256:
            del _PLANS[next(iter(_PLANS))]
    return plan


_PLANS: dict[str, Plan] = {}


class Maker(Tasks):
    def tame(self, path: str, budget: int) -> str:
        block = self._blocks(budget)
        executor: dict[str, Any] = {"entry_step": block.entry}
        if self.rng.random() < 0.15:
            executor["final_step"] = self._step(self._plain("{{ workload.x }}"))
        return self._text(path, executor)

    def wild(self, path: str, count: int) -> str:
        """Arcs at random; what leads back is taken a few times at most."""
        names = [f"s{index}" for index in range(count)]
        for index, name in enumerate(names):
            tool, extra = self._task("{{ workload.x }}", wild=True)
            step: dict[str, Any] = {"step": name, "tool": tool, **extra}
            arcs = self._wild_arcs(names, index)
            if arcs:
                mode = self.rng.choice(("inclusive", "exclusive"))
                quiet = {"on_no_match": "quiet"} if self.rng.random() < 0.1 else {}
                step["next"] = {"spec": {"mode": mode, **quiet}, "arcs": arcs}
            self._admission(step)
            self.steps.append(step)
        executor: dict[str, Any] = {"entry_step": names[0]}
        if self.rng.random() < 0.2:
            executor["final_step"] = self.rng.choice(names[1:])
        if self.rng.random() < 0.2:
            executor["no_next_is_error"] = True
        if self.rng.random() < 0.35:
            executor["budget"] = {"max_invocations": self.rng.randint(1, 6)}
        return self._text(path, executor)

    def _wild_arcs(self, names: list[str], index: int) -> list[dict[str, Any]]:
        arcs: list[dict[str, Any]] = []
        for _ in range(self.rng.choice((0, 1, 1, 2, 2, 3))):
            target = self.rng.randrange(len(names))
            arc: dict[str, Any] = {"step": names[target]}
            if target <= index:
                arc["when"] = "{{ ctx.hops | default(0) < 3 }}"
                arc["set"] = {"ctx.hops": "{{ ctx.hops | default(0) + 1 }}"}
            elif (chance := self.rng.random()) < 0.25:
                arc["when"] = f"{{{{ workload.x % 2 == {self.rng.randrange(2)} }}}}"
            elif chance < 0.45:
                arc["when"] = "{{ event.name == 'call.error' }}"
            arcs.append(arc)
        return arcs

    def _text(self, path: str, executor: dict[str, Any]) -> str:
        if self.rng.random() < 0.35:
            executor["durability"] = "pipelined"
            self._store_results()
        book = {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": path, "path": path},
            "executor": {"spec": executor},
            "workload": {"label": "", "x": 1, "items": [(7 * index) % 31 for index in range(30)]},
            "workflow": self.steps,
        }
        return json.dumps(book, indent=1)

    def _store_results(self) -> None:
        """Of every third step, by reference: they are written while the next one runs."""
        for step in self.steps[::3]:
            tool = step["tool"]
            if isinstance(tool, dict) and tool["kind"] == "python" and "loop" not in step:
                tool["output"] = {"select": [{"path": "$.v", "as": "v"}]}

    # -- blocks

    def _blocks(self, budget: int) -> Block:
        first = last = None
        read = "{{ workload.x }}"
        while budget > 0 or first is None:
            makers = self._makers(budget)
            size, make = self.rng.choice(makers)
            block = make(read, budget)
            budget -= size
            if last is not None:
                self._link(last.exit, block.entry)
            first, last = first or block, block
            read = self._read(block.exit)
        assert first is not None and last is not None
        return Block(first.entry, last.exit)

    def _read(self, step: str) -> str:
        """Of a result by reference `v` needs no fetch, the rest does; so with what its rules have set."""
        if self.rng.random() < 0.7:
            return f"{{{{ {step}.v | default(-1) }}}}"
        pad, results = f"{step}.pad | default('') | length", f"{step}.results | default([]) | length"
        whole = f"({step} or []) | length"
        held = [f"(ctx.p{step[1:]}_{task}_all | default({{}})).v | default(0)" for task in (1, 2)]
        return f"{{{{ [{step}.v | default(-1), {pad}, {results}, {whole}, {', '.join(held)}] }}}}"

    def _makers(self, budget: int) -> list[tuple[int, Callable[[str, int], Block]]]:
        makers: list[tuple[int, Callable[[str, int], Block]]] = [(1, self._single), (1, self._single), (1, self._loop)]
        if self.depth < 2:
            makers.append((1, self._child))
        if budget >= 2:
            makers += [(2, self._recover)]
        if budget >= 3:
            makers += [(budget, self._fork), (3, self._choice), (budget, self._cycle)]
        return makers

    def _single(self, read: str, budget: int) -> Block:
        tool, extra = self._task(read)
        name = self._step(tool, **extra)
        self._admission(self.steps[-1], rate=0.06)
        self._mistake(self.steps[-1])
        return Block(name, name)

    def _mistake(self, step: dict[str, Any]) -> None:
        """Now and then a template asks for what there is not."""
        if self.rng.random() < 0.03:
            step["set"] = {"ctx.wrong": "{{ workload.nothing.more }}"}

    def _recover(self, read: str, budget: int) -> Block:
        """A step that fails, or not, and one that mends it."""
        first = self._step(self._plain(read, fail=self.rng.choice(([0], [1, 2], 9))))
        mend = self._step(self._plain(read))
        after = self._step({"kind": "noop"})
        self._arc(first, mend, when="{{ event.name == 'call.error' }}")
        self._arc(first, after)
        self._arc(mend, after)
        return Block(first, after)

    def _choice(self, read: str, budget: int) -> Block:
        ask = self._step(self._plain(read))
        sides = [self._step(self._plain(f"{{{{ {ask}.v }}}}")) for _ in range(2)]
        merge = self._step(self._plain(" ".join(f"{{{{ {side}.v | default(0) }}}}" for side in sides)))
        self._arc(ask, sides[0], when=f"{{{{ {ask}.v % 2 == 0 }}}}", set={f"ctx.went_{ask}": "left"})
        self._arc(ask, sides[1])
        for side in sides:
            self._arc(side, merge)
        return Block(ask, merge)

    def _fork(self, read: str, budget: int) -> Block:
        ask = self._step(self._plain(read))
        self.steps[-1]["next"] = {"spec": {"mode": "inclusive"}, "arcs": []}
        self.forks += 1
        count = self.rng.choice((2, 2, 3))
        branches = [self._blocks(max(1, (budget - 2) // count)) for _ in range(count)]
        self.forks -= 1
        join = self._step(self._plain(" ".join(f"{{{{ {branch.exit}.v | default(0) }}}}" for branch in branches)))
        for number, branch in enumerate(branches):
            condition = f"{{{{ {ask}.v % 3 != {number} }}}}" if self.rng.random() < 0.3 else None
            self._arc(ask, branch.entry, when=condition)
            self._link(branch.exit, join)
        # so that something always leads to the join
        self._arc(ask, join)
        return Block(ask, join)

    def _cycle(self, read: str, budget: int) -> Block:
        body = self._blocks(max(1, budget - 2))
        count = f"ctx.n_{body.entry}"
        check = self._step({"kind": "noop"}, set={count: f"{{{{ {count} | default(0) + 1 }}}}"})
        self._link(body.exit, check)
        after = self._step(self._plain(f"{{{{ {body.exit}.v | default(0) }}}}"))
        self._arc(check, body.entry, when=f"{{{{ {count} < {self.rng.choice((1, 2, 3))} }}}}")
        self._arc(check, after)
        return Block(body.entry, after)

    def _child(self, read: str, budget: int) -> Block:
        name = self._step(self._sub(read))
        self._after_failure(name)
        return Block(name, name)

    def _loop(self, read: str, budget: int) -> Block:
        children = self.depth < 2 and self.rng.random() < 0.2
        loop, policy = self._loop_spec((0, 1, 2, 3) if children else COUNTS)
        make = self._item_child if children else self.rng.choice((self._item, self._item, self._items_pipeline))
        tool = make(policy)
        if loop["spec"]["mode"] != "sequential" and self.version < 2:
            without_set(tool)
        name = self._step(tool, loop=loop, **self._failure(loop, policy))
        self._after_failure(name)
        return Block(name, name)

    # -- the graph

    def _step(self, tool: Any, **more: Any) -> str:
        name = f"s{len(self.steps)}"
        self.steps.append({"step": name, "tool": tool, **more})
        return name

    def _find(self, name: str) -> dict[str, Any]:
        return next(step for step in self.steps if step["step"] == name)

    def _arc(self, source: str, target: str, **more: Any) -> None:
        router = self._find(source).setdefault("next", {"arcs": []})
        router["arcs"].append({"step": target, **{key: value for key, value in more.items() if value is not None}})

    def _link(self, source: str, target: str) -> None:
        """On to `target`, also after a failure if the block is one that may fail."""
        when = "{{ event.name in ['call.done', 'loop.done', 'call.error', 'step.skipped'] }}"
        self._arc(source, target, when=when if source in self.mended else None)

    def _after_failure(self, name: str) -> None:
        if self.forks or self.rng.random() < 0.5:
            self.mended.add(name)
