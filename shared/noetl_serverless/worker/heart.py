"""Leases are kept alive while their commands run, or their outcomes are on the way."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ..errors import Problem
from ..protocol import ClaimedCommand, HeartbeatRequest, Held, Outcome
from .keys import key_of, names_of

if TYPE_CHECKING:
    from .shift import Shift

logger = logging.getLogger(__name__)

MOST = 1000


async def beat(shift: Shift) -> None:
    """Three times in the time of a lease, in one call for all; until cancelled."""
    lease = shift.worker.settings.lease
    while True:
        await asyncio.sleep(lease / 3)
        # of an execution whose steps run ahead, one lease stands for all of them
        held = [_held(running.command) for key, running in shift.running.items() if not shift.chains.holds(key)]
        held += [_held(anchor) for anchor in shift.chains.anchors()]
        held += [_held(outcome) for outcome in shift.unanswered.values()]
        for start in range(0, len(held), MOST):
            await _keep(shift, held[start : start + MOST], lease)


async def _keep(shift: Shift, held: list[Held], lease: float) -> None:
    request = HeartbeatRequest(worker_id=shift.worker.id, commands=held, lease=lease)
    try:
        answer = await shift.worker.client.heartbeat(request, within=lease / 3)
    except Problem as problem:
        logger.warning("a heartbeat was not heard: %s", problem.detail)
        return
    shift.heard()
    fences = {key_of(each): each.fence for each in held}
    for key in answer.lost:
        if shift.chains.lost(key_of(key), fences.get(key_of(key))):
            continue
        running = shift.running.get(key_of(key))
        # while we asked, it may have come back to us under a new fence
        if running is not None and running.command.fence == fences.get(key_of(key)):
            logger.warning("a command is no longer ours", extra=names_of(key))
            shift.lose(running)


def _held(named: ClaimedCommand | Outcome) -> Held:
    return Held(execution_id=named.execution_id, command_id=named.command_id, fence=named.fence)
