"""What the steps of a drawn playbook do: tools, rules, pipelines, loops."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

CHILD, LEAF = "sim/child", "sim/leaf"
# of the items of a loop
COUNTS = (0, 1, 2, 3, 6, 24, 24)


@dataclass
class Tasks:
    rng: random.Random
    depth: int = 0
    # of the protocol that workers speak
    version: int = 2
    steps: list[dict[str, Any]] = field(default_factory=list)
    # of fork branches that are open: a step that fails for good inside one would end the others at any time
    forks: int = 0
    # steps that may fail, and whose block goes on nevertheless
    mended: set[str] = field(default_factory=set)

    def _loop_spec(self, counts: tuple[int, ...]) -> tuple[dict[str, Any], bool]:
        items = f"{{{{ workload.items[:{self.rng.choice(counts)}] }}}}"
        if self.rng.random() < 0.04:
            items = self.rng.choice(("{{ workload.x }}", "{{ workload.nothing }}"))
        spec: dict[str, Any] = {"mode": self.rng.choice(("parallel", "parallel", "sequential"))}
        if spec["mode"] == "parallel":
            spec["max_in_flight"] = self.rng.choice((1, 2, 4, 8, 8, "{{ 2 + 1 }}"))
            spec["mode"] = self._by_place("parallel", "parallel", "async")
        if (exec := self._by_place(None, "distributed", "local", None)) is not None:
            spec["policy"] = {"exec": exec}
        return {"in": items, "iterator": "it", "spec": spec}, self.rng.random() < 0.4

    def _by_place(self, *choices: Any) -> Any:
        """One that depends on how many steps there are, and moves nothing else that is drawn."""
        return choices[len(self.steps) % len(choices)]

    def _failure(self, loop: dict[str, Any], best_effort: bool) -> dict[str, Any]:
        """What a step has beside the loop, which itself may have it."""
        if not best_effort:
            return {}
        policy = {"failure": {"mode": "best_effort"}}
        if self._by_place(True, False):
            return {"spec": {"policy": policy}}
        loop["spec"]["policy"] = {**loop["spec"].get("policy", {}), **policy}
        return {}

    def _item(self, best_effort: bool) -> dict[str, Any]:
        few: tuple[list[int], ...] = ([], [], [0], [0, 1, 2])
        other: tuple[list[int] | int, ...] = ([], [], 1)
        fail = self.rng.choice(few) if best_effort else self.rng.choice(other)
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
        # what others have set, and this item itself, before it waited
        others, own = f"ctx.p{len(self.steps)}_1", f"ctx.q{len(self.steps)}"
        tasks[0]["input"]["others"] = f"{{{{ {others} | default(-1) }}}}"
        rules = tasks[0].setdefault("spec", {}).setdefault("policy", {}).setdefault("rules", [])
        rules.append({"else": {"then": {"do": "continue", "set": {own: "{{ iter._index }}"}}}})
        tasks[-1]["input"]["own"] = f"{{{{ {own} | default(-1) }}}}"
        if "spec" not in tasks[-1] and self._by_place(True, False):
            tasks[-1]["input"]["fail"] = 1
            then = {"do": "retry", "attempts": 2, "delay": 6}
            again = {"when": "{{ output.status == 'error' }}", "then": then}
            tasks[-1]["spec"] = {"policy": {"rules": [again]}}
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
            return self._item(best_effort), {"loop": loop, **self._failure(loop, best_effort)}
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
            # all of it may go by reference
            made = {key: "{{ output.data.v }}", f"{key}_all": "{{ output.data }}"}
            task["spec"] = {"policy": {"rules": [{"else": {"then": {"do": "break", "set": made}}}]}}
        elif chance < 0.6:
            task["input"]["fail"] = 9
            task["spec"] = {"policy": {"rules": [{"else": {"then": {"do": "continue"}}}]}}

    def _sub(self, read: str) -> dict[str, Any]:
        path = CHILD if self.depth == 0 and self.rng.random() < 0.6 else LEAF
        back = {"return_step": self.rng.choice(("s0", "s0", "nowhere"))} if self.rng.random() < 0.2 else {}
        return {"kind": "playbook", "path": path, "payload": {"x": read}, **back}

    def _admission(self, step: dict[str, Any], rate: float = 0.15) -> None:
        if self.rng.random() < rate:
            rule = {"when": f"{{{{ workload.x % 2 == {self.rng.randrange(2)} }}}}", "then": {"allow": True}}
            step.setdefault("spec", {}).setdefault("policy", {})["admit"] = {
                "rules": [rule, {"else": {"then": {"allow": False}}}]
            }


def without_set(tool: Any) -> None:
    """Of items that run side by side, an older worker does not say which has set what."""
    for task in tool if isinstance(tool, list) else [tool]:
        for rule in task.get("spec", {}).get("policy", {}).get("rules", ()):
            then = rule.get("then") or rule["else"]["then"]
            then["set"] = {key: value for key, value in then.get("set", {}).items() if not key.startswith("ctx.")}
