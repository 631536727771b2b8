"""One random sequence of what workers, users and the reconciler do with results, while stores fail, held against the
model."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final
from unittest.mock import patch
from urllib.parse import unquote

from tests.integration.results.tier_deployment import Deployment
from tests.integration.results.tier_model import Found, Item, Model, Run
from tests.integration.results.tier_values import (
    CHUNK_BYTES,
    KV_BYTES,
    NAMES,
    Value,
    large_table,
    lists_of,
    size_of,
    text_value,
    value_of,
)
from tests.integration.results.tiers import FAULTS, Killed

from noetl_serverless.errors import AccessDenied, Unavailable
from noetl_serverless.limits import INLINE_BYTES
from noetl_serverless.ports import ResultStore
from noetl_serverless.results import retry
from noetl_serverless.results.content import Truncated
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.reader import ReferenceNotAvailable, Resolver
from noetl_serverless.results.reference import ResultUri
from noetl_serverless.results.retry import StoreFailed, retry_while_away

# also those that the deployment does not have
KINDS: Final = ("auto", "auto", "auto", "kv", "postgres", "db", "disk", "s3", "gcs", "object", "redis")
OBJECTS: Final = ("disk", "s3", "gcs", "object")
SCOPES: Final = ("step", "execution", "execution", "workflow", "permanent")
TTLS: Final = (None, None, None, None, 60.0, 600.0, 3600.0, 86400.0)
MOVES: Final = (timedelta(minutes=2), timedelta(minutes=12), timedelta(minutes=40), timedelta(hours=7))
# which lead to the reasons of a reference that cannot be read
REASONS: Final = {"expired": {"expired"}, "gone": {"missing"}, "either": {"expired", "missing"}, "value": set[str]()}


@dataclass
class Fault:
    tier: str
    kind: str
    lasting: bool

    def __str__(self) -> str:
        return f"{self.tier}: {self.kind}{' for long' if self.lasting else ''}"


class Altered:
    """A store whose objects are not what was written."""

    def __init__(self, inner: ResultStore, alter: Callable[[bytes], bytes]) -> None:
        self.name = inner.name
        self._inner = inner
        self._alter = alter

    async def get(self, key: str) -> bytes:
        return self._alter(await self._inner.get(key))

    async def get_file(self, key: str, file: int) -> int:
        return os.pwrite(file, self._alter(await self._inner.get(key)), 0)


class Story:
    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.random: Random = deployment.random
        self.model = Model()
        self.runs: list[Run] = []
        self.happened: list[str] = []
        self._number = 0
        self._operations: dict[Callable[[], Awaitable[None]], int] = {
            self.write: 10,
            self.read: 8,
            self.read_by_rest: 6,
            self.put: 4,
            self.list: 3,
            self.delete: 2,
            self.read_altered: 2,
            self.pass_time: 3,
            self.end_execution: 1,
        }

    async def tell(self, operations: int) -> None:
        for tier in self.deployment.tiers:
            await self.write_cut(tier)
        for size in (INLINE_BYTES, INLINE_BYTES + 1, KV_BYTES, KV_BYTES + 1):
            await self._write(
                await self._running(), text_value(self.random, size), Output(kind="kv", scope="permanent")
            )
        for _ in range(operations):
            (operation,) = self.random.choices([*self._operations], [*self._operations.values()])
            await operation()
        await self.finish()

    def note(self, text: str) -> None:
        self.happened.append(f"{self.deployment.now():%d %H:%M:%S} {text}")

    # -- faults

    def fault(self, *tiers: str, lasting: float = 0.3, likely: float = 0.35) -> Fault | None:
        if self.random.random() > likely:
            return None
        tier = self.random.choice(tiers or [*self.deployment.tiers])
        return Fault(tier, self.random.choice(FAULTS), self.random.random() < lasting)

    @contextlib.asynccontextmanager
    async def during(self, fault: Fault | None) -> AsyncIterator[None]:
        if fault is None:
            yield
            return
        # what lasts is not waited for, to save time
        with patch.object(retry, "MAX_WAIT_SECONDS", 0.4 if fault.lasting else 20.0):
            async with self.deployment.tiers[fault.tier].fault(fault.kind, self.random, lasting=fault.lasting):
                yield

    @staticmethod
    def _check_lasted(fault: Fault | None, error: BaseException) -> None:
        assert fault is not None and fault.lasting, f"a store that came back was not waited for: {error!r}"

    # -- a worker writes

    async def write(self) -> None:
        run, value = await self._running(), self._value()
        output = Output(
            select=[("$.n", "n")] if self.random.random() < 0.15 else (),
            kind=self.random.choice(KINDS),
            scope=self.random.choice(SCOPES),
            ttl=self.random.choice(TTLS),
            compression=self.random.choice((None, None, "gzip", "zstd")),
        )
        expected = self._expected_store(output.kind, 50_000 if value.content is None else len(value.content))
        fault = self.fault(*self.deployment.tiers, expected, expected, expected)
        crashes, pipelined = self.random.random() < 0.1, self.random.random() < 0.2
        await self._write(run, value, output, fault, crashes=crashes, pipelined=pipelined)

    async def _write(
        self,
        run: Run,
        value: Value,
        output: Output,
        fault: Fault | None = None,
        *,
        crashes: bool = False,
        pipelined: bool = False,
    ) -> None:
        """`crashes`: the worker does, between the object and its row."""
        assert run.command is not None
        self.note(f"write {value.name} with {output}; {fault}{'; crash' if crashes else ''}")
        try:
            async with self.during(fault):
                stored = await self._stored(run, value, output, pipelined=pipelined)
        except (StoreFailed, Killed) as error:
            self._check_lasted(fault, error)
            return
        item = None
        if "ref" in stored:
            item = self._written(run, value, output, stored["ref"], has_row=not crashes)
            if not crashes and self.random.random() < 0.5:
                self.deployment.cached.put(stored["ref"], value.data)
        else:
            assert not output.select and value.content is not None, "this has to be by reference"
            assert stored["data"] == value.plain and len(value.content) <= INLINE_BYTES, "too large to be inline"
        if crashes:
            return
        run.command = await self.deployment.report(run.command, **stored)
        if run.command is None:
            await self._ended(run)
        if item is not None:
            await self._check_stored(item)

    async def write_cut(self, tier: str) -> None:
        """In the middle of a table of several parts, or chunks, by what ends the writer, too."""
        run = await self._running()
        part_bytes = {"kv": 100_000, "postgres": CHUNK_BYTES}.get(tier, self.deployment.part_bytes)
        value = large_table(self.random, 2 * part_bytes + 1000, self.deployment.files.open)
        self.note(f"write {value.name} into {tier}, which is cut")
        stored: dict[str, Any] | None = None
        async with self.during(Fault(tier, "cut", lasting=True)):
            with contextlib.suppress(StoreFailed, Killed):
                stored = await self._stored(run, value, Output(kind=tier), pipelined=False)
        if stored is not None:
            # what is cut was sent already; its writer has crashed
            self._written(run, value, Output(kind=tier), stored["ref"], has_row=False)

    def _value(self) -> Value:
        return value_of(self.random, self.deployment.part_bytes, self.deployment.files.open)

    async def _stored(self, run: Run, value: Value, output: Output, *, pipelined: bool) -> dict[str, Any]:
        assert run.command is not None
        self._number += 1
        place = Place(
            execution_id=run.id,
            step=self.random.choice(NAMES),
            suffix=run.command["command_id"],
            write=str(self._number),
        )
        deployment, files = self.deployment, self.deployment.files
        if not pipelined:
            return await retry_while_away(
                lambda: externalise(value.data, place, deployment.stores, output, files), "it could not be stored"
            )
        writes: list[asyncio.Task[Any]] = []

        def begin(key: str, write: Any) -> None:
            unfinished = deployment.stores.unfinished
            writes.append(unfinished.begin(key, lambda: retry_while_away(write, "it could not be stored")))

        stored = await externalise(value.data, place, deployment.stores, output, files, begin)
        # the step that follows reads it before it is written
        reading = asyncio.ensure_future(self.deployment.fresh().load(stored["ref"])) if "ref" in stored else None
        ends = await asyncio.gather(*writes, return_exceptions=True)
        read = None if reading is None else (await asyncio.gather(reading, return_exceptions=True))[0]
        for end in ends:
            if isinstance(end, BaseException):
                raise end
        is_over = output.ttl is not None and output.ttl < 700
        if not isinstance(read, ReferenceNotAvailable | StoreFailed) or not (is_over or isinstance(read, StoreFailed)):
            assert reading is None or lists_of(read) == value.plain, f"read before it was written: {read!r:.200}"
        return stored

    def _written(self, run: Run, value: Value, output: Output, ref: dict[str, Any], *, has_row: bool) -> Item:
        deployment, meta = self.deployment, ref["meta"]
        if value.content is not None:
            digest = hashlib.sha256(value.content).hexdigest()
            assert (meta["bytes"], meta["sha256"]) == (len(value.content), digest), "the reference names other bytes"
        owner, *names, _ = ref["key"].split("/")
        step = ResultUri.parse(ref["ref"]).step
        assert owner == run.id and len(names) == 1, f"the key {ref['key']!r} is not below its execution and step"
        assert unquote(names[0]) == step or len(names[0]) > 80, f"{step!r} is {names[0]!r} in the key"
        size = meta.get("stored_bytes", meta["bytes"])
        assert ref["store"] == self._expected_store(output.kind, size), f"{size} bytes went to {ref['store']}"
        expires = None if ref["expires_at"] is None else datetime.fromisoformat(ref["expires_at"])
        if output.ttl is None:
            assert expires is None
        else:
            wanted = deployment.now("writer") + timedelta(seconds=output.ttl)
            assert expires is not None and abs(wanted - expires) < timedelta(seconds=10), "another time to live"
        return self.model.add(
            Item(
                run=run,
                store=ref["store"],
                key=ref["key"],
                ref=ref,
                plain=value.plain,
                content=value.content,
                scope=output.scope if has_row else None,
                name=value.name,
                expires=expires,
            )
        )

    def _expected_store(self, kind: str, size: int) -> str:
        objects = self.deployment.objects
        name = objects if kind in OBJECTS else {"db": "postgres"}.get(kind, kind)
        order: list[str] = [it for it in (name, *self.deployment.auto, objects) if it in self.deployment.tiers]
        return next(it for it in order if it != "kv" or size <= KV_BYTES)

    async def _check_stored(self, item: Item) -> None:
        """The object, by its store: its size is what the reference says."""
        store = self.deployment.tiers[item.store].control_plane
        size = item.ref["meta"].get("stored_bytes", item.ref["meta"]["bytes"])
        content = await store.get(item.key)
        assert len(content) == size, f"{item} has {len(content)} bytes instead of {size}"
        await self._check_listed(item, await self.deployment.rows())

    async def _check_listed(self, item: Item, rows: set[tuple[str, str]]) -> None:
        assert item.place in rows, f"{item} has no row"
        store = self.deployment.tiers[item.store].control_plane
        listed = [key async for key in store.list(item.key)]
        assert item.key in listed, f"{item} is not listed: {listed}"

    # -- a worker reads

    async def read(self) -> None:
        if (item := self._any()) is None:
            return
        fault = self.fault(item.store)
        is_cached = self.random.random() < 0.5
        resolver = self.deployment.cached if is_cached else self.deployment.fresh()
        self.note(f"read {item}; {fault}; {'cached' if is_cached else 'fresh'}")
        async with self.during(fault):
            try:
                await self._load(item, resolver, is_cached=is_cached)
            except StoreFailed as error:
                self._check_lasted(fault, error)
        if fault is not None:
            await self._load(item, self.deployment.fresh())

    async def _load(self, item: Item, resolver: Resolver, *, is_cached: bool = False) -> None:
        found = self._found(item, "reader")
        try:
            value = await resolver.load(item.ref)
        except ReferenceNotAvailable as error:
            if error.reason not in REASONS[found]:
                raise AssertionError(f"expected: {found}; {error}: {item}") from error
            return
        assert found in ("value", "either") or (is_cached and found == "gone"), f"read although {found}: {item}"
        assert lists_of(value) == item.plain, f"another value: {item}"

    async def read_altered(self) -> None:
        if (item := self._any("value")) is None:
            return
        how = self.random.choice(("changed", "cut", "longer"))
        await self._read_altered(item, how)

    async def _read_altered(self, item: Item, how: str) -> None:
        self.note(f"read {item}, {how}")

        def alter(content: bytes) -> bytes:
            at = self.random.randrange(len(content))
            match how:
                case "changed":
                    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
                case "cut":
                    return content[:at]
            return content + b" "

        try:
            value = await self.deployment.altered(lambda store: Altered(store, alter)).load(item.ref)
        except ReferenceNotAvailable as error:
            if error.reason != "changed":
                raise AssertionError(f"{how}, and called {error.reason}: {item}") from error
        else:
            # a bit that a decompressor does not look at
            is_compressed = "compression" in item.ref["meta"]
            assert is_compressed and lists_of(value) == item.plain, f"{how} bytes were taken for it: {item}"

    # -- users

    async def put(self) -> None:
        run = self.random.choice(self.runs) if self.runs and self.random.random() < 0.8 else await self._running()
        if run.ended is not None and self.deployment.now() > run.ended + timedelta(days=6):
            return
        self._number += 1
        size = size_of(self.random, self.deployment.part_bytes)
        content = self.random.randbytes(size)
        compress = self.random.choice(("", "", "gzip", "zstd"))
        scope, ttl = self.random.choice(SCOPES), self.random.choice(TTLS)
        query = {"name": f"{self.random.choice(NAMES)[:150]}{self._number}", "scope": scope}
        kind = self.random.choice(("auto", "kv", "db", "postgres", "disk", "s3", "object"))
        query |= {"store": kind} | ({"compress": compress} if compress else {}) | ({"ttl": str(ttl)} if ttl else {})
        fault = self.fault()
        if fault is not None and (fault.tier, fault.kind) == ("disk", "cut"):
            fault.lasting = False
        self.note(f"put {size} bytes with {query} into {run.id}; {fault}")
        now = self.deployment.now("control_plane")
        async with self.during(fault):
            pieces = [content[at : at + 200_000] for at in range(0, max(1, size), 200_000)]
            answer = await self.deployment.user.call(
                "PUT", f"/api/result/{run.id}", pieces, query=query, headers={"content-type": "text/csv"}
            )
        if run.ended is not None and scope == "step":
            assert answer.status == 409, f"nothing collects it any more, and the answer is {answer.status}"
            return
        if answer.status != 200:
            assert fault is not None and answer.status == 503, answer.body
            return
        entry = answer.json
        digest = hashlib.sha256(content).hexdigest()
        assert (entry["bytes"], entry["sha256"], entry["scope"]) == (size, digest, scope), entry
        assert entry["store"] == self._expected_store(kind, entry["stored_bytes"]), entry
        expires = None if entry["expires_at"] is None else datetime.fromisoformat(entry["expires_at"])
        assert (expires is None) == (ttl is None)
        if ttl is not None:
            wanted = now + timedelta(seconds=ttl)
            assert expires is not None and abs(wanted - expires) < timedelta(seconds=20), "another time to live"
        [[key]] = await self.deployment.database.run(
            "SELECT key FROM noetl.result_ref WHERE ref = :ref AND sha256 = :sha256", ref=entry["ref"], sha256=digest
        )
        item = Item(
            run=run,
            store=entry["store"],
            key=key,
            ref=entry,
            plain=None,
            content=content,
            scope=scope,
            name=f"{size} bytes that were put",
            expires=expires,
            was_put=True,
        )
        self.model.add(item)
        if item.is_needed(self.deployment.now()):
            await self._check_listed(item, await self.deployment.rows())

    async def read_by_rest(self) -> None:
        if (item := self._any(has_row=True)) is None:
            return
        fault = self.fault(item.store, likely=0.2)
        size = item.ref["meta"]["bytes"] if "meta" in item.ref else item.ref["bytes"]
        start = self.random.randrange(size) if size and self.random.random() < 0.6 else 0
        end = self.random.randint(start, size - 1) if start or (size and self.random.random() < 0.2) else None
        self.note(f"read {item} from {start} to {end} by REST; {fault}")
        async with self.during(fault):
            try:
                await self._resolve(item, start, end, fault)
            except (OSError, Unavailable, Truncated, StoreFailed):
                # after the answer has begun
                if fault is None:
                    raise
        if fault is not None:
            await self._resolve(item, start, end)

    async def _resolve(self, item: Item, start: int = 0, end: int | None = None, fault: Fault | None = None) -> None:
        found = self._found(item, "control_plane")
        headers = {} if end is None else {"range": f"bytes={start}-{end}"}
        query = {"ref": item.ref["ref"], "sha256": self._sha256(item)}
        answer = await self.deployment.user.call("GET", "/api/result/resolve", query=query, headers=headers)
        if answer.status == 503 and fault is not None:
            return
        if answer.status == 404:
            assert found != "value", f"{answer.json['detail']}: {item}"
            assert answer.json["code"] == "REFERENCE_NOT_AVAILABLE", answer.json
            return
        assert found in ("value", "either"), f"read although {found}: {item}"
        assert answer.status == (200 if end is None else 206), f"{answer.status} {answer.body!r:.300}: {item}"
        if end is None:
            assert hashlib.sha256(answer.body).hexdigest() == self._sha256(item), f"other bytes by REST: {item}"
            item.content = answer.body
        elif item.content is not None:
            assert answer.body == item.content[start : end + 1], f"bytes {start} to {end} differ: {item}"
        else:
            assert len(answer.body) == end + 1 - start, f"{len(answer.body)} bytes from {start} to {end}: {item}"

    async def list(self) -> None:
        """What REST lists of an execution, and what the stores list below its prefix."""
        if not self.runs:
            return
        run = self.random.choice(self.runs)
        self.note(f"list {run.id}")
        listed: set[tuple[str, str]] = set()
        after: str | None = ""
        while after is not None:
            answer = await self.deployment.user.get(f"/api/result/{run.id}/list", after=after, limit=4)
            assert answer.status == 200, answer.body
            listed |= {(row["ref"], row["sha256"]) for row in answer.json["results"]}
            after = answer.json["next"]
        for item in self.model.of(run):
            found, is_listed = self._found(item, "control_plane"), (item.ref["ref"], self._sha256(item)) in listed
            expected = {"value": item.scope is not None, "either": is_listed}.get(found, False)
            assert is_listed == expected, f"listed: {is_listed}, but it is {found}: {item}"
        for name, tier in self.deployment.tiers.items():
            keys = [key async for key in tier.control_plane.list(f"{run.id}/")]
            assert keys == sorted(keys) and all(key.startswith(f"{run.id}/") for key in keys), keys
            self._check_kept(run, {(name, key) for key in keys}, name)

    def _check_kept(self, run: Run, listed: set[tuple[str, str]], store: str) -> None:
        now = self.deployment.now()
        for item in self.model.of(run):
            if item.store == store:
                assert item.place in listed or not item.is_needed(now), f"lost: {item}"
                assert item.place not in listed or not item.is_deleted, f"left: {item}"

    async def delete(self) -> None:
        if (item := self._any(has_row=True)) is None:
            return
        fault = self.fault(item.store)
        self.note(f"delete {item} by REST; {fault}")
        async with self.during(fault):
            status = await self._delete(item)
            assert status == 200 or (status == 503 and fault is not None), f"{status}: {item}"
        if status != 200:
            # given back, or gone by halves: until it is deleted again
            assert await self._delete(item) == 200, f"not deleted: {item}"
        item.is_deleted = True
        tier = self.deployment.tiers[item.store]
        assert item.key not in [key async for key in tier.control_plane.list(item.key)], f"left: {item}"

    async def _delete(self, item: Item) -> int:
        query = {"ref": item.ref["ref"], "sha256": self._sha256(item)}
        return (await self.deployment.user.call("DELETE", "/api/result", query=query)).status

    # -- executions and time

    async def end_execution(self) -> None:
        running = [run for run in self.runs if run.ended is None]
        if not running:
            return
        run = self.random.choice(running)
        self.note(f"end {run.id}")
        await self._end(run)

    async def _end(self, run: Run) -> None:
        if self.random.random() < 0.5:
            answer = await self.deployment.user.post(f"/api/executions/{run.id}/cancel", {})
            assert answer.status == 200, answer.body
            late, run.command = run.command, None
            await self._ended(run)
            await self._write_late(run, late)
        while run.command is not None:
            run.command = await self.deployment.report(run.command, data=1)
            if run.command is None:
                await self._ended(run)

    async def _write_late(self, run: Run, command: dict[str, Any] | None) -> None:
        """By a worker that does not know yet that its execution has been cancelled."""
        if command is None:
            return
        value = self._value()
        output = Output(kind=self.random.choice(KINDS))
        place = Place(execution_id=run.id, step="late", suffix=command["command_id"])
        self.note(f"write {value.name} too late with {output}")
        try:
            stored = await externalise(value.data, place, self.deployment.stores, output)
        except AccessDenied:
            # PostgreSQL knows who holds a lease
            assert self._expected_store(output.kind, 1000) == "postgres" or "postgres" in self.deployment.auto
            return
        if "ref" in stored:
            self._written(run, value, output, stored["ref"], has_row=False)

    async def _ended(self, run: Run) -> None:
        run.ended = await self.deployment.end_of(run.id)
        assert run.ended is not None, f"{run.id} has not ended"

    async def pass_time(self) -> None:
        """And collect, with little time, while stores fail; now and then with all the time that it needs."""
        by = self.random.choice(MOVES)
        faults = [self.fault() for _ in range(self.random.randint(1, 4))]
        is_whole = self.random.random() < 0.4
        self.note(f"{by} pass; then {', '.join(map(str, faults))}{'; all is collected' if is_whole else ''}")
        await self.deployment.move(by)
        needed = self.model.needed(self.deployment.now())
        for fault in faults:
            if fault is not None and (fault.tier, fault.kind) == ("disk", "cut"):
                fault.lasting = False
            async with self.during(fault):
                await self.deployment.collect_some()
        if is_whole:
            await self.deployment.collect_all()
        await self._check_collected(needed, is_whole=is_whole)

    async def _check_collected(self, needed: set[tuple[str, str]], *, is_whole: bool) -> None:
        now = self.deployment.now()
        # what ended while they were collected may be there still
        over = self.model.over(now)
        there, rows = await self.deployment.objects_in_stores(), await self.deployment.rows()
        for place in needed - there:
            raise AssertionError(f"lost: {self.model.items[place]}")
        with_rows = {place for place in needed if self.model.items[place].scope is not None}
        for place in with_rows - rows:
            raise AssertionError(f"its row is lost: {self.model.items[place]}")
        if is_whole:
            self.model.collected(now)
            for place in over & there:
                raise AssertionError(f"left: {self.model.items[place]}")
            for place in over & rows:
                raise AssertionError(f"its row is left: {self.model.items[place]}")
            assert rows <= there, f"rows without objects: {rows - there}"

    async def finish(self) -> None:
        """All executions end, all that was kept for them goes, and then what is permanent is deleted."""
        for item in [*self.model.items.values()][-15:]:
            if not item.was_put and self._found(item, "reader") == "value":
                await self._read_altered(item, "changed")
        for run in self.runs:
            if run.ended is None:
                await self._end(run)
        self.note("the end: twelve minutes later, which is within the grace")
        await self._collect_after(timedelta(minutes=12))
        self.note("the end: an hour later")
        await self._collect_after(timedelta(hours=1))
        for item in [*self.model.items.values()]:
            if not item.was_put:
                await self._load(item, self.deployment.fresh())
            if item.scope is not None:
                await self._resolve(item)
        self.note("the end: eight days later")
        await self._collect_after(timedelta(days=8))
        kept = {place for place, item in self.model.items.items() if not item.is_deleted and not item.is_collected}
        assert all(self.model.items[place].scope == "permanent" for place in kept)
        there = await self.deployment.objects_in_stores()
        assert there == kept, f"left: {there - kept}; lost: {kept - there}"
        assert await self.deployment.rows() == kept, "the rows are not those of what is left"
        for place in sorted(kept):
            item = self.model.items[place]
            if not item.was_put:
                await self._load(item, self.deployment.fresh())
            await self._resolve(item)
            assert await self._delete(item) == 200, f"not deleted: {item}"
        rest, rows = await self.deployment.rest(), await self.deployment.rows()
        assert rest == [], f"left of them: {rest}"
        assert rows == set(), f"rows that are left: {rows}"

    async def _collect_after(self, by: timedelta) -> None:
        await self.deployment.move(by)
        needed = self.model.needed(self.deployment.now())
        await self.deployment.collect_all()
        await self._check_collected(needed, is_whole=True)

    # -- choices

    async def _running(self) -> Run:
        running = [run for run in self.runs if run.command is not None]
        if running and self.random.random() < 0.75:
            return self.random.choice(running)
        id, command = await self.deployment.start()
        self.runs.append(Run(id=id, command=command))
        return self.runs[-1]

    def _any(self, found: Found | None = None, *, has_row: bool = False) -> Item | None:
        """Mostly one that is to be found."""
        items = [item for item in self.model.items.values() if item.scope is not None or not has_row]
        if not has_row:
            items = [item for item in items if not item.was_put]
        there = [item for item in items if self._found(item, "reader") == "value"]
        if found is not None or (there and self.random.random() < 0.7):
            items = there
        return self.random.choice(items) if items else None

    def _found(self, item: Item, who: str) -> Found:
        return item.found(self.deployment.now(), self.deployment.now(who))

    @staticmethod
    def _sha256(item: Item) -> str:
        found: str = item.ref["meta"]["sha256"] if "meta" in item.ref else item.ref["sha256"]
        return found
