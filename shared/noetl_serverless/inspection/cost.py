"""What an execution has used and what that costs, from its log alone.

Each command counts as one invocation of a worker function that was billed for as long as the command took, and as one
request to the control plane, whose time is the table's estimate. A worker that runs several commands at once is billed
once for them: the total is therefore an upper bound, and `busy_ms` is how long workers were busy at all. Storage
is priced for one month.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..engine import events as e
from ..engine.canonical import canonical
from ..engine.events import Event
from ..engine.prices import Prices
from ..engine.replay import logical_order
from ..engine.upcast import UPCASTERS
from .expected_projections import end_of
from .quarantine_periods import EffectiveTimes

GB = 1024**3
# tiers that are not files or objects; local files are priced as the objects that they would be in a cloud
DATABASE = frozenset({"log", "postgres", "kv"})


@dataclass(slots=True)
class Usage:
    """The usage of one step, or of all. `bytes` by tier: `log` for the events, the others for what is beside it."""

    runs: int = 0
    invocations: int = 0
    duration_ms: float = 0.0
    billed_ms: float = 0.0
    wall_ms: int = 0
    bytes: dict[str, int] = field(default_factory=dict)
    # results that were written beside the log, as objects
    puts: int = 0
    money: float = 0.0

    def add(self, other: Usage) -> None:
        for name in ("runs", "invocations", "duration_ms", "billed_ms", "puts", "money"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for tier, size in other.bytes.items():
            self.bytes[tier] = self.bytes.get(tier, 0) + size

    def document(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "invocations": self.invocations,
            "duration_ms": round(self.duration_ms, 3),
            "billed_ms": round(self.billed_ms, 3),
            "wall_ms": self.wall_ms,
            "bytes": dict(sorted(self.bytes.items())),
            "cost": round(self.money, 12),
        }


def cost(execution_id: str, events: Iterable[Event], prices: Prices) -> dict[str, Any]:
    """{execution_id, ended, prices, steps: [{step, ...usage}], total: {...usage, busy_ms, quarantined_ms}} as JSON.

    `quarantined_ms` is how long it was in quarantine, which the wall time includes.
    """
    log = [UPCASTERS.current(event) for event in logical_order(events)]
    effects = EffectiveTimes(log)
    steps: dict[str, _Meter] = {}
    outside_steps = Usage()
    for event in log:
        if event.step is None:
            _weigh(outside_steps, event)
        else:
            steps.setdefault(event.step, _Meter(prices)).read(event, effects.at(event))
    outside_steps.money = _stored(outside_steps, prices)
    total = Usage()
    total.add(outside_steps)
    for meter in steps.values():
        total.add(meter.close())
    end = end_of(log)
    last = end if end is not None else log[-1] if log else None
    total.wall_ms = max(0, effects.at(last) - log[0].at) if last is not None else 0
    quarantined_ms = sum(period.ms for period in effects.periods if period.ended_by != e.DROPPED)
    return {
        "execution_id": execution_id,
        "ended": end is not None,
        "currency": prices.currency,
        "prices": {name: getattr(prices, name) for name in ("name", "provider", "region", "date", "note")},
        "steps": [{"step": name, **meter.usage.document()} for name, meter in steps.items() if meter.usage.runs],
        "total": {**total.document(), "busy_ms": _busy(log), "quarantined_ms": quarantined_ms},
    }


class _Meter:
    """The usage of one step; the wall time of each run is from its first event to its last."""

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self.usage = Usage()
        self._spans: dict[int, tuple[int, int]] = {}

    def read(self, event: Event, at: int) -> None:
        """`at`: when it took effect."""
        _weigh(self.usage, event)
        if event.generation is not None:
            begun, _ = self._spans.get(event.generation, (at, at))
            self._spans[event.generation] = (begun, max(begun, at))
        if event.type not in e.REPORTS:
            return
        duration = _number((event.payload.get("meta") or {}).get("duration_ms"))
        self.usage.invocations += 1
        self.usage.duration_ms += duration
        self.usage.billed_ms += self.prices.billed_ms(duration)
        self.usage.money += self.prices.command(duration)

    def close(self) -> Usage:
        self.usage.runs = len(self._spans)
        self.usage.wall_ms = sum(end - begun for begun, end in self._spans.values())
        self.usage.money += _stored(self.usage, self.prices)
        return self.usage


def _stored(usage: Usage, prices: Prices) -> float:
    in_database = sum(size for tier, size in usage.bytes.items() if tier in DATABASE)
    objects = sum(usage.bytes.values()) - in_database
    kept = prices.object_gb_month * objects + prices.log_gb_month * in_database
    return kept / GB + prices.object_put * usage.puts


def _weigh(usage: Usage, event: Event) -> None:
    size = len(canonical(event.payload).encode(errors="surrogatepass"))
    usage.bytes["log"] = usage.bytes.get("log", 0) + size
    for ref in e.references_in(event.payload) if event.type in e.REPORTS else ():
        tier = str(ref.get("store"))
        usage.bytes[tier] = usage.bytes.get(tier, 0) + int(_number((ref.get("meta") or {}).get("bytes")))
        usage.puts += tier not in DATABASE


def _busy(log: list[Event]) -> float:
    """How long each worker ran anything, summed over all workers, in ms."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for event in log:
        meta = event.payload.get("meta") or {}
        if event.type in e.REPORTS and isinstance(meta.get("started_at"), str):
            begun = _instant(meta["started_at"])
            if begun is not None:
                spans.setdefault(str(meta.get("worker")), []).append((begun, begun + _number(meta.get("duration_ms"))))
    return round(sum(_union(found) for found in spans.values()), 3)


def _union(spans: list[tuple[float, float]]) -> float:
    total, reached = 0.0, -math.inf
    for begun, end in sorted(spans):
        total += max(0.0, end - max(begun, reached))
        reached = max(reached, end)
    return total


def _instant(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() * 1000
    except ValueError:
        return None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
