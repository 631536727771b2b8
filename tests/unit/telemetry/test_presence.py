"""What an instance tells the registry, and how often."""

from __future__ import annotations

from noetl_serverless import __version__
from noetl_serverless.telemetry.presence import Presence, described


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_is_shown_at_once_and_then_only_after_a_while() -> None:
    clock = Clock()
    presence = Presence(described("worker_pool", "w-1", pool="io", meta={}), clock)
    assert presence.shown is None
    first = presence.due("busy", 3, after=9.0)
    assert first is not None
    assert (first.name, first.pool, first.status, first.running, first.version) == ("w-1", "io", "busy", 3, __version__)
    clock.now += 8.9
    assert presence.due("busy", after=9.0) is None
    clock.now += 0.1
    assert presence.due("ready", after=9.0) is not None
    assert presence.shown == "ready"


def test_what_did_not_arrive_is_shown_again_with_the_next_call() -> None:
    presence = Presence(described("gateway", "g", meta={}), Clock())
    presence.now("ready")
    presence.forget()
    assert presence.due("ready", after=9.0) is not None
