"""What a drain did."""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol import Outcome


@dataclass(slots=True)
class Summary:
    """`more`: work may be left that no notification announces; `speculative`: commands that ran before their claim."""

    claimed: int = 0
    done: int = 0
    failed: int = 0
    suspended: int = 0
    released: int = 0
    lost: int = 0
    refused: int = 0
    unreported: int = 0
    speculative: int = 0
    more: bool = False

    def count(self, outcome: Outcome) -> None:
        match outcome.status:
            case "done":
                self.done += 1
            case "error":
                self.failed += 1
            case "deferred" | "parked":
                self.suspended += 1
            case "released":
                self.released += 1

    def count_unreported(self, outcomes: int) -> None:
        """The leases of their commands expire, and whoever looks next finds them."""
        self.unreported += outcomes
        self.more = True
