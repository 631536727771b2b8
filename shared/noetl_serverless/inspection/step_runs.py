"""The runs of steps that a log tells of: when each began, what led to it, and what it led to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine import events as e
from ..engine.decide import FAILURES
from ..engine.events import Event

BEGINNINGS = frozenset({e.ISSUED, e.LOOP_OPENED, e.LOOP_DONE, e.STEP_SKIPPED, e.REUSED})

# (step, generation)
Key = tuple[str, int]


@dataclass(slots=True)
class Run:
    step: str
    generation: int
    # the index in the log of the event that began it
    began: int
    # the runs whose arcs led to it
    parents: list[Key]
    route: dict[str, Any] | None = None
    is_reused: bool = False

    @property
    def key(self) -> Key:
        return self.step, self.generation

    @property
    def is_skipped(self) -> bool:
        """Although arcs led to it; of a loop, items may have been done all the same, before a restart."""
        return self.route is not None and self.route["event"] == e.STEP_SKIPPED

    @property
    def is_done(self) -> bool:
        """Whether it has ended, and not with a failure that no arc handled."""
        if self.route is None:
            return self.is_reused
        return self.route["event"] not in FAILURES or bool(self.route.get("arcs"))


@dataclass(slots=True)
class StepRuns:
    """`latest`: step -> its last run; `arrivals`: step -> the runs that have led to it since it began last, by their
    steps."""

    runs: dict[Key, Run] = field(default_factory=dict)
    latest: dict[str, Run] = field(default_factory=dict)
    arrivals: dict[str, dict[str, Key]] = field(default_factory=dict)

    def begin(self, index: int, event: Event, step: str) -> None:
        if event.generation is None:
            # it is skipped because nothing can reach it any more
            self.arrivals.pop(step, None)
            return
        key = (step, event.generation)
        if key not in self.runs:
            run = Run(step, event.generation, index, list(self.arrivals.pop(step, {}).values()))
            run.is_reused = event.type == e.REUSED
            self.runs[key] = run
            if step not in self.latest or self.latest[step].generation < run.generation:
                self.latest[step] = run

    def take_route(self, route: Mapping[str, Any]) -> None:
        key = (route["step"], route["generation"])
        if key in self.runs:
            self.runs[key].route = dict(route)
        for target in route.get("arcs", ()):
            self.arrivals.setdefault(target, {}).setdefault(key[0], key)


def read_runs(log: Sequence[Event]) -> StepRuns:
    """Of a log in its logical order; a run's `began` is an index in it."""
    found = StepRuns()
    for index, event in enumerate(log):
        for route in event.payload.get("routes", ()):
            found.take_route(route)
        if event.type == e.RESTARTED:
            for target, sources in event.payload["waiting"].items():
                begun = {name: found.latest[name].key for name in sources if name in found.latest}
                found.arrivals[target] = begun
        elif event.type in BEGINNINGS and event.step is not None:
            found.begin(index, event, event.step)
    return found
