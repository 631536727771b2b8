"""Logs and states outlive the code that wrote them: older schema versions are converted when they are read.

A payload has its version under the key `v`; without the key it is version 1. An upcaster converts the payload of one
event type from one version to the next. Golden logs keep each released version readable. The version of a state is
stored beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .canonical import checksum
from .events import Event
from .state import State

# the version of the payloads that this code writes, and the latest of the states that it reads: see `State.version`
VERSION = 1
STATE_VERSION = 2
FIRST_VERSION = 1
# incremented once in a release that writes anything differently from the one before, even a field that older code
# ignores; the two versions above are for what older code must not read
FORMS = 2
KEY = "v"

Upcaster = Callable[[Mapping[str, Any]], dict[str, Any]]


class NewerSchema(ValueError):
    """The log was written by a newer release than this one."""


class Upcasters:
    """By event type and the version they start from; without one, a payload passes to the next version unchanged."""

    def __init__(self, version: int = VERSION) -> None:
        self.version = version
        self._steps: dict[tuple[str, int], Upcaster] = {}

    def add(self, kind: str, version: int, upcaster: Upcaster) -> None:
        """Raises ValueError if there is one already, or if `version` is not an earlier one."""
        if (kind, version) in self._steps:
            raise ValueError(f"there is an upcaster of {kind} from version {version} already")
        if not FIRST_VERSION <= version < self.version:
            raise ValueError(f"an upcaster starts from a version from {FIRST_VERSION} to {self.version - 1}")
        self._steps[kind, version] = upcaster

    def current(self, event: Event) -> Event:
        """The event in today's schema; raises NewerSchema."""
        version = event.payload.get(KEY, FIRST_VERSION)
        if version == self.version:
            return event
        if version > self.version:
            raise NewerSchema(f"event {event.seq} ({event.type}) has schema version {version}, known is {self.version}")
        payload = dict(event.payload)
        for step in range(version, self.version):
            upcaster = self._steps.get((event.type, step))
            if upcaster is not None:
                payload = upcaster(payload)
        return replace(event, payload={**payload, KEY: self.version})

    def digest(self) -> str:
        """Identifies the set of upcasters: states folded through different sets may differ."""
        return checksum({"version": self.version, "upcasters": sorted(f"{kind}@{v}" for kind, v in self._steps)})


UPCASTERS = Upcasters()


class States:
    """Upcasters of states, by the version they start from."""

    def __init__(self, version: int = STATE_VERSION) -> None:
        self.version = version
        self._steps: dict[int, Upcaster] = {}

    def add(self, version: int, upcaster: Upcaster) -> None:
        self._steps[version] = upcaster

    def restore(self, snapshot: Mapping[str, Any], version: int, workload: Mapping[str, Any]) -> State:
        """The state that was stored as `snapshot` in `version`; raises NewerSchema."""
        if version > self.version:
            raise NewerSchema(f"the state has schema version {version}, known is {self.version}")
        for step in range(version, self.version):
            if (upcaster := self._steps.get(step)) is not None:
                snapshot = upcaster(snapshot)
        return State.restore(snapshot, workload)


STATES = States()
