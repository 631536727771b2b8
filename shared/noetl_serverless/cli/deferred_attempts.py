"""Failed attempts of deferred commands: reported when the command is deferred, and again when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..inspection.runs import CommandRun

Key = tuple[Any, ...]


class DeferredAttempts:
    """The failed attempts that commands which have not ended have reported so far."""

    def __init__(self) -> None:
        # command -> how many attempts, and the keys of those that are listed one by one
        self._shown: dict[str, tuple[int, set[Key]]] = {}

    def remember(self, command: str, run: CommandRun) -> CommandRun:
        """For a report that defers a command: remembers its attempts and returns `run` unchanged."""
        count = len(run.attempts) + run.attempts_dropped
        if count:
            before, keys = self._shown.get(_first(command), (0, set()))
            self._shown[_first(command)] = before + count, keys | {_key(attempt) for attempt in run.attempts}
        return run

    def without_shown(self, command: str, run: CommandRun) -> CommandRun:
        """For a report that ends a command: `run` without the attempts that were reported before."""
        before, keys = self._shown.pop(_first(command), (0, set()))
        if not before:
            return run
        fresh = [attempt for attempt in run.attempts if _key(attempt) not in keys]
        count = len(run.attempts) + run.attempts_dropped - before
        return replace(run, attempts=fresh, attempts_dropped=max(0, count - len(fresh)))


def _first(command: str) -> str:
    """The id under which the command was first issued: `a#1.3@2` is `a#1.3`, issued again."""
    return command.partition("@")[0]


def _key(attempt: Mapping[str, Any]) -> Key:
    return tuple(attempt.get(name) for name in ("task", "index", "attempt", "started_at"))
