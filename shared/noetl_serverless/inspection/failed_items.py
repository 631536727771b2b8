"""The failed items of a loop, as reported by its frames: some of each frame by index, and the number of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# of one run of a loop, failed items that are listed
MAX_ITEMS = 20


class FailedItems:
    """The failed items of one run of a loop: the first `most`, or with None all that its frames name. `add` takes its
    `frame.committed` payloads. `count`: of all."""

    def __init__(self, limit: int | None = MAX_ITEMS) -> None:
        self.count = 0
        self._limit = limit
        self._named: list[dict[str, Any]] = []
        # with `limit` None, the frames with more failed items than they name: {start, end, failed}
        self._unnamed: list[dict[str, int]] = []

    def add(self, frame: Mapping[str, Any]) -> None:
        failed = int(frame.get("failed") or 0)
        if not failed:
            return
        self.count += failed
        named = list(_failed_of(frame))
        self._named += named
        if self._limit is not None:
            self._named = self.named[: self._limit]
        elif len(named) < failed:
            self._unnamed.append({"start": frame["start"], "end": frame["end"], "failed": failed - len(named)})

    @property
    def named(self) -> list[dict[str, Any]]:
        """{index, error, attempts}, in order; the index is None for an error whose item the frame does not name."""
        return sorted(self._named, key=lambda item: -1 if item["index"] is None else item["index"])

    @property
    def unnamed(self) -> list[dict[str, int]]:
        """{start, end, failed} of the frames with more failed items than they name, in order; `failed` is the number of
        those not named. Only if `most` is None."""
        return sorted(self._unnamed, key=lambda frame: frame["start"])


def _failed_of(frame: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    errors: Mapping[str, Any] = frame.get("errors") or {}
    tries = _attempts(frame)
    for index, error in errors.items():
        yield {"index": int(index), "error": error, "attempts": _attempt_count(error, tries.get(int(index)))}
    if not errors and isinstance(error := frame.get("error"), Mapping):
        # of a frame that failed as a whole
        yield {"index": error.get("index"), "error": error, "attempts": _attempt_count(error, None)}


def _attempts(frame: Mapping[str, Any]) -> dict[int, int]:
    """Index -> the number of the last attempt that is kept."""
    found: dict[int, int] = {}
    meta = frame.get("meta")
    entries = meta.get("attempts") if isinstance(meta, Mapping) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, Mapping) and isinstance(index := entry.get("index"), int):
            found[index] = max(found.get(index, 0), int(entry.get("attempt") or 1))
    return found


def _attempt_count(error: Any, kept: int | None) -> int:
    attempts = error.get("attempts") if isinstance(error, Mapping) else None
    return max(attempts if isinstance(attempts, int) else 1, kept or 1)
