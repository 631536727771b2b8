"""Why a limit keeps commands waiting, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def limits_text(limits: Iterable[Mapping[str, Any]]) -> str:
    return "; ".join(map(_text, used_up(limits)))


def used_up(limits: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of limits {unit, kind, key, limit, used, per?, next_start?}: those that are used up. None may be by now, though
    the commands are still queued: then it is a worker that they wait for."""
    return [limit for limit in limits if limit["used"] >= limit["limit"]]


def _text(limit: Mapping[str, Any]) -> str:
    used = f"{limit['used']} of {limit['limit']} {limit['unit']}s"
    if limit["kind"] == "concurrency":
        return f"concurrency of key {limit['key']}: {used} running"
    next_start = f", next start at {limit['next_start']}" if limit.get("next_start") else ""
    return f"rate of key {limit['key']}: {used} within {limit['per']:g} s{next_start}"
