"""What must be readable of the results of a deployment, what must be gone, and what may be either."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

TTL: Final = timedelta(days=7)
GRACE: Final = timedelta(minutes=20)
# how far clocks may be from that of the database
SKEW: Final = timedelta(minutes=5)

Found = Literal["value", "expired", "gone", "either"]


@dataclass(kw_only=True)
class Run:
    """An execution. `command`: of its next step, which the worker has claimed."""

    id: str
    command: dict[str, Any] | None = None
    ended: datetime | None = None


@dataclass(kw_only=True, eq=False)
class Item:
    """An object that was stored whole. `scope`: None if there is no row of it. `content`: as REST gives it, if that is
    known. `is_collected`: the collection had all the time that it needed since it was not needed any more."""

    run: Run
    store: str
    key: str
    ref: dict[str, Any]
    plain: Any
    content: bytes | None
    scope: str | None
    name: str
    expires: datetime | None = None
    was_put: bool = False
    is_deleted: bool = False
    is_collected: bool = False

    @property
    def place(self) -> tuple[str, str]:
        return self.store, self.key

    @property
    def needed_until(self) -> datetime | None:
        """None if there is no end to it yet."""
        ends = [] if self.expires is None or self.scope is None else [self.expires + GRACE]
        if self.run.ended is not None and self.scope != "permanent":
            ends.append(self.run.ended + (GRACE if self.scope in (None, "step") else TTL))
        return min(ends, default=None)

    def is_needed(self, now: datetime) -> bool:
        """Whatever the clocks of others say."""
        until = self.needed_until
        return not self.is_deleted and (until is None or now < until - SKEW)

    def is_over(self, now: datetime) -> bool:
        until = self.needed_until
        return until is not None and now > until + SKEW

    def found(self, now: datetime, reader: datetime) -> Found:
        """`reader`: the reader's clock."""
        if self.expires is not None and abs(reader - self.expires) < timedelta(seconds=10):
            return "either"
        if self.expires is not None and reader > self.expires:
            return "expired"
        if self.is_deleted or self.is_collected:
            return "gone"
        return "value" if self.is_needed(now) else "either"

    def __str__(self) -> str:
        ended = "" if self.run.ended is None else f" ended {self.run.ended:%d %H:%M:%S}"
        expires = "" if self.expires is None else f", expires {self.expires:%d %H:%M:%S}"
        state = "deleted" if self.is_deleted else "collected" if self.is_collected else "kept"
        return f"{self.name} in {self.store} at {self.key!r}, scope {self.scope}{expires}, {state}, execution{ended}"


@dataclass
class Model:
    items: dict[tuple[str, str], Item] = field(default_factory=dict)

    def add(self, item: Item) -> Item:
        known = self.items.get(item.place)
        if known is None or known.scope is None:
            self.items[item.place] = item
        return self.items[item.place]

    def of(self, run: Run) -> list[Item]:
        return [item for item in self.items.values() if item.run is run]

    def needed(self, now: datetime) -> set[tuple[str, str]]:
        return {place for place, item in self.items.items() if item.is_needed(now)}

    def over(self, now: datetime) -> set[tuple[str, str]]:
        return {place for place, item in self.items.items() if item.is_deleted or item.is_over(now)}

    def collected(self, now: datetime) -> None:
        for item in self.items.values():
            item.is_collected |= item.is_over(now)
