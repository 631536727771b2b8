"""Reads the values of references, with a small cache, in the worker only."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import orjson

from ..error_codes import REFERENCE_NOT_AVAILABLE
from ..errors import AccessDenied, Problem
from ..limits import IN_PASSING_BYTES, LOOP_READ_BYTES
from ..playbook.json_reading import loads
from ..playbook.views import COLLECTED, FIELD, REST_ONLY, meant_by
from ..ports import ResultStore
from ..tables.mapped import MappedFile
from ..tables.media_types import has_tables
from ..tables.sealed import sealed, sealed_file
from ..tables.table import InvalidTable
from ..tables.value import read_value, tables_in
from ..telemetry import metrics
from .accumulated import base_of, is_accumulated, items, parts_of, whole
from .files import ResultFiles
from .reference import ResultRef, ResultUri
from .retry import retry_while_away
from .shared_memory import NotShared
from .stores import ResultStores

if TYPE_CHECKING:
    from .compression import Codec

# (execution id, step, generation, first item) -> {"parts": [{"start", "end", "data" | "ref"}], "next"}: a page, and the
# first item of the next one
FetchManifest = Callable[[str, str, int, int], Awaitable[dict[str, Any]]]

T = TypeVar("T")

CACHE_BYTES = 64 * 1024 * 1024
# of tables that are in shared memory, as far as this process has put them there
MAX_HINTS: Final = 1000
# how long a value that is too large for the cache is kept for the step that follows
KEEP_SECONDS = 1.0


# missing: there is no such object; denied: its store refuses access; changed: it is not what was written; no_store:
# this deployment lacks its store; invalid: the reference is none
Reason = Literal["missing", "denied", "expired", "changed", "no_store", "invalid"]


class ReferenceNotAvailable(Problem):
    """A reference names something that does not exist, or that does not match it. `reason`: what is wrong with it."""

    status, code, title = 404, REFERENCE_NOT_AVAILABLE, "A referenced result is not available"

    def __init__(self, detail: str, reason: Reason = "invalid") -> None:
        super().__init__(detail, reason=reason)
        self.reason = reason


class LoopTooLarge(Problem):
    """A template reads more results of a loop than a worker has room for."""

    status, code, title = 413, "loop.too_large", "The results of a loop are too large"


class Resolver:
    """Resolves `ResultRef`s and manifests; the values are shared between its callers and must not be changed.

    The cache is bounded by the size of the JSON that its values were decoded from; the least recently used is evicted
    first. A value that is too large for it, and was just written, is kept for one reader, or for a moment.
    """

    def __init__(
        self,
        stores: ResultStores,
        fetch_manifest: FetchManifest | None = None,
        *,
        cache_bytes: int = CACHE_BYTES,
        files: ResultFiles | None = None,
    ) -> None:
        """`files`: where tables are put to be read."""
        self._stores = stores
        self._files = files or ResultFiles(Path(tempfile.gettempdir()))
        # of tables that were fetched from a store
        self._hints: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._fetch_manifest = fetch_manifest
        self._budget = cache_bytes
        self._used = 0
        self._cache: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._loading: dict[str, asyncio.Future[Any]] = {}
        # with the file that has it as JSON, if there is one
        self._large: tuple[str, Any, MappedFile | None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.hits = 0
        self.misses = 0

    async def load(self, ref: dict[str, Any]) -> Any:
        """The value. Raises ReferenceNotAvailable if it is missing or invalid, StoreFailed while the store is away,
        LoopTooLarge, and a Problem of the control plane as it is."""
        _check_expiry(ref)
        name = _identity(ref)
        if name in self._cache:
            self.hits += 1
            self._cache.move_to_end(name)
            return self._cache[name][0]
        if self._large is not None and self._large[0] == name:
            self.hits += 1
            _, value, _ = self._large
            self._forget_large()
            return value
        if (loading := self._loading.get(name)) is not None:
            return await asyncio.shield(loading)
        self.misses += 1
        loading = asyncio.ensure_future(self._load(ref))
        self._loading[name] = loading
        # the load continues for the others that wait for it, even if our caller is cancelled
        loading.add_done_callback(lambda done: self._loaded(name, done))
        return await asyncio.shield(loading)

    async def load_items(self, ref: dict[str, Any], start: int, end: int) -> list[Any]:
        """The items of a list from `start` to `end`; of one that was accumulated, no others are loaded."""
        if not is_accumulated(ref):
            found = meant_by(ref, await self.load(ref))[start:end]
            return found if isinstance(found, list) else list(found)
        _check_expiry(ref)
        with _manifest_of(ref):
            return await items(ref, self.load, start, end)

    def file_of(self, ref: dict[str, Any]) -> MappedFile | None:
        """The file that has, as JSON, what `load` would give now without waiting."""
        return self._large[2] if self._large is not None and self._large[0] == _identity(ref) else None

    def put(self, ref: dict[str, Any], value: Any, written: MappedFile | None = None) -> None:
        """Cache what was just written, which the next step in this process is likely to read. `written`: the file that
        has it as JSON."""
        if FIELD in ref:
            # it was passed on, and is not all that its object holds
            return
        name, meta = _identity(ref), ref.get("meta", {})
        size, is_table = int(meta.get("bytes", 0)), has_tables(meta.get("content_type", ""))
        if is_table and ref.get("ipc") is not None:
            return
        # a table is a file, which would not be given back for long
        if size <= self._budget and not is_table:
            self._put(name, value, size)
            return
        if is_table:
            # as where it is read: to pass it on stores nothing
            for place, table in tables_in(value):
                table.origin = ref, place
        # the next step needs the memory in any case: it is only not given back in between
        self._forget_large()
        self._large = (name, value, written)
        self._timer = asyncio.get_running_loop().call_later(KEEP_SECONDS, self._forget_large)

    def _forget_large(self) -> None:
        self._large = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _load(self, ref: dict[str, Any]) -> Any:
        if ref.get("kind") == "manifest":
            value, size = await self._load_manifest(ref)
            self._put(_identity(ref), value, size)
            return value
        if is_accumulated(ref):
            # of its parts, some may be in the cache
            try:
                return await whole(ref, self._parts_of(ref), self._files)
            except InvalidTable as error:
                raise ReferenceNotAvailable(f"a table in {ref.get('ref')}: {error}", "changed") from error
        if COLLECTED in ref:
            return await self._load_collected(ref)
        reference = _validated(ref)
        if has_tables(reference.meta.content_type):
            return await self._load_tables(ref, reference)
        value = await self._load_json(reference)
        self._put(_identity(ref), value, reference.meta.bytes)
        return value

    async def _parts_of(self, ref: dict[str, Any]) -> AsyncIterator[Any]:
        """What goes wrong where they are joined is not said to be wrong with the manifest."""
        with _manifest_of(ref):
            async for part in parts_of(ref, self.load):
                yield part

    async def _load_collected(self, ref: dict[str, Any]) -> Any:
        """All of a result of which something was accumulated, or the rest."""
        with _manifest_of(ref):
            owner = ResultUri.parse(ref["ref"]).execution_id
            if any(ResultUri.parse(it["ref"]).execution_id != owner for it in ref[COLLECTED].values()):
                raise ValueError("it names what another execution has accumulated")
            rest = (await self.load(base_of(ref)))["rest"]
            if REST_ONLY in ref:
                return rest
            return {**rest, **{name: await self.load(manifest) for name, manifest in ref[COLLECTED].items()}}

    def _loaded(self, name: str, done: asyncio.Future[Any]) -> None:
        self._loading.pop(name, None)
        if not done.cancelled():
            # marks the exception as retrieved: those who wait get it too
            done.exception()

    async def _load_json(self, reference: ResultRef) -> Any:
        store = store_of(self._stores, reference)
        await self._stores.unfinished.wait(reference.key)
        content = await _read(reference, lambda: store.get(reference.key))
        if reference.meta.bytes <= IN_PASSING_BYTES:
            return _decode(reference, content)
        return await asyncio.to_thread(_decode, reference, content)

    # -- tables

    async def _load_tables(self, ref: dict[str, Any], reference: ResultRef) -> Any:
        name = _identity(ref)
        try:
            file = await self._files.shared_file(self._hints.get(name) or reference.ipc, reference)
            metrics.result_reads.labels("shared_memory", "").inc()
        except NotShared as fallback:
            metrics.result_reads.labels("store", fallback.reason).inc()
            file = await self._fetched(reference)
            self._keep_hint(name, self._files.share(file, reference))
        try:
            value = read_value(file)
        except InvalidTable as error:
            raise ReferenceNotAvailable(f"{reference.ref}: {error}", "changed") from error
        for place, table in tables_in(value):
            table.origin = ref, place
        return value

    async def _fetched(self, reference: ResultRef) -> MappedFile:
        """From its store, with its digest checked."""
        meta, store = reference.meta, store_of(self._stores, reference)
        await self._stores.unfinished.wait(reference.key)
        descriptor = self._files.open(meta.bytes)

        async def get() -> int:
            # what an attempt before has left
            os.ftruncate(descriptor, 0)
            return await store.get_file(reference.key, descriptor)

        try:
            size = await _read(reference, get)
        except BaseException:
            os.close(descriptor)
            raise
        return await asyncio.to_thread(_unpacked, reference, descriptor, size, self._files)

    def _keep_hint(self, name: str, hint: dict[str, Any] | None) -> None:
        if hint is None:
            self._hints.pop(name, None)
            return
        self._hints[name] = hint
        self._hints.move_to_end(name)
        while len(self._hints) > MAX_HINTS:
            self._hints.popitem(last=False)

    # -- manifests

    async def _load_manifest(self, ref: dict[str, Any]) -> tuple[Any, int]:
        if self._fetch_manifest is None:
            raise ReferenceNotAvailable(f"{ref.get('ref')}: manifests cannot be read here")
        try:
            uri = ResultUri.parse(str(ref.get("ref")))
        except ValueError as error:
            raise ReferenceNotAvailable(str(error)) from error
        results: list[Any] = []
        # of a loop that ended before all its items had, each result is at the place of its item
        is_partial = bool(ref.get("meta", {}).get("partial"))
        # `reached`: the place behind the last item; where rows are claimed, places may be left free
        size = reached = found = 0
        after: int | None = 0
        while after is not None:
            page = await self._fetch_manifest(uri.execution_id, uri.step, int(uri.suffix), after)
            for part in sorted(page["parts"], key=lambda part: int(part["start"])):
                # a page from the previous release begins with the first item again
                if part["end"] > reached:
                    size = _check_size(size + _size_of(part), uri)
                    rows = await self._rows(part, reached, uri)
                    found += len(rows)
                    if is_partial:
                        results += [None] * (part["end"] - len(rows) - len(results))
                    results += rows
                    reached = part["end"]
            following = page.get("next")
            if following is not None and following <= after:
                raise ReferenceNotAvailable(f"{uri}: the page after {after} continues at {following}")
            after = following
        if (count := ref.get("count")) is not None and count != found:
            raise ReferenceNotAvailable(f"{uri}: {found} items, expected {count}")
        return {"results": results, "stats": ref.get("extracted", {}).get("stats", {})}, size

    async def _rows(self, part: dict[str, Any], first: int, uri: ResultUri) -> list[Any]:
        """The items of a manifest's part from the item `first` on."""
        start = int(part["start"])
        rows = part.get("data") if part.get("ref") is None else await self.load(part["ref"])
        if not isinstance(rows, list) or len(rows) != part["end"] - start:
            raise ReferenceNotAvailable(f"{uri}: the part at {start} does not match the manifest")
        return rows[max(0, first - start) :]

    def _put(self, name: str, value: Any, size: int) -> None:
        if size > self._budget:
            return
        if name in self._cache:
            self._used -= self._cache.pop(name)[1]
        self._cache[name] = (value, size)
        self._used += size
        while self._used > self._budget:
            _, (_, freed) = self._cache.popitem(last=False)
            self._used -= freed


