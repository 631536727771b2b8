"""Keep leases alive while commands run or outcomes are being reported; stop commands that outlive their lease."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping

from ...errors import Problem
from ...protocol import Held
from ..execution.lease import Lease
from .calls import Calls
from .keys import Key, key_of, names_of
from .reporter import Reporter
from .running import Running
from .slots import Slots
from .speculative_runs import SpeculativeRuns

logger = logging.getLogger(__name__)

MAX_COMMANDS = 1000
# how often in the time of a lease newly begun commands are noticed
CHECKS_PER_LEASE = 20
# after how many seconds a command that asks for more frequent heartbeats is noticed at the latest
NOTICED_SECONDS = 1.0


class Heartbeat:
    def __init__(
        self,
        calls: Calls,
        slots: Slots,
        reporter: Reporter,
        speculative_runs: SpeculativeRuns,
        abandon: Callable[[Running], None],
    ) -> None:
        """`abandon`: stop a command that this worker no longer holds."""
        self._calls = calls
        self._slots = slots
        self._reporter = reporter
        self._speculative_runs = speculative_runs
        self._abandon = abandon

    async def send(self) -> None:
        """Send heartbeats three times in the time of a lease, or more often if a command asks for that, for
        MAX_COMMANDS commands per call, until cancelled."""
        lease = self._calls.lease_seconds
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        while True:
            last_at = next_at
            while True:
                # even after a heartbeat that timed out, there is time for another before the leases expire
                next_at = max(last_at + min(lease / 3, self._shortest_pause()), loop.time())
                await asyncio.sleep(min(next_at - loop.time(), NOTICED_SECONDS))
                if loop.time() >= next_at:
                    break
            # the steps of a speculative run share one lease
            unshared = [
                running for key, running in self._slots.running.items() if not self._speculative_runs.run_with(key)
            ]
            leases = {key_of(running.command): running.lease for running in unshared} | self._speculative_runs.leases()
            held = [Held.of(running.command) for running in unshared]
            held += [Held.of(leased) for leased in self._speculative_runs.leased_commands()]
            held += [Held.of(outcome) for outcome in self._reporter.unanswered.values()]
            by_seconds: dict[float, list[Held]] = {}
            for command in held:
                by_seconds.setdefault(self._seconds(leases.get(key_of(command))), []).append(command)
            for seconds, commands in by_seconds.items():
                for start in range(0, len(commands), MAX_COMMANDS):
                    await self._send_once(commands[start : start + MAX_COMMANDS], leases, seconds)

    def _shortest_pause(self) -> float:
        wanted = (running.lease.heartbeat_seconds for running in self._slots.running.values())
        return min((seconds for seconds in wanted if seconds is not None), default=math.inf)

    def _seconds(self, lease: Lease | None) -> float:
        """A command may ask for a longer lease. Not for a shorter one: it was granted longer, and may rely on it."""
        return max(self._calls.lease_seconds, (lease and lease.seconds) or 0.0)

    async def _send_once(self, held: list[Held], leases: Mapping[Key, Lease], seconds: float) -> None:
        sent = asyncio.get_running_loop().time()
        try:
            answer = await self._calls.heartbeat(held, seconds)
        except Problem as problem:
            logger.warning("a heartbeat failed: %s", problem.detail)
            return
        fences = {key_of(command): command.fence for command in held}
        lost = {key_of(key) for key in answer.lost}
        for key in fences.keys() - lost:
            if key in leases:
                leases[key].prolong(self._calls.lease_end(sent, seconds))
        for lost_key in answer.lost:
            if self._speculative_runs.lease_lost(key_of(lost_key), fences.get(key_of(lost_key))):
                continue
            running = self._slots.running.get(key_of(lost_key))
            # meanwhile this worker may have leased it again under a new fence
            if running is not None and running.command.fence == fences.get(key_of(lost_key)):
                logger.warning("the lease of a command was lost", extra=names_of(lost_key))
                self._abandon(running)

    async def stop_expired(self) -> None:
        """Stop commands whose lease has expired without a successful heartbeat, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            next_check = loop.time() + self._calls.lease_seconds / CHECKS_PER_LEASE
            next_expiry = min((running.lease.until for running in self._slots.running.values()), default=next_check)
            await asyncio.sleep(min(next_check, next_expiry) - loop.time())
            for running in [candidate for candidate in self._slots.running.values() if candidate.lease.has_expired]:
                logger.warning("a lease expired without a successful heartbeat", extra=names_of(running.command))
                if not self._speculative_runs.lease_expired(running.command):
                    self._abandon(running)
