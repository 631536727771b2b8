"""What an instance of a function tells the registry of itself, and how often: never with each call."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from .. import __version__
from ..protocol import Instance, Kind

# seconds since the last time after which it goes with a call that is made anyway, or by itself
FOLDED_AFTER_SECONDS: Final = 9.0
ALONE_AFTER_SECONDS: Final = 15.0

Status = Literal["ready", "busy", "idle", "ended"]


def instance_id() -> str:
    """One for each process and function in it."""
    return f"{socket.gethostname()[:100]}:{os.getpid()}:{secrets.token_hex(4)}"


def described(kind: Kind, name: str, *, meta: Mapping[str, Any], **fields: Any) -> Instance:
    """An instance in this process."""
    return Instance(
        kind=kind,
        name=name,
        status="idle",
        version=__version__,
        hostname=socket.gethostname()[:100],
        meta=dict(meta),
        **fields,
    )


class Presence:
    def __init__(self, instance: Instance, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: in seconds."""
        self._instance = instance
        self._clock = clock
        self._sent_at: float | None = None
        # the status that the registry was told last
        self.shown: Status | None = None

    def due(self, status: Status, running: int | None = None, *, after: float) -> Instance | None:
        """What to tell, if it is at least so many seconds since the last time."""
        if self._sent_at is not None and self._clock() - self._sent_at < after:
            return None
        return self.now(status, running)

    def now(self, status: Status, running: int | None = None) -> Instance:
        self._sent_at, self.shown = self._clock(), status
        # a server may have loaded the function before it forked
        shown = {"status": status, "running": running, "pid": os.getpid()}
        return self._instance.model_copy(update=shown)

    def forget(self) -> None:
        """What was to be told did not arrive."""
        self._sent_at = None
