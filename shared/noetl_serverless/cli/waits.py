"""The waits of an execution, as its events tell of them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from itertools import islice
from typing import Any, Final

from ..engine.events import QUARANTINED
from ..plurals import counted

# what one line names, of the first waits
MAX_NAMED: Final = 3
MAX_READ: Final = 20


@dataclass(frozen=True, slots=True)
class Wait:
    """For a signal, or without one until a time. `resumes`: whether a command goes on after it; if not, its end is that
    of the step."""

    step: str
    generation: int
    _: KW_ONLY
    signal: str | None
    is_approval: bool
    resumes: bool

    @property
    def run(self) -> tuple[str, int]:
        return self.step, self.generation

    @property
    def what(self) -> str:
        """`approval 'manager'`."""
        return f"{'approval' if self.is_approval else 'signal'} '{self.signal}'"

    def prompt(self, execution_id: str) -> str:
        """What it waits for, and the command that ends it."""
        verb = "approve" if self.is_approval else "signal"
        return f"{self.step} waits for {self.what}: noetls {verb} {execution_id} {shlex.quote(self.signal or '')}"


class Waits:
    """Those that have begun and not ended."""

    def __init__(self) -> None:
        self._open: dict[str, Wait] = {}
        # of these, those for signals, by run
        self._signals: dict[tuple[str, int], dict[str, Wait]] = {}
        # the names of those for signals that `new` has not returned
        self._new: list[str] = []

    def read(self, event: Mapping[str, Any]) -> Wait | None:
        """Read an event; returns the wait that it begins or ends."""
        payload = event.get("payload") or {}
        match event["event_type"]:
            case "wait.started":
                return self._begin(event, payload)
            case "wait.ended":
                wait = self._open.pop(name := str(payload["wait"]), None)
                if wait is not None:
                    self._signals.get(wait.run, {}).pop(name, None)
                return wait
            case "step.timed_out" | "step.stopped":
                # all that was under way of the run ends
                self._signals.pop((str(event["step"]), int(event.get("generation") or 0)), None)
            case "compensation.started" | "playbook.completed" | "execution.cancelled":
                self._signals.clear()
            case "playbook.failed" if QUARANTINED not in payload:
                self._signals.clear()
        return None

    def _begin(self, event: Mapping[str, Any], payload: Mapping[str, Any]) -> Wait:
        wait = Wait(
            str(event["step"]),
            int(event["generation"]),
            signal=payload.get("signal"),
            is_approval=bool(payload.get("approval")),
            resumes=bool(payload.get("resumes", True)),
        )
        name = str(payload["wait"])
        self._open[name] = wait
        if wait.signal is not None:
            self._signals.setdefault(wait.run, {})[name] = wait
            self._new.append(name)
        return wait

    def is_timer(self, event: Mapping[str, Any]) -> bool:
        """Whether an event sets the time at which a wait ends."""
        return event["event_type"] == "timer.set" and (event.get("payload") or {}).get("timer") in self._open

    def new(self) -> list[Wait]:
        """Those for signals that have begun since this was called."""
        names, self._new = self._new, []
        found = [(name, self._open[name]) for name in names if name in self._open]
        return [wait for name, wait in found if name in self._signals.get(wait.run, {})]

    def text(self, run: tuple[str, int]) -> str:
        """What a run of a step waits for: `approval 'manager'`; empty if for no signal."""
        found = self._signals.get(run, {})
        # asked for at each event, of loops with many items, too; several may wait for one signal
        first = islice(found.values(), MAX_READ)
        named = list(dict.fromkeys(wait.what for wait in first))[:MAX_NAMED]
        more = len(found) - len(named)
        *others, last = [*named, *([counted(more, "more wait")] if more else [])] or [""]
        return f"{', '.join(others)} and {last}" if others else last
