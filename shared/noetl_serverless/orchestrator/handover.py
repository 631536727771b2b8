"""Hands the commands that a commit issues to a worker in the same process, leased to it in that very commit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from ..engine import events as e
from ..playbook.plan import SHARED
from ..protocol import ClaimedCommand
from ..records import Claimant, CommitResult, ExecutionCommit, LoadedExecution
from ..telemetry import metrics
from .claims import Claims

logger = logging.getLogger(__name__)


class LocalWorker(Protocol):
    """A worker in this process. For the event loop that it works in."""

    def offer(self, limit: int) -> Claimant | None:
        """Reserve at most `limit` of its free slots, until `take` is called with it; None if none is free."""
        ...

    async def take(self, offer: Claimant, commands: Sequence[ClaimedCommand], plans: Mapping[str, str]) -> None:
        """Run these commands, which have been leased by this offer; none is an answer, too."""
        ...

    def knows(self) -> Sequence[str]:
        """The hashes of the plans that it need not be told."""
        ...


class Handover:
    """Without a worker, every command waits for a claim."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        # by pool
        self._workers: dict[str, LocalWorker] = {}

    def connect(self, worker: LocalWorker, pool: str) -> None:
        self._workers[pool] = worker

    def offer(self, commits: Sequence[ExecutionCommit]) -> Claimant | None:
        """The claimant of what the commits issue: a worker of one pool, that of the largest part for which there is
        one."""
        if not self._workers:
            return None
        issued = Counter(
            commit.pool_of(event.step or "") if commit.pool_of else SHARED
            for commit in commits
            if commit.execution.state.paused is None
            for event in commit.events
            if event.type == e.ISSUED
        )
        for pool, count in sorted(issued.items(), key=lambda item: -item[1]):
            if (worker := self._workers.get(pool)) is not None and (offer := worker.offer(count)) is not None:
                return offer
        return None

    async def complete(
        self, offer: Claimant, result: CommitResult | None, executions: Mapping[str, LoadedExecution]
    ) -> None:
        """Hand over what has been leased; `result` is None if the commit failed."""
        worker = self._workers[offer.pool]
        commands, plans = await self._leased(worker, result, executions)
        try:
            await worker.take(offer, commands, plans)
        except Exception:
            _log_failure()

    async def _leased(
        self, worker: LocalWorker, result: CommitResult | None, executions: Mapping[str, LoadedExecution]
    ) -> tuple[list[ClaimedCommand], dict[str, str]]:
        if result is None or not result.leases:
            return [], {}
        try:
            commands = await self._claims.to_commands(result.leases, executions)
            return commands, await self._claims.playbook_texts(commands, worker.knows())
        except Exception:
            _log_failure()
            return [], {}


def _log_failure() -> None:
    """The commit is good; the leases expire."""
    metrics.isolated_failures.labels("handover").inc()
    logger.exception("commands could not be handed over")
