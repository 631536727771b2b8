"""Leases are kept alive while their commands run, or their outcomes are on the way; what outlives it is stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ...errors import Problem
from ...protocol import HeartbeatRequest, Held
from ..execution.lease import Lease
from .keys import Key, key_of, names_of

if TYPE_CHECKING:
    from .drain import Drain

logger = logging.getLogger(__name__)

MAX_COMMANDS = 1000
# so often in the time of a lease what is new is looked at
CHECKS_PER_LEASE = 20


async def send_heartbeats(shift: Drain) -> None:
    """Three times in the time of a lease, in one call for all; until cancelled."""
    lease = shift.worker.settings.lease
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        # one that was long in vain leaves time for another before the leases run out
        due = max(due + lease / 3, loop.time())
        await asyncio.sleep(due - loop.time())
        # of an execution whose steps run ahead, one lease stands for all of them
        running = [each for key, each in shift.running.items() if not shift.speculative_runs.run_with(key)]
        leases = {key_of(each.command): each.lease for each in running} | shift.speculative_runs.leases()
        held = [Held.of(each.command) for each in running]
        held += [Held.of(anchor) for anchor in shift.speculative_runs.leased_commands()]
        held += [Held.of(outcome) for outcome in shift.unanswered.values()]
        for start in range(0, len(held), MAX_COMMANDS):
            await _heartbeat(shift, held[start : start + MAX_COMMANDS], leases, lease)


async def _heartbeat(shift: Drain, held: list[Held], leases: Mapping[Key, Lease], lease: float) -> None:
    request = HeartbeatRequest(worker_id=shift.worker.id, commands=held, lease=lease)
    sent = asyncio.get_running_loop().time()
    try:
        answer = await shift.worker.client.heartbeat(request, within=lease / 3)
    except Problem as problem:
        logger.warning("a heartbeat was not heard: %s", problem.detail)
        return
    shift.note_answer()
    fences = {key_of(each): each.fence for each in held}
    lost = {key_of(key) for key in answer.lost}
    for key in fences.keys() - lost:
        if key in leases:
            leases[key].prolong(sent + lease)
    for named in answer.lost:
        if shift.speculative_runs.lease_lost(key_of(named), fences.get(key_of(named))):
            continue
        running = shift.running.get(key_of(named))
        # while we asked, it may have come back to us under a new fence
        if running is not None and running.command.fence == fences.get(key_of(named)):
            logger.warning("a command is no longer ours", extra=names_of(named))
            shift.abandon(running)


async def stop_expired(shift: Drain) -> None:
    """Stop what its lease has run out for, unheard; until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        look = loop.time() + shift.worker.settings.lease / CHECKS_PER_LEASE
        nearest = min((running.lease.until for running in shift.running.values()), default=look)
        await asyncio.sleep(min(look, nearest) - loop.time())
        for running in [each for each in shift.running.values() if each.lease.has_expired]:
            logger.warning("a lease ran out: nobody heard that we hold it", extra=names_of(running.command))
            if not shift.speculative_runs.lease_expired(running.command):
                shift.abandon(running)
