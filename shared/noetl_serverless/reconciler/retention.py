"""Archives executions, and deletes expired executions, results (see `collection`), cached secrets, and the events of
archived or deleted executions.

A pass does at most one of these tasks, for a short time; when more is left, the task is due again at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from time import monotonic

from ..results.stores import ResultStores
from ..store.archives import Archives, ExpiringBatch
from ..store.maintenance import MaintenanceTask, MaintenanceTasks
from ..store.triggers import Triggers
from .collection import (
    GRACE_SECONDS,
    NOTHING,
    STORE_PAUSE_SECONDS,
    STORE_TIMEOUT_SECONDS,
    Collected,
    StoreCollector,
    Stores,
)

logger = logging.getLogger(__name__)

# how long one task may run in a pass, in seconds; it finishes the item that it has begun
TASK_SECONDS = 0.4
# seconds until a task that found nothing more to do is due again
TASK_PAUSE_SECONDS = 600.0
# seconds until a worker that was invoked for the archive is invoked again
NOTIFY_AGAIN_SECONDS = 60.0
# batches that may wait for their files at once
MAX_WAITING_BATCHES = 8
# executions of one batch that expires: their results are deleted one by one
MAX_EXPIRING_EXECUTIONS = 100
MAX_ITEMS = 50
# cached secrets of executions that are looked at in one pass: more than one execution can have
MAX_SECRETS = 500
MAX_RUNTIMES = 1000
# events of triggers that are deleted at once, and how long they are kept once they are settled, dead letters too
MAX_TRIGGER_EVENTS = 1000
TRIGGER_HISTORY_DAYS = 90.0
# what limits have counted that is forgotten in one pass
MAX_COUNTED = 5000

Counts = dict[str, int]


class Retention:
    """`stores` makes the result stores, when something is first deleted from one. 0 days means never."""

    def __init__(
        self,
        archives: Archives,
        tasks: MaintenanceTasks,
        stores: Callable[[], ResultStores],
        invoke_worker: Callable[[], Awaitable[None]],
        *,
        archive_after_days: float = 0.0,
        retention_days: float = 0.0,
        result_ttl_days: float = 0.0,
        triggers: Triggers | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._archives = archives
        self._tasks = tasks
        self._stores = stores
        self._collection = Stores(tasks, now)
        self._invoke_worker = invoke_worker
        self._archive_after = archive_after_days
        self._retention = retention_days
        self._result_ttl = result_ttl_days
        self._triggers = triggers
        self._now = now
        self._until = 0.0

    async def run_next_task(self) -> Counts:
        """Do some of the task that has been due longest; returns how much was done, by kind."""
        task = await self._tasks.claim(TASK_PAUSE_SECONDS)
        if task is None:
            return {}
        self._until = monotonic() + TASK_SECONDS
        match task.name:
            case "archive":
                return await self._archive(task)
            case "expire":
                return await self._expire(task)
            case "results":
                return await self._results(task)
            case "orphans":
                return await self._orphans(task)
            case "strays":
                return await self._strays(task)
            case "purge":
                return await self._purge(task)
            case "keychain":
                return await self._secrets(task)
            case "runtime":
                return await self._runtimes(task)
            case "triggers":
                return await self._trigger_events(task)
            case "limits":
                return await self._limits(task)
        return {}

    # -- archiving

    async def _archive(self, task: MaintenanceTask) -> Counts:
        pending, unleased = await self._archives.count_planned()
        planned = 0
        while self._archive_after > 0 and pending + planned < MAX_WAITING_BATCHES and self._has_time():
            if await self._archives.plan("archive", self._cutoff(self._archive_after)) is None:
                break
            planned += 1
        if planned or unleased:
            await self._invoke_worker()
        if planned or pending:
            await self._tasks.reschedule(task.name, NOTIFY_AGAIN_SECONDS)
        return {"batches_planned": planned}

    # -- deletion of executions

    async def _expire(self, task: MaintenanceTask) -> Counts:
        batches = await self._archives.expiring(MAX_ITEMS)
        if not batches and self._retention > 0:
            cutoff = self._cutoff(self._retention)
            await self._archives.mark_expired(cutoff, 1)
            await self._archives.plan("expiry", cutoff, max_executions=MAX_EXPIRING_EXECUTIONS)
            batches = await self._archives.expiring(MAX_ITEMS)
        deleted = 0
        delay = 0.0
        for batch in batches:
            if not await self._delete_results_of(task, batch):
                break
            if await self._delete_files(batch):
                await self._delete_batch(batch)
                deleted += len(batch.ids)
            else:
                delay = STORE_PAUSE_SECONDS
        await self._archives.delete_rows()
        if batches:
            await self._tasks.reschedule(task.name, delay)
        if deleted:
            # their events are deleted next
            await self._tasks.reschedule("purge")
        return {"executions_expired": deleted}

    async def _delete_results_of(self, task: MaintenanceTask, batch: ExpiringBatch) -> bool:
        """False if time ran out; the next pass then continues. What a store has that cannot be used now is found later,
        when nothing is known of its executions any more."""
        is_done = True

        async def delete(collector: StoreCollector) -> Collected:
            nonlocal is_done
            is_done &= await collector.delete_all(batch.ids, f"batch {batch.archive_id}")
            return NOTHING

        await self._at_each_store(task, delete)
        return is_done

    async def _delete_files(self, batch: ExpiringBatch) -> bool:
        """False if the store of the archive cannot be used."""
        try:
            for file in (batch.files or {}).values():
                async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                    await self._stores().objects().delete(file["key"])
        except Exception as error:
            logger.warning("the files of batch %s of the archive cannot be deleted now: %r", batch.archive_id, error)
            return False
        return True

    async def _delete_batch(self, batch: ExpiringBatch) -> None:
        if batch.status == "planned":
            await self._archives.register(batch.archive_id, batch.attempt, None)
        else:
            await self._archives.clear_files(batch.archive_id)

    # -- results

    async def _results(self, task: MaintenanceTask) -> Counts:
        expired = await self._at_each_store(task, StoreCollector.delete_expired)
        deleted = await self._at_each_store(task, StoreCollector.finish_deletions)
        done = NOTHING
        if self._result_ttl > 0:
            cutoff = self._cutoff(self._result_ttl)
            done = await self._at_each_store(task, lambda it: it.collect_ended(cutoff, it.delete_all))
        await self._continue(task, expired.more_in, deleted.more_in, done.more_in)
        counts = {"results_expired": expired.done, "result_deletions_finished": deleted.done}
        return {**counts, "executions_without_results": done.done}

    async def _orphans(self, task: MaintenanceTask) -> Counts:
        cutoff = self._now() - timedelta(seconds=GRACE_SECONDS)
        done = await self._at_each_store(task, lambda it: it.collect_ended(cutoff, it.delete_orphans))
        await self._continue(task, done.more_in)
        return {"executions_without_orphans": done.done}

    async def _strays(self, task: MaintenanceTask) -> Counts:
        done = await self._at_each_store(task, StoreCollector.search_strays)
        await self._continue(task, done.more_in)
        return {"unknown_executions_cleared": done.done}

    async def _at_each_store(
        self, task: MaintenanceTask, work: Callable[[StoreCollector], Awaitable[Collected]]
    ) -> Collected:
        try:
            return await self._collection.each(list(self._stores()), task.position, self._has_time, work)
        finally:
            await self._tasks.save_position(task.name, task.position)

    async def _continue(self, task: MaintenanceTask, *waits: float | None) -> None:
        """`waits`: in how many seconds there is more to do, None if there is not."""
        if known := [wait for wait in waits if wait is not None]:
            await self._tasks.reschedule(task.name, min(known))

    # -- cached secrets

    async def _secrets(self, task: MaintenanceTask) -> Counts:
        expired = await self._tasks.delete_expired_secrets(MAX_ITEMS)
        ended, after = await self._tasks.delete_secrets_of_ended(int(task.position.get("after", 0)), MAX_SECRETS)
        task.position["after"] = after or 0
        await self._tasks.save_position(task.name, task.position)
        if after is not None or expired == MAX_ITEMS:
            await self._tasks.reschedule(task.name)
        return {"secrets_expired": expired, "secrets_of_ended": ended}

    # -- the registry

    async def _runtimes(self, task: MaintenanceTask) -> Counts:
        forgotten = await self._tasks.forget_runtimes(MAX_RUNTIMES)
        if forgotten == MAX_RUNTIMES:
            await self._tasks.reschedule(task.name)
        return {"runtimes_forgotten": forgotten}

    # -- events of triggers

    async def _trigger_events(self, task: MaintenanceTask) -> Counts:
        if self._triggers is None:
            return {}
        deleted = await self._triggers.prune(self._cutoff(TRIGGER_HISTORY_DAYS), MAX_TRIGGER_EVENTS)
        if deleted == MAX_TRIGGER_EVENTS:
            await self._tasks.reschedule(task.name)
        return {"trigger_events_expired": deleted}

    # -- limits

    async def _limits(self, task: MaintenanceTask) -> Counts:
        pruned = await self._tasks.prune_limits(MAX_COUNTED)
        if pruned >= MAX_COUNTED:
            await self._tasks.reschedule(task.name)
        return {"limits_pruned": pruned}

    # -- events

    async def _purge(self, task: MaintenanceTask) -> Counts:
        dropped = await self._archives.drop_partitions()
        for name in dropped:
            logger.info("dropped the partition %s: all its executions were archived or deleted", name)
        deleted = await self._archives.purge()
        await self._archives.delete_rows()
        if deleted is not None:
            await self._tasks.reschedule(task.name)
        return {"partitions_dropped": len(dropped), "events_purged": deleted or 0}

    def _cutoff(self, days: float) -> datetime:
        return self._now() - timedelta(days=days)

    def _has_time(self) -> bool:
        return monotonic() < self._until
