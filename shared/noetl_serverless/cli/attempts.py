"""Text lines about failed attempts and lost leases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ..plurals import counted


def lines(run: Mapping[str, Any]) -> Iterator[str]:
    """One line for each lost lease and each failed attempt of a run, from its `attempts`, `attempts_dropped` and
    `lost`. Instants are in ms since 1970."""
    for lease in run.get("lost") or ():
        returned_at = lease.get("given_back_at")
        ending = f"its lease expired at {time(lease.get('lease_until'))}"
        if returned_at is not None:
            ending = f"released it at {time(returned_at)} because it had to stop"
        yield (
            f"delivery {lease.get('delivery')} was lost: {lease.get('worker')} claimed it at "
            f"{time(lease.get('claimed_at'))}, and {ending}"
        )
    for entry in run.get("attempts") or ():
        yield attempt(entry)
    if dropped := run.get("attempts_dropped"):
        verb = "is" if dropped == 1 else "are"
        yield f"{counted(dropped, 'failed attempt')} in between {verb} not listed"


def failed_items(items: Iterable[Mapping[str, Any]], unnamed: Iterable[Mapping[str, int]] = ()) -> Iterator[str]:
    """One line for each failed item of a loop, in the form of `inspection.failed_items.FailedItems`."""
    for item in items:
        error = item["error"] or {}
        which = "an item" if item["index"] is None else f"item {item['index']}"
        tries = item["attempts"]
        attempts = f" after {tries} attempts" if tries > 1 else ""
        line = f" (line {error['at']})" if error.get("at") else ""
        yield f"{which} failed{attempts}: {error.get('code')}: {error.get('message')}{line}"
    for frame in unnamed:
        errors = "its error" if frame["failed"] == 1 else "their errors"
        which = f"{frame['failed']} more of the items {frame['start']} to {frame['end'] - 1}"
        yield f"{which} failed; the log does not keep {errors}"


def attempt(entry: Mapping[str, Any]) -> str:
    """`attempt 2 of load, item 7, failed: http.status: 503 (2026-01-01T00:00:00.000Z, 0.200 s, on worker w-1)`."""
    item = f", item {entry['index']}," if entry.get("index") is not None else ""
    error = entry.get("error") or {}
    started, ended = entry.get("started_at"), entry.get("ended_at")
    parts = [time(started)]
    if isinstance(started, int) and isinstance(ended, int):
        parts.append(f"{(ended - started) / 1000:.3f} s")
    if entry.get("worker"):
        parts.append(f"on worker {entry['worker']}")
    what = f"{error.get('code')}: {error.get('message')}"
    return f"attempt {entry.get('attempt')} of {entry.get('task')}{item} failed: {what} ({', '.join(parts)})"


def time(ms: Any) -> str:
    if not isinstance(ms, int):
        return "an unknown time"
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
