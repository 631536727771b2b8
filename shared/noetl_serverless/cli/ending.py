"""How an execution ended, in words: its error, what is to be done about it, and what it warns of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def remarks(entry: Mapping[str, Any]) -> Iterator[str]:
    """Lines about an execution as REST gives it, beside its status and its result."""
    yield from quarantine(str(entry["execution_id"]), entry.get("error")) if entry.get("quarantined") else ()
    yield from warnings(entry.get("warnings") or ())


def quarantine(execution_id: str, error: Any) -> Iterator[str]:
    """What happened, where, and what to do."""
    known = error if isinstance(error, Mapping) else {}
    place = f" (at {known['place']})" if known.get("place") else ""
    yield "in quarantine: the engine could not decide how it goes on; other executions are not concerned"
    yield f"  {known.get('message') or 'no reason given'}{place}"
    yield f"  what to do: noetls quarantine show {execution_id}"


def dropped(at: str, by: Mapping[str, Any] | None) -> str:
    """`at`: in words."""
    who = f" by {principal(by)}" if by else ""
    return f"was in quarantine, and was dropped from it at {at}{who}: it stays as it ended"


def warnings(found: Any) -> Iterator[str]:
    for warning in found:
        yield f"warning: {warning['code']}: {warning['message']}"


def principal(found: Mapping[str, Any] | None) -> str:
    """`user ada`, `schedule 42`; empty if it is not known who started it."""
    return " ".join(str(found[name]) for name in ("kind", "name") if found.get(name)) if found else ""
