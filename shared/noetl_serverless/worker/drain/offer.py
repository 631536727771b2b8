"""Slots that are reserved for what a commit in this process issues."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from ...records import Claimant


@dataclass(frozen=True, slots=True)
class Offer(Claimant):
    """`offered_at`: no later than the leases begin, by the loop's clock."""

    _: KW_ONLY
    offered_at: float
