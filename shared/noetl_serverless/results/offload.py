"""The one place that decides whether a result is inline or by reference."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson

from ..errors import InvalidRequest
from ..limits import IN_PASSING_BYTES, INLINE_BYTES, MIB
from ..playbook.json_paths import is_simple
from ..ports import ResultStore, StoredObject
from ..tables.mapped import MappedFile
from ..tables.stream import MEDIA_TYPE
from ..tables.table import Table
from ..tables.value import file_of, tables_in, without_tables
from .extract import extract
from .files import ResultFiles
from .reference import MAX_PREVIEW_BYTES, Meta, ResultRef, ResultUri, Scope, instant, preview, storage_key
from .stores import AUTO, ResultStores
from .unfinished import BeginWrite

if TYPE_CHECKING:
    from .compression import Codec

# of a table, in a preview
PREVIEW_ROWS: Final = 5
# content in memory of so many bytes is hashed while it is written
LARGE_BYTES: Final = 1 * MIB
_ENDINGS: Final[Mapping[Codec, str]] = {"gzip": ".gz", "zstd": ".zst"}
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
_INLINE = bool | int | float | None


@dataclass(kw_only=True, frozen=True, slots=True)
class Output:
    """What a playbook says of a result: which store it wishes, for how long (`ttl`: seconds), and what of it is read
    without fetching it. With `select`, (JSON path, name) pairs, a result is always by reference, so that the selected
    names exist whatever its size."""

    select: Sequence[tuple[str, str]] = ()
    inline_bytes: int = INLINE_BYTES
    kind: str = AUTO
    scope: Scope = "execution"
    ttl: float | None = None
    compression: Codec | None = None
    preview_bytes: int = MAX_PREVIEW_BYTES


USUAL = Output()


@dataclass(kw_only=True, frozen=True, slots=True)
class Place:
    """Whose result it is. `suffix` names the attempt (a command id, and which part of it): together with the content it
    determines where the result is written, so that a retry writes to another place or the same bytes. `write` takes the
    place of the content where that is hashed while it is written: of no other, so that one that was given up and still
    goes on does no harm."""

    execution_id: str
    step: str
    suffix: str
    write: str = field(default_factory=lambda: secrets.token_hex(8))


def dump(data: Any) -> bytes:
    """The result as JSON; raises InvalidRequest, which names what has no JSON form."""
    return _dump(data, _plain)


async def externalise(
    data: Any,
    place: Place,
    stores: ResultStores,
    output: Output = USUAL,
    files: ResultFiles | None = None,
    begin: BeginWrite | None = None,
    written: MappedFile | None = None,
) -> dict[str, Any]:
    """{"data": ...} for what fits into an event, else {"ref": ...} once a store has it; with `begin`, which takes over
    the write, before that. A value with tables is always by reference; without `files` they are stored as lists.
    `written`: the file that has `data` as JSON."""
    if isinstance(data, _INLINE) and not output.select:
        return {"data": data}
    try:
        content = written or _dump(data, _plain if files is None else _no_table)
    except _HasTables:
        assert files is not None
        return {"ref": await _tables(data, place, stores, output, files, begin)}
    if _size(content) <= output.inline_bytes and not output.select:
        return {"data": data}
    about = _About("json", {"row_count": _rows(data)}, _preview(content, output))
    reference = await _stored(data, content, about, place, stores, output, files, begin)
    return {"ref": reference.to_dict()}


async def _tables(
    data: Any, place: Place, stores: ResultStores, output: Output, files: ResultFiles, begin: BeginWrite | None
) -> dict[str, Any]:
    def written() -> tuple[MappedFile, bytes]:
        file = file_of(data, files)
        return file, dump(without_tables(data, lambda table: table.beginning(PREVIEW_ROWS, output.preview_bytes)))

    # rows may be large as well
    file, shown = await asyncio.to_thread(written)
    table = next(tables_in(data))[1]
    fields = {"content_type": MEDIA_TYPE, "row_count": len(table), "schema_digest": table.schema_digest}
    about = _About("arrow", fields, _preview(shown, output))
    reference = await _stored(data, file, about, place, stores, output, files, begin)
    reference.ipc = files.share(file, reference)
    return reference.to_dict()


# what is stored: in memory, or in a file
_Content = bytes | MappedFile


@dataclass(frozen=True, slots=True)
class _About:
    """`ending`: that of the key; `meta`: fields of the reference's; `preview`: in the size that is wanted."""

    ending: str
    meta: Mapping[str, Any]
    preview: str


