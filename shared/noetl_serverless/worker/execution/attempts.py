"""The failed attempts of a command, for the meta of its outcome; a command that never failed has none.

`meta["attempts"]` lists {"attempt", "task", "error", "started_at", "ended_at", "worker"}, for an item of a loop with
its "index", times in ms since 1970. Only the first and the last few are listed; `meta["attempts_dropped"]` is the
number left out between them. An outcome that ends a command covers all of its attempts; one that suspends it, those
since it was last resumed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from .errors import brief

FIRST_ATTEMPTS = 10
LAST_ATTEMPTS = 10
# of each error
ERROR_BYTES = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """One call of a task that is under way."""

    number: int
    task: str
    index: int | None
    started_at: int


@dataclass(slots=True)
class _AttemptList:
    first: list[dict[str, Any]] = field(default_factory=list)
    last: deque[dict[str, Any]] = field(default_factory=deque)
    dropped: int = 0

    def add(self, entry: dict[str, Any]) -> None:
        if len(self.first) < FIRST_ATTEMPTS:
            self.first.append(entry)
            return
        self.last.append(entry)
        if len(self.last) > LAST_ATTEMPTS:
            self.last.popleft()
            self.dropped += 1

    def fields_within(self, max_bytes: int) -> dict[str, Any]:
        first, last, dropped = list(self.first), list(self.last), self.dropped
        # names and numbers count too: an outcome whose meta is too large is an error
        while len(orjson.dumps(fields := _fields([*first, *last], dropped))) > max_bytes and (first or last):
            (last.pop(0) if len(last) >= len(first) else first.pop())
            dropped += 1
        return fields


class Attempts:
    """The attempts of one command, its frame's items included. `worker`: its id; `clock`: ms since 1970."""

    def __init__(self, worker: str = "", clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._worker = worker
        self._clock = clock
        self._all = _AttemptList()
        self._since_resumed = _AttemptList()
        self._open: list[Attempt] = []

    def begin(self, number: int, task: str, index: int | None = None, started_at: int | None = None) -> Attempt:
        """`started_at`: for an attempt that began earlier and has waited, such as for a sub-playbook to end."""
        attempt = Attempt(number, task, index, self._clock() if started_at is None else started_at)
        self._open.append(attempt)
        return attempt

    def end(self, attempt: Attempt) -> None:
        """The attempt did not fail, or not yet."""
        if attempt in self._open:
            self._open.remove(attempt)

    def fail(self, attempt: Attempt, error: Mapping[str, Any]) -> None:
        self.end(attempt)
        entry = {
            "attempt": attempt.number,
            "task": attempt.task,
            **({} if attempt.index is None else {"index": attempt.index}),
            "error": brief(error, ERROR_BYTES),
            "started_at": attempt.started_at,
            "ended_at": max(attempt.started_at, self._clock()),
            "worker": self._worker,
        }
        self._all.add(entry)
        self._since_resumed.add(entry)

    def fail_under_way(self, error: Mapping[str, Any]) -> None:
        """All attempts that are under way have failed with the command."""
        for attempt in list(self._open):
            self.fail(attempt, error)

    @property
    def any(self) -> bool:
        """Whether one has failed, in this run of the command or an earlier one."""
        return bool(self._all.first)

    def as_meta(self, max_bytes: int, *, suspended: bool = False) -> dict[str, Any]:
        """The fields for the meta of an outcome, in at most `max_bytes` bytes of JSON; if no attempt fits, only the
        number left out."""
        return (self._since_resumed if suspended else self._all).fields_within(max_bytes)

    # -- across a suspension

    def suspended_attempts(self) -> dict[str, Any]:
        """Empty if there is nothing to remember."""
        return self._all.fields_within(FIRST_ATTEMPTS * LAST_ATTEMPTS * ERROR_BYTES)

    def resume(self, remembered: Mapping[str, Any]) -> None:
        """Restore what an earlier run of the command remembered."""
        entries = list(remembered.get("attempts") or ())
        self._all.first = entries[:FIRST_ATTEMPTS]
        self._all.last = deque(entries[FIRST_ATTEMPTS:])
        self._all.dropped = int(remembered.get("attempts_dropped") or 0)


def _fields(attempts: list[dict[str, Any]], dropped: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"attempts": attempts} if attempts else {}
    return {**fields, "attempts_dropped": dropped} if dropped else fields
