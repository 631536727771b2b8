"""A recorded execution, independent of the store that it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from ..engine.events import Event
from ..playbook.plan import Plan
from ..tools.plans import load_plan


@dataclass(kw_only=True, frozen=True)
class Result:
    """What a step put into the result store; `content` is None if it was left out, and `left_out` says why: it was
    `too_large`, `gone` from its store, `changed` in it, or had a `secret` where none can be replaced. Files of before
    do not say."""

    key: str
    ref: str
    size: int
    sha256: str
    content_type: str
    content: bytes | None = None
    left_out: str | None = None


@dataclass(kw_only=True, frozen=True)
class Recording:
    execution_id: str
    path: str
    version: int
    plan_hash: str
    playbook: str
    workload: Mapping[str, Any]
    events: list[Event]
    children: list[Recording] = field(default_factory=list)
    # by key
    results: Mapping[str, Result] = field(default_factory=dict)
    # if recorded from a running stack: the pending and leased commands, and their workers
    commands: list[dict[str, Any]] = field(default_factory=list)

    @cached_property
    def plan(self) -> Plan:
        """The plan of the playbook that ran; InvalidPlaybook if this release cannot compile it."""
        return load_plan(self.playbook)

    def with_descendants(self) -> Iterator[Recording]:
        """This recording and those of all descendants, parents first."""
        yield self
        for child in self.children:
            yield from child.with_descendants()


def event_of(entry: Mapping[str, Any]) -> Event:
    """The event from its form in the REST API."""
    return Event(
        entry["event_type"],
        round(datetime.fromisoformat(entry["timestamp"]).timestamp() * 1000),
        **{name: entry[name] for name in ("seq", "cause", "step", "generation", "command_id", "payload")},
    )


def line_of(event: Event) -> dict[str, Any]:
    """The event in the form that a capsule holds; `at` in milliseconds since 1970."""
    return {
        "seq": event.seq,
        "cause": event.cause,
        "type": event.type,
        "step": event.step,
        "generation": event.generation,
        "command_id": event.command_id,
        "at": event.at,
        "payload": event.payload,
    }


def events_of(lines: Iterable[Mapping[str, Any]]) -> list[Event]:
    """Raises KeyError or TypeError for a line that is no event."""
    return [
        Event(
            str(line["type"]),
            int(line["at"]),
            seq=int(line["seq"]),
            cause=line["cause"],
            step=line["step"],
            generation=line["generation"],
            command_id=line["command_id"],
            payload=dict(line["payload"]),
        )
        for line in lines
    ]
