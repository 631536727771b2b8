"""How long a worker can be sure that it holds a command."""

from __future__ import annotations

import asyncio
import math


class Lease:
    """Its time counts from when the last call that granted or extended it was sent, not answered: after that time, the
    control plane may have leased the command to another worker. All times are those of the loop's clock."""

    __slots__ = ("heartbeat_seconds", "seconds", "until")

    def __init__(self, until: float = math.inf) -> None:
        self.until = until
        # of the command's own: None for those of the worker
        self.seconds: float | None = None
        self.heartbeat_seconds: float | None = None

    def prolong(self, until: float) -> None:
        """Never shortens the lease: answers may arrive in another order than their calls were sent."""
        self.until = max(self.until, until)

    @property
    def has_expired(self) -> bool:
        return asyncio.get_running_loop().time() >= self.until

    def check(self) -> None:
        """Call this before anything that has an effect: the heartbeat cancels expired commands, maybe a moment late.

        Raises CancelledError."""
        if self.has_expired:
            raise asyncio.CancelledError