async def _stored(
    data: Any,
    content: _Content,
    about: _About,
    place: Place,
    stores: ResultStores,
    output: Output,
    files: ResultFiles | None,
    begin: BeginWrite | None,
) -> ResultRef:
    fields = await _extracted(data, output)
    hashing = asyncio.ensure_future(_sha256(content))
    try:
        is_small = isinstance(content, bytes) and len(content) < LARGE_BYTES
        digest = _digest(f"{place.suffix}\n{await hashing if is_small else place.write}")
        packed, ending = content, about.ending
        if output.compression is not None:
            packed = await asyncio.to_thread(_compressed, content, output.compression, files)
            ending += _ENDINGS[output.compression]
        store = stores.choose(output.kind, _size(packed))
        key = storage_key(place.execution_id, place.step, digest, ending)
        stored = await _written(store, key, packed, begin)
    finally:
        sha256 = await hashing
    meta = Meta(bytes=_size(content), sha256=sha256, created_at=instant(now()), **about.meta)
    if output.compression is not None:
        meta.compression, meta.stored_bytes = output.compression, stored.bytes
    return ResultRef(
        # the storage key keeps more of the digest: 32 bits alone would collide in a wide fan-out
        ref=str(ResultUri(place.execution_id, "result", place.step, digest[:8])),
        store=stored.store,
        key=stored.key,
        scope=output.scope,
        expires_at=None if output.ttl is None else instant(now() + timedelta(seconds=output.ttl)),
        meta=meta,
        preview=about.preview,
        extracted=fields,
    )


async def _written(store: ResultStore, key: str, content: _Content, begin: BeginWrite | None) -> StoredObject:
    write = partial(_put, store, key, content)
    if begin is None:
        return await write()
    begin(key, write)
    return StoredObject(store.name, key, _size(content))


async def _put(store: ResultStore, key: str, content: _Content) -> StoredObject:
    if isinstance(content, bytes):
        return await store.put(key, content)
    # it has the file as long as that is read
    return await store.put_file(key, content.fileno(), content.size)


def _preview(content: _Content, output: Output) -> str:
    limit = output.preview_bytes
    return preview(bytes(_view(content)[: limit + 1]), limit)


def _size(content: _Content) -> int:
    return len(content) if isinstance(content, bytes) else content.size


def _view(content: _Content) -> bytes | memoryview:
    return content if isinstance(content, bytes) else content.view


async def _extracted(data: Any, output: Output) -> dict[str, Any]:
    if all(is_simple(path) for path, _ in output.select):
        return extract(data, output.select)
    # it may look at all of the data
    return await asyncio.to_thread(extract, data, output.select)


def _compressed(content: _Content, codec: Codec, files: ResultFiles | None) -> _Content:
    from .compression import compress, compress_file

    if isinstance(content, bytes) or files is None:
        return compress(_view(content), codec)
    packed = MappedFile(files.open_on_disk(), 0)
    packed.size = compress_file(content.view, packed.fileno(), codec)
    return packed


async def _sha256(content: _Content) -> str:
    if _size(content) <= IN_PASSING_BYTES:
        return hashlib.sha256(_view(content)).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(_view(content)).hexdigest())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def now() -> datetime:
    return datetime.now(UTC)


def selection(output: Mapping[str, Any], inside: str | None = None) -> list[tuple[str, str]]:
    """The (path, name) pairs of a tool's `output.select`; `inside`: the label its data has in a pipeline's result."""
    pairs: list[tuple[str, str]] = []
    for item in output.get("select") or ():
        path = str(item["path"])
        pairs.append((path if inside is None else f"$.results['{inside}']{path[1:]}", str(item["as"])))
    return pairs


def _rows(data: Any) -> int | None:
    if isinstance(data, list):
        return len(data)
    if isinstance(data, Mapping) and isinstance(data.get("rows"), list):
        return len(data["rows"])
    return None


class _HasTables(Exception):
    """Ends the writing of JSON; never leaves this module."""


def _dump(data: Any, default: Callable[[Any], Any]) -> bytes:
    try:
        return orjson.dumps(data, default=default, option=_OPTIONS)
    except TypeError as error:
        if isinstance(error.__cause__, _HasTables):
            # not that one itself: it and this frame would refer to each other, until garbage is collected
            raise _HasTables from None
        raise InvalidRequest(f"the result is not a JSON value: {error.__cause__ or error}") from error


def _no_table(value: Any) -> Any:
    if isinstance(value, Table):
        raise _HasTables
    return _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, tuple):
        return list(value)
    # a template's lazy view returns the value behind it
    if callable(native := getattr(value, "__native__", None)):
        return native()
    raise TypeError(f"{type(value).__name__} has no JSON form")
