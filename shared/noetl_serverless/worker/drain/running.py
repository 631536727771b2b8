"""A command that runs, or is about to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ...protocol import ClaimedCommand
from ..execution.lease import Lease


@dataclass(slots=True, eq=False)
class Running:
    command: ClaimedCommand
    lease: Lease
    task: asyncio.Task[None] | None = None
    # no longer held by this worker: its outcome is discarded
    is_lease_lost: bool = False
