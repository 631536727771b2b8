"""Deletes results, store by store, and what was stored without a row of `result_ref`.

A key begins with the id of the execution that the object belongs to, and a row names the store and the key. A row of
another execution (of one that returns the result of its sub-playbook) keeps the object, and never deletes it.

* A result with a time of its own is deleted GRACE_SECONDS after it, whether its execution runs or not.
* One of scope step is deleted GRACE_SECONDS after its execution has ended, with all those above it and all that go on
  with one of these.
* Those of scope execution and workflow are deleted NOETL_RESULT_TTL_DAYS after that: the result of a sub-playbook may
  be what the execution above it returned, so both end with the topmost execution. They go with their execution, too.
* One of scope permanent goes by its own time alone, or when somebody deletes it, which begins with a mark in its row:
  a deletion that has not come to its end is completed, that of a step's result with its execution.
* What a task accumulates is stored in parts, and in lists of these. A step's reports name those that were stored since
  the one before, so each has a row of its own, with the scope of the step's results and no time of its own: it stays as
  long as the result that it belongs to may. Those of a report that never came, of values that were replaced, and of
  items of a loop, whose results are stored whole, have no row, and are needed until the execution ends.
* What has no row is deleted with the results of scope step. Until its execution has ended, it may be needed: the
  records of the rows that a cursor claims; what suspended frames and pipelines go on with; the payload of a
  sub-playbook, which is copied into the row of that one when it starts; an object whose outcome is about to be
  committed; the file, chunks or parts of a write that is under way. Afterwards nobody reads any of it: an execution
  that goes on with this one takes over results, which have rows, and runs commands of its own. Whatever is to outlive
  its execution needs a row.
* Objects of executions of which the database knows nothing (deleted, or never committed) are looked for once a day.
  Only keys that begin with an id are looked at: archives, below `archive/`, belong to their batches.

In each case the mark comes first (the expiry, or `execution.results_kept`), then the object, then the row: what a crash
leaves is marked, and found by the next pass. Deleting twice does no harm, so that any number may do it at once. Whoever
reads an object while it is deleted gets all of it, or is told that it is gone: a key has the same bytes for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from time import monotonic
from typing import Any, Final, TypeVar

from ..engine.ids import EPOCH_MS
from ..errors import ResultStoreUnavailable
from ..ports import ResultStore
from ..store.maintenance import BEGINNING, MaintenanceTasks
from ..telemetry import metrics

logger = logging.getLogger(__name__)

T = TypeVar("T")
Position = dict[str, Any]

# how long an object outlives its reference, or the execution that alone needed it: as long as a worker runs at most,
# which began to read or to write just before (15 minutes), and five minutes for a clock that is behind
GRACE_SECONDS: Final = 20 * 60.0
# how old an execution of which nothing is known must be, by its id
STRAY_AGE: Final = timedelta(days=1)
# how long after one search for objects of such executions the next one begins
SEARCH_PAUSE: Final = timedelta(days=1)
# scopes whose results go with their execution, and those that are left when the results of steps have gone
OF_STEPS: Final = ("step",)
OF_EXECUTIONS: Final = ("step", "execution", "workflow")
# concurrent calls of one store
MAX_STORE_CALLS: Final = 16
# seconds that a store may take for one call
STORE_TIMEOUT_SECONDS: Final = 10.0
# how long a store that could not be used is left alone, in seconds
STORE_PAUSE_SECONDS: Final = 60.0
MAX_ITEMS: Final = 50
# keys of one execution, and of the search for strays, that are looked at together
MAX_KEYS: Final = 200
MAX_SEARCHED: Final = 1000
MAX_ROWS: Final = 1000
# the ids of executions come after this key, and before any that begins with a later character
BEFORE_IDS: Final = "/"
LAST_DIGIT: Final = "9"
MAX_ID: Final = 2**63


class StoreFailed(ResultStoreUnavailable):
    """A call of a store has failed."""


@dataclass(frozen=True, slots=True)
class Collected:
    """How much was done, and in how many seconds there is more to do: None if nothing is left."""

    done: int = 0
    more_in: float | None = None

    def __add__(self, other: Collected) -> Collected:
        waits = [it for it in (self.more_in, other.more_in) if it is not None]
        return Collected(self.done + other.done, min(waits, default=None))


NOTHING: Final = Collected()


class Stores:
    """Works at each store by itself, so that one that cannot be used does not hold up the others."""

    def __init__(self, tasks: MaintenanceTasks, now: Callable[[], datetime]) -> None:
        self._tasks = tasks
        self._now = now
        self._paused_until: dict[str, float] = {}

    async def each(
        self,
        stores: Sequence[ResultStore],
        position: Position,
        has_time: Callable[[], bool],
        work: Callable[[StoreCollector], Awaitable[Collected]],
    ) -> Collected:
        """`position`: of the task; that of each store is below it, under its name. Raises what the database raises."""
        at = position.setdefault("stores", {})
        # where the release before had come, which knew one store
        begun = {name: position[name] for name in ("at", "id") if name in position}
        collectors = [
            StoreCollector(store, self._tasks, at.setdefault(store.name, dict(begun)), has_time, self._now)
            for store in stores
        ]
        return sum(await _all(self._at(collector, work) for collector in collectors), NOTHING)

    async def _at(self, collector: StoreCollector, work: Callable[[StoreCollector], Awaitable[Collected]]) -> Collected:
        name = collector.store.name
        if (pause := self._paused_until.get(name, 0.0) - monotonic()) > 0:
            return Collected(0, pause)
        try:
            return await work(collector)
        except StoreFailed as failure:
            metrics.result_store_failures.labels(name).inc()
            logger.warning(
                "nothing is deleted from the result store %s for %d s: %s", name, STORE_PAUSE_SECONDS, failure
            )
            self._paused_until[name] = monotonic() + STORE_PAUSE_SECONDS
            return Collected(0, STORE_PAUSE_SECONDS)


class StoreCollector:
    """What one pass deletes from one store. `position`: how far it has come, changed in place."""

    def __init__(
        self,
        store: ResultStore,
        tasks: MaintenanceTasks,
        position: Position,
        has_time: Callable[[], bool],
        now: Callable[[], datetime],
    ) -> None:
        self.store = store
        self._tasks = tasks
        self._position = position
        self._has_time = has_time
        self._now = now

    # -- results with a time of their own, and those that users have deleted

    async def delete_expired(self) -> Collected:
        return await self._delete_found(self._tasks.expired_results)

    async def finish_deletions(self) -> Collected:
        """Delete what somebody was about to delete who has crashed, or whose store was away."""
        return await self._delete_found(self._tasks.deleted_results)

    async def _delete_found(self, find: Callable[[str, float, int], Awaitable[list[tuple[int, str]]]]) -> Collected:
        done = 0
        while True:
            rows = await find(self.store.name, GRACE_SECONDS, MAX_ITEMS)
            await self._delete_results(rows, ())
            done += len(rows)
            if len(rows) < MAX_ITEMS:
                return Collected(done)
            if not self._has_time():
                return Collected(done, 0.0)

    async def _delete_results(self, rows: Sequence[tuple[int, str]], ignored: Sequence[str]) -> None:
        """Delete the objects, then the rows, except those whose objects could not be deleted."""
        if not rows:
            return
        named = await self._tasks.named_results(self.store.name, [key for _, key in rows], GRACE_SECONDS, ignored)
        own = [key for id, key in rows if key not in named and key.startswith(f"{id}/")]
        failed = await self._try_to_delete(own)
        await self._tasks.delete_result_rows([row for row in rows if row[1] not in failed])
        if failed:
            raise next(iter(failed.values()))

    # -- what executions keep no longer

    async def collect_ended(
        self, cutoff: datetime, collect: Callable[[Sequence[int], str], Awaitable[bool]]
    ) -> Collected:
        """In the order of their ends, each execution with those below it, some of them at once. `collect` takes their
        ids, and a name for these; it returns False if time ran out."""
        position = self._position
        done = 0
        while True:
            at, id = position.get("at"), int(position.get("id", 0))
            after = (BEGINNING if at is None else datetime.fromisoformat(at), id)
            ended = await self._tasks.ended(after, cutoff, MAX_ITEMS)
            # the others are collected with the one above them, which may use their results until it ends
            if tops := [execution for execution in ended if execution.topmost]:
                ids = await self._tasks.families(tops)
                if not await collect(ids, f"families after {at} {id}"):
                    return Collected(done, 0.0)
            if ended:
                position.update(at=ended[-1].ended_at.isoformat(), id=ended[-1].execution_id)
            done += len(ended)
            if len(ended) < MAX_ITEMS:
                return Collected(done)
            if not self._has_time():
                return Collected(done, 0.0)

    async def delete_all(self, ids: Sequence[int], group: str) -> bool:
        """Delete all that was stored for these executions, but permanent results. False if time ran out."""

        async def collect(batch: Sequence[int]) -> bool:
            await self._tasks.keep_results(batch, "permanent", OF_EXECUTIONS)
            if not await self._clear(batch, OF_EXECUTIONS):
                return False
            while rows := await self._tasks.scoped_results(self.store.name, batch, OF_EXECUTIONS, MAX_ROWS):
                await self._tasks.delete_result_rows(rows)
                if len(rows) < MAX_ROWS:
                    break
                if not self._has_time():
                    return False
            return True

        return await self._in_batches(ids, group, collect)

    async def delete_orphans(self, ids: Sequence[int], group: str) -> bool:
        """Delete what executions that have ended keep no longer: results of scope step, and what has no row."""

        async def collect(batch: Sequence[int]) -> bool:
            while rows := await self._tasks.step_results(self.store.name, batch, MAX_KEYS):
                await self._tasks.keep_results(sorted({id for id, _ in rows}), "execution", OF_STEPS)
                await self._delete_results(rows, OF_STEPS)
                if len(rows) < MAX_KEYS:
                    break
                if not self._has_time():
                    return False
            return await self._clear(batch, ())

        return await self._in_batches(ids, group, collect)

    async def _in_batches(
        self, ids: Sequence[int], group: str, collect: Callable[[Sequence[int]], Awaitable[bool]]
    ) -> bool:
        position = self._position
        done = position.get("within", 0) if position.get("of") == group else 0
        remaining = [id for id in ids if id > done]
        for start in range(0, len(remaining), MAX_STORE_CALLS):
            if start and not self._has_time():
                return False
            batch = remaining[start : start + MAX_STORE_CALLS]
            if position.get("of") != group:
                position.pop("reached", None)
            position["of"] = group
            if not await collect(batch):
                return False
            position["within"] = batch[-1]
            position.pop("reached", None)
        for name in ("of", "within", "reached"):
            position.pop(name, None)
        return True

    # -- objects of unknown executions

    async def search_strays(self) -> Collected:
        """Look through the keys of all executions, a page at a time; begins anew a while after it came to the end."""
        position = self._position
        if (due := position.get("due")) is not None:
            pause = (datetime.fromisoformat(due) - self._now()).total_seconds()
            if pause > 0:
                return Collected(0, pause)
            position.clear()
        deleted = 0
        while True:
            ids, is_last = await self._next_ids(position.get("after", BEFORE_IDS))
            cleared, is_done = await self._clear_strays(ids)
            deleted += cleared
            if not is_done:
                return Collected(deleted, 0.0)
            if is_last:
                position.clear()
                position["due"] = (self._now() + SEARCH_PAUSE).isoformat()
                return Collected(deleted, SEARCH_PAUSE.total_seconds())
            if not self._has_time():
                return Collected(deleted, 0.0)

    async def _next_ids(self, after: str) -> tuple[list[str], bool]:
        """What the next keys begin with, as far as it may be an id; whether these are the last ones."""
        keys = await self._page("", after, MAX_SEARCHED)
        names = [key.partition("/")[0] for key in keys]
        ids = list(dict.fromkeys(name for name in names if name[:1] <= LAST_DIGIT))
        return ids, len(keys) < MAX_SEARCHED or names[-1][:1] > LAST_DIGIT

    async def _clear_strays(self, names: Sequence[str]) -> tuple[int, bool]:
        """How many unknown executions were cleared, and whether there was time for all of them."""
        last_ms = (self._now() - STRAY_AGE).timestamp() * 1000
        old = [int(name) for name in names if _is_id(name) and (int(name) >> 22) + EPOCH_MS < last_ms]
        unknown = set(await self._tasks.unknown_executions(old)) if old else set()
        strays = [name for name in names if _is_id(name) and int(name) in unknown]
        for start in range(0, len(strays), MAX_STORE_CALLS):
            batch = strays[start : start + MAX_STORE_CALLS]
            if (start and not self._has_time()) or not await self._clear([int(name) for name in batch], ()):
                return start, False
            self._position["after"] = _after_all_of(batch[-1])
            self._position.pop("reached", None)
        if names:
            self._position["after"] = _after_all_of(names[-1])
        return len(strays), True

    # -- objects

    async def _clear(self, ids: Sequence[int], ignored: Sequence[str]) -> bool:
        """Delete the objects of a few executions that no row of another scope than `ignored` names. False if time ran
        out: the position then records how far it has come."""
        reached: dict[str, str] = self._position.setdefault("reached", {})
        left = list(ids)
        while left:
            pages = await _all(self._page(f"{id}/", reached.get(str(id), "")) for id in left)
            keys = [key for page in pages for key in page]
            named: Collection[str] = ()
            if keys:
                named = await self._tasks.named_results(self.store.name, keys, GRACE_SECONDS, ignored)
            if not await self._delete([key for key in keys if key not in named]):
                return False
            for id, page in zip(left, pages, strict=True):
                if page:
                    reached[str(id)] = page[-1]
            left = [id for id, page in zip(left, pages, strict=True) if len(page) == MAX_KEYS]
            if left and not self._has_time():
                return False
        return True

    async def _page(self, prefix: str, after: str, limit: int = MAX_KEYS) -> list[str]:
        return await self._call(_first(self.store.list(prefix, after), limit))

    async def _delete(self, keys: Sequence[str]) -> bool:
        """False if time ran out before the last."""
        for start in range(0, len(keys), MAX_STORE_CALLS):
            if start and not self._has_time():
                return False
            if failed := await self._try_to_delete(keys[start : start + MAX_STORE_CALLS]):
                raise next(iter(failed.values()))
        return True

    async def _try_to_delete(self, keys: Sequence[str]) -> dict[str, StoreFailed]:
        """What could not be deleted, and why."""
        failed: dict[str, StoreFailed] = {}
        remaining = iter(dict.fromkeys(keys))
        while batch := list(islice(remaining, MAX_STORE_CALLS)):
            ends = await asyncio.gather(*(self._call(self.store.delete(key)) for key in batch), return_exceptions=True)
            failed |= {key: end for key, end in zip(batch, ends, strict=True) if isinstance(end, StoreFailed)}
            if other := [end for end in ends if isinstance(end, BaseException) and not isinstance(end, StoreFailed)]:
                raise other[0]
            metrics.results_deleted.inc(sum(end is None for end in ends))
            if len(failed) >= MAX_STORE_CALLS:
                # the store is away: waiting for each of the others would take too long
                failed |= {key: next(iter(failed.values())) for key in remaining}
        return failed

    async def _call(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                return await call
        except Exception as error:
            # whatever it is: the other stores, and the other tasks, do not wait for this one
            raise StoreFailed(f"{self.store.name}: {error!r}") from error


async def _first(keys: AsyncIterator[str], limit: int) -> list[str]:
    found: list[str] = []
    try:
        async for key in keys:
            found.append(key)
            if len(found) == limit:
                break
    finally:
        if isinstance(keys, AsyncGenerator):
            await keys.aclose()
    return found


async def _all(calls: Any) -> list[Any]:
    """The results of all; raises the first error once all have come to their ends."""
    ends = await asyncio.gather(*calls, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return ends


def _is_id(name: str) -> bool:
    """Whether it is an execution's id as it stands at the beginning of keys."""
    return name.isascii() and name.isdecimal() and str(int(name)) == name and int(name) < MAX_ID


def _after_all_of(name: str) -> str:
    """Comes after all keys of the folder `name`, and before all others that come after these: / is followed by 0."""
    return f"{name}0"
