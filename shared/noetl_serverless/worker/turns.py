"""When a slot goes to whoever waits, though what follows from what ends in the slots would take all of them."""

from __future__ import annotations

# the pause between two turns, in seconds, and the longest one, while nobody else is found to wait
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 0.8


class Turns:
    """A turn costs a call, and a round trip of the work that the slot was kept from: where a loop is all that there is,
    turns become rare, and are frequent again once somebody else is found, or heard of."""

    def __init__(self, now: float) -> None:
        self._last = now
        self._pause = FIRST_PAUSE
        # a slot was left free for whoever waits
        self.due = False

    def comes(self, now: float) -> bool:
        """Whether the pause is over; then the turn is due, and the next pause begins."""
        if now - self._last < self._pause:
            return False
        self._last = now
        self.due = True
        return True

    def take(self) -> None:
        self.due = False

    def found(self, others: bool) -> None:
        """Whether the turn was that of an execution that has no other slot."""
        self._pause = FIRST_PAUSE if others else min(self._pause * 2, LONGEST_PAUSE)

    def hear(self) -> None:
        """Somebody else waits."""
        self._pause = FIRST_PAUSE
