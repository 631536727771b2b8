"""Playbooks to run beside the others of a world: each is made for one purpose, and promises how it ends."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .controls import Control, Delivery

KB = 1024


@dataclass(frozen=True, slots=True)
class Promise:
    """How an execution ends. `words`: what its error says; `ctx` and `outcomes`: what it leaves, type by type and in
    order; `begun`: how often its steps begin, at most; `undone`: what is undone before, in order, and what is not;
    `bytes`: what its log and its state weigh, at most."""

    status: str | None
    step: str | None = None
    words: tuple[str, ...] = ()
    ctx: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    begun: Mapping[str, int] = field(default_factory=dict)
    undone: Mapping[str, Any] | None = None
    bytes: int = 2_000 * KB


@dataclass(frozen=True, slots=True)
class SidePlaybook:
    """`body`: the payload that it is started with, as bytes, if that is what hurts; `refused`: it is not even started;
    `by_schedule`: a schedule starts it, and no user."""

    recipe: str
    path: str
    text: str
    promise: Promise
    # paths and texts of playbooks that it starts
    more: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    refused: bool = False
    by_schedule: bool = False
    # the type of fact that nothing can be made of
    undecidable: str | None = None
    # what its user does to it
    controls: tuple[Control, ...] = ()
    # how one ends that goes on with it once it has failed, and what changes then in its payload
    restarted: Promise | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    # what is sent to its triggers, which alone start it
    deliveries: tuple[Delivery, ...] = ()

    @property
    def label(self) -> str:
        """What its executions bear in their workload."""
        return f"{self.path}: {self.recipe}"


class Maker:
    def __init__(self, rng: random.Random, recipe: str, path: str) -> None:
        self.rng = rng
        self.recipe = recipe
        self.path = path
        self.steps: list[dict[str, Any]] = []

    def step(self, name: str, tool: Any = None, **more: Any) -> dict[str, Any]:
        step = {"step": name, "tool": tool or {"kind": "noop"}, **more}
        self.steps.append(step)
        return step

    def tool(self, x: Any = "", **more: Any) -> dict[str, Any]:
        return {"kind": "python", "code": "result = 1", "input": {"x": x, "ms": self.rng.choice((0, 1, 40)), **more}}

    def made(
        self,
        promise: Promise,
        *,
        workload: Any = None,
        executor: Any = None,
        keychain: Any = None,
        triggers: Any = None,
        **more: Any,
    ) -> SidePlaybook:
        text = playbook(self.path, self.steps, workload, keychain, triggers, **(executor or {}))
        return SidePlaybook(self.recipe, self.path, text, promise, **more)


def playbook(
    path: str,
    steps: list[dict[str, Any]],
    workload: Any = None,
    keychain: Any = None,
    triggers: Any = None,
    **executor: Any,
) -> str:
    book = {
        "apiVersion": "noetl.io/v2",
        "kind": "Playbook",
        "metadata": {"name": path, "path": path},
        "executor": {"spec": {"entry_step": steps[0]["step"], **executor}},
        **({"keychain": keychain} if keychain else {}),
        **({"triggers": triggers} if triggers else {}),
        "workload": {"label": "", "x": 1, **(workload or {})},
        "workflow": steps,
    }
    return json.dumps(book, indent=1)


def arc(target: str, when: str | None = None, **more: Any) -> dict[str, Any]:
    return {"step": target, **({"when": f"{{{{ {when} }}}}"} if when else {}), **more}


def to(*arcs: dict[str, Any], mode: str = "exclusive") -> dict[str, Any]:
    return {"spec": {"mode": mode}, "arcs": list(arcs)}


FAILED = "event.name == 'call.error'"
