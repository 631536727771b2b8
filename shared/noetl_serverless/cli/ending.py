"""Text lines about how an execution ended: its error, what to do about it, and its warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..plurals import counted


def status_notes(entry: Mapping[str, Any]) -> Iterator[str]:
    """Lines about an execution in addition to its status and result; `entry` is an execution in the REST format."""
    yield from quarantine(str(entry["execution_id"]), entry.get("error")) if entry.get("quarantined") else ()
    yield from compensation(entry.get("error"))
    yield from warnings(entry.get("warnings") or ())


def quarantine(execution_id: str, error: Any, *, left: bool = False) -> Iterator[str]:
    """What happened and where, and what to do unless the execution has `left` quarantine since."""
    known = error if isinstance(error, Mapping) else {}
    place = f" (at {known['place']})" if known.get("place") else ""
    where = "was in quarantine for a time" if left else "in quarantine"
    yield f"{where}: the engine could not decide how to continue; other executions are not affected"
    yield f"  {known.get('message') or 'no reason given'}{place}"
    if not left:
        yield f"  for details, run: noetls quarantine show {execution_id}"


def compensation(error: Any) -> Iterator[str]:
    """Which steps have been undone, and which could not be."""
    found = error.get("compensation") if isinstance(error, Mapping) else None
    if not isinstance(found, Mapping):
        return
    if found["done"]:
        yield f"undone: {', '.join(found['done'])}"
    for failed in found["failed"]:
        yield f"not undone: {failed['step']}: {failed.get('code')}: {failed.get('message')}"


def kept_signals(counts: Mapping[str, int]) -> str:
    """`counts`: by name."""
    named = (f"'{name}'" + (f" {count} times" if count > 1 else "") for name, count in counts.items())
    return f"keeps signals that no wait has taken: {', '.join(named)}"


def paused(since: str, reason: Any, by: Mapping[str, Any] | None) -> str:
    """`since` is formatted text."""
    because = f" because: {reason}" if reason else ""
    return f"paused since {since}{' by ' + principal(by) if by else ''}{because}"


def dropped(at: str, by: Mapping[str, Any] | None) -> str:
    """`at` is formatted text."""
    principal_text = f" by {principal(by)}" if by else ""
    return f"was dropped from quarantine at {at}{principal_text}; its status does not change"


def retried(since: str, until: str) -> str:
    """For an execution that has continued; `since` and `until` are formatted text."""
    return f"was in quarantine from {since} to {until}, then continued"


def failed_counts(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How many items of each step failed, in all its runs together; `found` is from `Progress.failed_items`."""
    for step in dict.fromkeys(run["step"] for run in found):
        failed, count = (sum(run[name] or 0 for run in found if run["step"] == step) for name in ("failed", "count"))
        yield f"warning: {failed:,} of {counted(count, 'item')} of the loop '{step}' failed"


def warnings(found: Any) -> Iterator[str]:
    for warning in found:
        yield f"warning: {warning['code']}: {warning['message']}"


def principal(found: Mapping[str, Any] | None) -> str:
    """`user ada`, `schedule 42`; empty if it is not known who started it."""
    return " ".join(str(found[name]) for name in ("kind", "name") if found.get(name)) if found else ""
