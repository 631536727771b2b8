"""How long what runs is surely this worker's."""

from __future__ import annotations

import asyncio
import math


class Lease:
    """It runs out so many seconds after the last call that gave or prolonged it was sent, not answered: by then the
    control plane may have given the command to another. All times are those of the loop's clock."""

    __slots__ = ("until",)

    def __init__(self, until: float = math.inf) -> None:
        self.until = until

    def prolong(self, until: float) -> None:
        """Answers may come in another order than what they answer."""
        self.until = max(self.until, until)

    @property
    def has_expired(self) -> bool:
        return asyncio.get_running_loop().time() >= self.until

    def check(self) -> None:
        """Before anything begins that has an effect: the heart cancels what is over, but may come a moment late.

        Raises CancelledError."""
        if self.has_expired:
            raise asyncio.CancelledError