def _check_expiry(ref: dict[str, Any]) -> None:
    """Also of what is at hand: its object may be deleted a while after it has expired, and be gone for the next one."""
    if (expires_at := ref.get("expires_at")) is None:
        return
    try:
        expired = datetime.fromisoformat(expires_at) <= datetime.now(UTC)
    except (TypeError, ValueError):
        raise ReferenceNotAvailable(f"not a result reference: expires_at is {expires_at!r}") from None
    if expired:
        raise ReferenceNotAvailable(f"{ref.get('ref')} has expired, at {expires_at}", reason="expired")


def _identity(ref: dict[str, Any]) -> str:
    # the digest, where there is one, distinguishes what retries wrote under one URI
    part = "" if COLLECTED not in ref else REST_ONLY if REST_ONLY in ref else COLLECTED
    return f"{part}{ref.get('ref')}#{ref.get('meta', {}).get('sha256', '')}#{ref.get('count', '')}"


def _size_of(part: dict[str, Any]) -> int:
    return len(orjson.dumps(part.get("data"))) if part.get("ref") is None else int(part["ref"]["meta"]["bytes"])


def _check_size(size: int, uri: ResultUri) -> int:
    """Raises LoopTooLarge, before what is too large is fetched."""
    if size > LOOP_READ_BYTES:
        raise LoopTooLarge(
            f"{uri}: the results have more than {LOOP_READ_BYTES} bytes. Return less from each item, "
            "or split the loop into several loops"
        )
    return size


