"""The worker's part of archiving: claim a batch, write its files, register them, and repeat."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from ..archive.messages import (
    Batch,
    ClaimBatch,
    ClaimedBatch,
    EventRow,
    EventsPage,
    ExecutionsPage,
    Extend,
    Extended,
    Fail,
    Failed,
    Register,
    Registered,
)
from ..archive.write import WrittenBatch, write_batch
from ..errors import Problem, Unavailable
from ..ports import ResultStore
from .client import ControlPlane

logger = logging.getLogger(__name__)

LEASE_SECONDS = 120.0
# no batch is begun with less than this many seconds left
MIN_TIME_SECONDS = 60.0
REGISTRATION_SECONDS = 120.0


class LeaseLost(Exception):
    """Another attempt holds the batch now."""


@dataclass(slots=True)
class ArchiveSummary:
    registered: int = 0
    failed: int = 0
    # time ran out before the pending batches did
    more: bool = False


class ArchiveWriter:
    def __init__(self, client: ControlPlane, store: Callable[[], ResultStore], scratch: Path, worker_id: str) -> None:
        """`store`: called for each batch, which fails with what it raises."""
        self._client = client
        self._store = store
        self._scratch = scratch
        self._worker_id = worker_id
        self._busy = False

    async def run(self, seconds: float) -> ArchiveSummary:
        """Write batches until none is pending or `seconds` have nearly passed. A call during another does nothing."""
        summary = ArchiveSummary()
        if self._busy:
            return summary
        if importlib.util.find_spec("pyarrow") is None:
            logger.error("pyarrow is not installed in this worker: set NOETL_POOLS to the pool that writes the archive")
            return summary
        self._busy = True
        try:
            deadline = time.monotonic() + seconds
            while deadline - time.monotonic() > MIN_TIME_SECONDS:
                request = ClaimBatch(worker_id=self._worker_id, lease=LEASE_SECONDS)
                claimed = await self._client.call("POST", "/api/archives/claim", ClaimedBatch, request)
                if claimed.batch is None:
                    return summary
                if await self._archive(claimed.batch):
                    summary.registered += 1
                else:
                    summary.failed += 1
            summary.more = True
        except Unavailable as error:
            # the lease expires, and the batch is written again
            logger.warning("archiving is postponed: %s", error)
        finally:
            self._busy = False
        return summary

    async def _archive(self, batch: Batch) -> bool:
        log_fields = {"archive_id": batch.archive_id, "attempt": batch.attempt}
        try:
            written = await write_batch(batch, Pages(self._client, batch), self._store(), self._scratch)
            await self._register(batch, written)
        except (LeaseLost, Unavailable):
            logger.warning("the lease of an archive batch was lost", extra=log_fields)
            return False
        except Exception as error:
            # any error of a store or a file: the batch is retried, and the reason is reported
            logger.exception("a batch of the archive could not be written", extra=log_fields)
            request = Fail(attempt=batch.attempt, error=_reason(error))
            await self._client.call("POST", f"/api/archives/{batch.archive_id}/fail", Failed, request)
            return False
        logger.info("archived %d executions", batch.executions, extra=log_fields)
        return True

    async def _register(self, batch: Batch, written: WrittenBatch) -> None:
        request = Register(attempt=batch.attempt, files=written.files, executions=written.executions)
        path = f"/api/archives/{batch.archive_id}/register"
        answer = await self._client.call("POST", path, Registered, request, timeout=REGISTRATION_SECONDS)
        if answer.status == "stale":
            raise LeaseLost
        if answer.status != "registered":
            raise Problem("the files do not hold every event of the batch")


class Pages:
    """The rows of a batch, a page at a time. Fetching events extends the lease."""

    def __init__(self, client: ControlPlane, batch: Batch) -> None:
        self._client = client
        self._batch = batch
        self._extended = time.monotonic()

    async def executions(self, archive_id: str, after: str) -> Sequence[tuple[str, str]]:
        query = urlencode({"after": after})
        page = await self._client.call("GET", f"/api/archives/{archive_id}/executions?{query}", ExecutionsPage)
        return page.rows

    async def events(self, archive_id: str, after: str, seq: int) -> Sequence[EventRow]:
        await self._extend()
        query = urlencode({"after": after, "seq": seq})
        page = await self._client.call("GET", f"/api/archives/{archive_id}/events?{query}", EventsPage)
        return page.rows

    async def _extend(self) -> None:
        if time.monotonic() - self._extended < LEASE_SECONDS / 4:
            return
        request = Extend(attempt=self._batch.attempt, lease=LEASE_SECONDS)
        answer = await self._client.call("POST", f"/api/archives/{self._batch.archive_id}/extend", Extended, request)
        if not answer.held:
            raise LeaseLost
        self._extended = time.monotonic()


def _reason(error: Exception) -> str:
    return (str(error) if isinstance(error, Problem) else f"{type(error).__name__}: {error}")[:2000]
