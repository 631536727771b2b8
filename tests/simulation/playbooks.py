"""Playbooks by the number.

`tame` ones are nested blocks, each with one way in and one way out, in which no two branches write or read the same
thing: whatever the order of events, they end the same way, so that a run can be compared with one without faults.
`wild` ones are graphs of any shape, for which only the invariants hold.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from noetl_serverless.playbook.compile import load_plan
from noetl_serverless.playbook.plan import Plan

from .faults import stream
from .twins import Entry

MAIN, CHILD, LEAF = "sim/main", "sim/child", "sim/leaf"
# so many seeds share a book: compiling one costs as much as running it
SHARE = 8
# of the items of a loop
COUNTS = (0, 1, 2, 3, 6, 20)


@dataclass(frozen=True, slots=True)
class Block:
    entry: str
    exit: str


@dataclass(frozen=True, slots=True)
class Book:
    """The playbooks of a world, and what the executions of `sim/main` are started with."""

    entries: tuple[Entry, ...]
    payloads: tuple[dict[str, Any], ...]
    tame: bool

    @property
    def text(self) -> str:
        return "\n".join(entry.content for entry in self.entries)


@lru_cache(maxsize=64)
def book(number: int) -> Book:
    rng = stream(number, "book")
    tame = rng.random() < 0.75
    leaf = Maker(rng, depth=2).tame(LEAF, rng.randint(1, 2))
    child = Maker(rng, depth=1).tame(CHILD, rng.randint(1, 4))
    main = Maker(rng).tame(MAIN, rng.randint(2, 8)) if tame else Maker(rng).wild(MAIN, rng.randint(3, 8))
    texts = {LEAF: leaf, CHILD: child, MAIN: main}
    entries = tuple(
        Entry(index, path, 1, plan_of(text).hash, text) for index, (path, text) in enumerate(texts.items(), 1)
    )
    payloads = tuple({"label": label, "x": rng.randrange(100)} for label in ("one", "two", "three"))
    return Book(entries, payloads, tame)


def plan_of(text: str) -> Plan:
    plan = _PLANS.get(text)
    if plan is None:
        plan = _PLANS[text] = load_plan(text)
        while len(_PLANS) > 256:
            del _PLANS[next(iter(_PLANS))]
    return plan


_PLANS: dict[str, Plan] = {}


@dataclass
class Maker:
    rng: random.Random
    depth: int = 0
    steps: list[dict[str, Any]] = field(default_factory=list)
    # of fork branches that are open: a step that fails for good inside one would end the others at any time
    forks: int = 0
    # steps that may fail, and whose block goes on nevertheless
    mended: set[str] = field(default_factory=set)

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
        if self.rng.random() < 0.1:
            executor["no_next_is_error"] = True
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
        book = {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": path, "path": path},
            "executor": {"spec": executor},
            "workload": {"label": "", "x": 1, "items": [(7 * index) % 31 for index in range(30)]},
            "workflow": self.steps,
        }
        return json.dumps(book, indent=1)

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
        """Of a result by reference `v` needs no fetch, the rest does."""
        if self.rng.random() < 0.7:
            return f"{{{{ {step}.v | default(-1) }}}}"
        pad, results = f"{step}.pad | default('') | length", f"{step}.results | default([]) | length"
        return f"{{{{ [{step}.v | default(-1), {pad}, {results}] }}}}"

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
        return Block(name, name)

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
        if loop["spec"]["mode"] == "parallel":
            _no_set(tool)
        spec = {"spec": {"policy": {"failure": {"mode": "best_effort"}}}} if policy else {}
        name = self._step(tool, loop=loop, **spec)
        self._after_failure(name)
        return Block(name, name)

    # -- parts

    def _loop_spec(self, counts: tuple[int, ...]) -> tuple[dict[str, Any], bool]:
        items = f"{{{{ workload.items[:{self.rng.choice(counts)}] }}}}"
        spec: dict[str, Any] = {"mode": self.rng.choice(("parallel", "parallel", "sequential"))}
        if spec["mode"] == "parallel":
            spec["max_in_flight"] = self.rng.choice((1, 2, 4, 16, "{{ 2 + 1 }}"))
        return {"in": items, "iterator": "it", "spec": spec}, self.rng.random() < 0.4

    def _item(self, best_effort: bool) -> dict[str, Any]:
        fail = self.rng.choice(([], [], [0], [0, 1, 2])) if best_effort else self.rng.choice(([], [], 1))
        tool = self._plain(
            "{{ iter.it }}", quick=True, fail=fail, i="{{ iter._index }}", pad=self.rng.choice((0, 0, 90))
        )
        if self.rng.random() < 0.3:
            # most are short, so that frames are long, and some are not
            tool["input"]["ms"] = f"{{{{ {self.rng.choice((3000, 9000))} if iter._index % 9 == 8 else 2 }}}}"
        if fail == 1:
            self._retry(tool, attempts=2, quick=True)
        return tool

    def _items_pipeline(self, best_effort: bool) -> list[dict[str, Any]]:
        tasks = self._pipeline("{{ iter.it }}", quick=True)
        tasks[-1]["input"]["i"] = "{{ iter._index }}"
        return tasks

    def _item_child(self, best_effort: bool) -> Any:
        return self._sub("{{ iter._index }}")

    def _task(self, read: str, wild: bool = False) -> tuple[Any, dict[str, Any]]:
        """A tool or a pipeline, and what else the step has."""
        kind = self.rng.random()
        extra: dict[str, Any] = {}
        if self.rng.random() < 0.3:
            extra["set"] = {f"ctx.k{len(self.steps)}": "{{ output.data.v | default(0) }}"}
        if kind < 0.3:
            return self._plain(read), extra
        if kind < 0.5:
            return self._retry(self._plain(read, fail=self.rng.choice((1, 2)))), extra
        if kind < 0.75:
            return self._pipeline(read), extra
        if kind < 0.8 and (wild or not self.forks):
            return self._plain(read, fail=self.rng.choice((9, [0]))), extra
        if wild and kind < 0.9:
            loop, best_effort = self._loop_spec(COUNTS)
            policy = {"spec": {"policy": {"failure": {"mode": "best_effort"}}}} if best_effort else {}
            return self._item(best_effort), {"loop": loop, **policy}
        if wild and kind < 0.96:
            return self._sub(read), extra
        return self._plain(read, pad=self.rng.choice((0, 900, 900))), extra

    def _plain(self, read: str, quick: bool = False, **more: Any) -> dict[str, Any]:
        ms = self.rng.choice((0, 1, 1, 5, 40, 400) if quick or self.rng.random() < 0.7 else (1, 3000, 20000))
        return {"kind": "python", "code": "result = 1", "input": {"x": read, "ms": ms, **more}}

    def _retry(self, tool: dict[str, Any], attempts: int = 3, quick: bool = False) -> dict[str, Any]:
        # beyond five seconds the worker gives the command back, and a timer brings it again
        then = {
            "do": "retry",
            "attempts": attempts,
            "delay": self.rng.choice((0.1, 1, 6) if quick else (0.1, 1, 7, 20)),
            "backoff": self.rng.choice(("none", "fixed", "exponential")),
        }
        tool["spec"] = {"policy": {"rules": [{"when": "{{ output.status == 'error' }}", "then": then}]}}
        return tool

    def _pipeline(self, read: str, quick: bool = False) -> list[dict[str, Any]]:
        tasks = [{**self._plain(read, quick), "name": "t0"}]
        for index in range(1, self.rng.randint(2, 3)):
            task = {**self._plain("{{ _prev.v | default(0) }}", quick), "name": f"t{index}"}
            self._rules(task, index)
            tasks.append(task)
        if self.rng.random() < 0.3:
            tasks[0]["input"]["fail"] = 1
            self._retry(tasks[0], quick=quick)
        return tasks

    def _rules(self, task: dict[str, Any], index: int) -> None:
        chance = self.rng.random()
        key = f"ctx.p{len(self.steps)}_{index}"
        if chance < 0.25:
            # round once more, and then on
            again = {"do": "jump", "to": "t0", "set": {"step.rounds": "{{ step.rounds | default(0) + 1 }}"}}
            rules = [
                {"when": "{{ step.rounds | default(0) < 1 }}", "then": again},
                {"else": {"then": {"do": "continue"}}},
            ]
            task["spec"] = {"policy": {"rules": rules}}
        elif chance < 0.4:
            task["spec"] = {
                "policy": {"rules": [{"else": {"then": {"do": "break", "set": {key: "{{ output.data.v }}"}}}}]}
            }
        elif chance < 0.6:
            task["input"]["fail"] = 9
            task["spec"] = {"policy": {"rules": [{"else": {"then": {"do": "continue"}}}]}}

    def _sub(self, read: str) -> dict[str, Any]:
        path = CHILD if self.depth == 0 and self.rng.random() < 0.6 else LEAF
        return {"kind": "playbook", "path": path, "payload": {"x": read}}

    def _admission(self, step: dict[str, Any], rate: float = 0.15) -> None:
        if self.rng.random() < rate:
            rule = {"when": f"{{{{ workload.x % 2 == {self.rng.randrange(2)} }}}}", "then": {"allow": True}}
            step.setdefault("spec", {}).setdefault("policy", {})["admit"] = {
                "rules": [rule, {"else": {"then": {"allow": False}}}]
            }

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


def _no_set(tool: Any) -> None:
    """Of items that run side by side, the last one's `ctx` wins."""
    for task in tool if isinstance(tool, list) else [tool]:
        for rule in task.get("spec", {}).get("policy", {}).get("rules", ()):
            then = rule.get("then") or rule["else"]["then"]
            then["set"] = {key: value for key, value in then.get("set", {}).items() if not key.startswith("ctx.")}