@contextmanager
def _manifest_of(ref: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ReferenceNotAvailable(f"{ref.get('ref')}: its manifest is not valid: {error!r}") from error


def _validated(ref: dict[str, Any]) -> ResultRef:
    try:
        return ResultRef.model_validate(ref)
    except ValueError as error:
        raise ReferenceNotAvailable(f"not a result reference: {error}") from error


def store_of(stores: ResultStores, reference: ResultRef) -> ResultStore:
    """Where its object is. Raises ReferenceNotAvailable."""
    try:
        return stores.named(reference.store)
    except KeyError:
        message = f"{reference.ref} is in the result store {reference.store!r}, which this deployment does not have"
        raise ReferenceNotAvailable(message, "no_store") from None


async def _read(reference: ResultRef, read: Callable[[], Awaitable[T]]) -> T:
    with refusals(reference):
        return await retry_while_away(read, f"{reference.ref} could not be read")


@contextmanager
def refusals(reference: ResultRef) -> Iterator[None]:
    """What its store raises when it does not give the object, as ReferenceNotAvailable."""
    try:
        yield
    except KeyError:
        raise ReferenceNotAvailable(f"{reference.ref} is not in the {reference.store} store", "missing") from None
    except AccessDenied as error:
        message = f"{reference.ref}: the {reference.store} store refuses access: {error.detail}"
        raise ReferenceNotAvailable(message, "denied") from None


def _decode(reference: ResultRef, content: bytes) -> Any:
    codec = reference.meta.compression
    if codec is not None:
        from .compression import BadContent, decompress

        try:
            content = decompress(content, codec, reference.meta.bytes)
        except BadContent as error:
            raise _changed(reference) from error
    if hashlib.sha256(content).hexdigest() != reference.meta.sha256:
        raise _changed(reference)
    return loads(content)


def _unpacked(reference: ResultRef, descriptor: int, size: int, files: ResultFiles) -> MappedFile:
    """`descriptor`: of a file that has just been written, and is closed."""
    codec = reference.meta.compression
    try:
        file = MappedFile(sealed(descriptor, size, files.open), size)
        if codec is not None:
            file = sealed_file(reference.meta.bytes, partial(_decompress, reference, file, codec), files.open)
        if hashlib.sha256(file.view).hexdigest() != reference.meta.sha256:
            raise _changed(reference)
    except ValueError as error:
        # also one that cannot be unpacked
        raise _changed(reference) from error
    return file


def _decompress(reference: ResultRef, packed: MappedFile, codec: Codec, descriptor: int) -> int:
    from .compression import decompress_file

    decompress_file(packed.view, descriptor, codec, reference.meta.bytes)
    return reference.meta.bytes


def _changed(reference: ResultRef) -> ReferenceNotAvailable:
    return ReferenceNotAvailable(f"{reference.ref}: the stored bytes differ from those that were written", "changed")
