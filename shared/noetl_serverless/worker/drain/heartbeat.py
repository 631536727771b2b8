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


async def send_heartbeats(drain: Drain) -> None:
    """Three times in the time of a lease, in one call for all; until cancelled."""
    lease = drain.worker.settings.lease
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        # one that was long in vain leaves time for another before the leases run out
        due = max(due + lease / 3, loop.time())
        await asyncio.sleep(due - loop.time())
        # of an execution whose steps run ahead, one lease stands for all of them
        running = [each for key, each in drain.running.items() if not drain.speculative_runs.run_with(key)]
        leases = {key_of(each.command): each.lease for each in running} | drain.speculative_runs.leases()
        held = [Held.of(each.command) for each in running]
        held += [Held.of(leased) for leased in drain.speculative_runs.leased_commands()]
        held += [Held.of(outcome) for outcome in drain.unanswered.values()]
        for start in range(0, len(held), MAX_COMMANDS):
            await _heartbeat(drain, held[start : start + MAX_COMMANDS], leases, lease)


async def _heartbeat(drain: Drain, held: list[Held], leases: Mapping[Key, Lease], lease: float) -> None:
    request = HeartbeatRequest(worker_id=drain.worker.id, commands=held, lease=lease)
    sent = asyncio.get_running_loop().time()
    try:
        answer = await drain.worker.client.heartbeat(request, within=lease / 3)
    except Problem as problem:
        logger.warning("a heartbeat was not heard: %s", problem.detail)
        return
    drain.note_answer()
    fences = {key_of(each): each.fence for each in held}
    lost = {key_of(key) for key in answer.lost}
    for key in fences.keys() - lost:
        if key in leases:
            leases[key].prolong(sent + lease)
    for named in answer.lost:
        if drain.speculative_runs.lease_lost(key_of(named), fences.get(key_of(named))):
            continue
        running = drain.running.get(key_of(named))
        # while we asked, it may have come back to us under a new fence
        if running is not None and running.command.fence == fences.get(key_of(named)):
            logger.warning("a command is no longer ours", extra=names_of(named))
            drain.abandon(running)


async def stop_expired(drain: Drain) -> None:
    """Stop what its lease has run out for, unheard; until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        look = loop.time() + drain.worker.settings.lease / CHECKS_PER_LEASE
        nearest = min((running.lease.until for running in drain.running.values()), default=look)
        await asyncio.sleep(min(look, nearest) - loop.time())
        for running in [each for each in drain.running.values() if each.lease.has_expired]:
            logger.warning("a lease ran out: nobody heard that we hold it", extra=names_of(running.command))
            if not drain.speculative_runs.lease_expired(running.command):
                drain.abandon(running)
