"""A result of which something was accumulated: its JSON, made of its parts as it is sent, and its value.

Only what a worker has stored for a step is a manifest, and its parts are objects of the same execution: to the bytes of
a user the same media type means nothing.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import orjson

from ..errors import AnswerTooLarge, NotAcceptable, ResultStoreUnavailable
from ..limits import MIB
from ..playbook.views import ACCUMULATED, COLLECTED
from ..results.accumulated import MANIFEST_TYPES, MERGE
from ..results.compression import error_of
from ..results.content import Truncated, read
from ..results.files import ResultFiles
from ..results.offload import dump
from ..results.reader import ReferenceNotAvailable, Resolver, refusals, store_of
from ..results.reference import ResultRef
from ..results.stores import ResultStores
from ..store.results import StoredResult
from ..tables.listed import has_table
from ..tables.media_types import MANIFEST_WITH_TABLES
from ..tables.stream import MEDIA_TYPE
from ..tables.table import InvalidTable, Table
from ..uri import ResultUri
from .in_threads import in_threads

# of objects that are merged, which are in memory together, and take several times as many there
MERGED_BYTES: Final = 16 * MIB
# of what was not accumulated, which is read as a whole
DOCUMENT_BYTES: Final = 64 * MIB


def is_manifest(result: StoredResult) -> bool:
    return result.content_type in MANIFEST_TYPES and result.put_by is None


def document_of(document: Any, result: StoredResult) -> dict[str, Any]:
    """`document`: what the object that names the parts has. Raises ReferenceNotAvailable if it is not what the worker
    has written."""
    with as_written(result.ref):
        owner = result.key.partition("/")[0]
        if not isinstance(document["rest"], dict):
            raise TypeError("`rest` is no object")
        for manifest in document[COLLECTED].values():
            if _owner_of(manifest) != owner:
                raise ValueError("it names what another execution has accumulated")
            if not isinstance(manifest["strategy"], str) or int(manifest["total_bytes"]) < 0:
                raise TypeError("a manifest has no strategy or no size")
            for part in manifest["parts"]:
                _ref_of(part, owner)
        return dict(document)


def check_memory(document: Mapping[str, Any]) -> None:
    """Raises AnswerTooLarge for what is not sent part by part, if there is too much of it."""
    _check_merged(sum(int(it["total_bytes"]) for it in document[COLLECTED].values() if it["strategy"] == MERGE))


def _check_merged(size: int) -> None:
    if size > MERGED_BYTES:
        raise AnswerTooLarge(
            f"{size} bytes of objects or more would have to be merged for the answer, and the limit is {MERGED_BYTES}: "
            "read the parts of the result, which the list of results names, or merge them in a step",
            bytes=size,
            max_bytes=MERGED_BYTES,
        )


def size_of(document: Mapping[str, Any]) -> int:
    """About how many bytes of JSON it has, as far as that is accumulated."""
    return sum(int(manifest["total_bytes"]) for manifest in document[COLLECTED].values())


async def json_size_of(document: Mapping[str, Any], result: StoredResult, stores: ResultStores, enough: int) -> int:
    """About how many bytes of it are JSON where it is stored; which of its parts are tables is looked up only if it has
    more than `enough` with these. `result`: the object that names the parts. Raises ReferenceNotAvailable and
    StoreFailed."""
    # the tables beside what was accumulated are in it, too
    size = 0 if result.content_type == MANIFEST_WITH_TABLES else result.bytes
    if size + size_of(document) <= enough:
        return size + size_of(document)
    for manifest in document[COLLECTED].values():
        if manifest["strategy"] == MERGE:
            size += int(manifest["total_bytes"])
        else:
            size += await Parts(manifest, stores).json_bytes()
    return size


async def pieces_of(document: Mapping[str, Any], stores: ResultStores, scratch: str = "") -> AsyncIterator[bytes]:
    """`scratch`: the folder for files of tables. Raises ReferenceNotAvailable for a part that is gone or changed,
    NotAcceptable for a table that has no JSON, StoreFailed and ResultStoreUnavailable."""
    separator = b"{"
    for name, value in document["rest"].items():
        yield separator + orjson.dumps(name) + b":"
        separator = b","
        async for piece in _json_of(value, name):
            yield piece
    for name, manifest in document[COLLECTED].items():
        yield separator + orjson.dumps(name) + b":"
        separator = b","
        parts = Parts(manifest, stores, scratch)
        pieces = _json_of(await parts.merged(), name) if manifest["strategy"] == MERGE else parts.items()
        async for piece in pieces:
            yield piece
    yield b"{}" if separator == b"{" else b"}"


async def _json_of(value: Any, name: str) -> AsyncIterator[bytes]:
    if not has_table(value):
        yield dump(value)
        return
    from ..tables.export import pieces

    with as_json(f"the field {name!r:.200}"):
        async for piece in in_threads(pieces(value, "json")):
            yield piece


class Parts:
    """Of one manifest, read one after the other."""

    def __init__(self, manifest: Mapping[str, Any], stores: ResultStores, scratch: str = "") -> None:
        self._manifest = manifest
        self._stores = stores
        # each part is read once
        self._resolver = Resolver(stores, cache_bytes=0, files=files_in(scratch))

    async def merged(self) -> dict[str, Any]:
        """Later parts replace keys of earlier ones, so that all of them are in memory. Raises AnswerTooLarge."""
        merged: dict[str, Any] = {}
        size = 0
        async for ref in self._leaves():
            size += ref.meta.bytes
            _check_merged(size)
            part = await self._loaded(ref)
            with as_written(ref.ref):
                merged.update(part)
        return merged

    async def values(self) -> AsyncIterator[Any]:
        """Lists and tables, whose items follow one another."""
        async for ref in self._leaves():
            part = await self._loaded(ref)
            with as_written(ref.ref):
                if not isinstance(part, list | Table):
                    raise TypeError("it is no list")
            yield part

    async def json_bytes(self) -> int:
        """Of those that are no tables."""
        return sum([ref.meta.bytes async for ref in self._leaves() if ref.meta.content_type != MEDIA_TYPE])

    async def items(self) -> AsyncIterator[bytes]:
        """A list."""
        separator = b"["
        async for ref in self._leaves():
            pieces = self._rows(ref) if ref.meta.content_type == MEDIA_TYPE else self._text(ref)
            async for piece in pieces:
                yield separator + piece
                separator = b""
            separator = separator or b","
        yield b"[]" if separator == b"[" else b"]"

    async def _leaves(self) -> AsyncIterator[ResultRef]:
        """The parts that are values, in order."""
        with as_written(self._manifest["ref"]):
            owner = _owner_of(self._manifest)
        async for ref in self._below(self._manifest["parts"], owner):
            yield ref

    async def _below(self, parts: Sequence[Mapping[str, Any]], owner: str) -> AsyncIterator[ResultRef]:
        with as_written(self._manifest["ref"]):
            found = [(part["level"], _ref_of(part, owner)) for part in parts]
        for level, ref in found:
            if not level:
                yield ref
                continue
            listed = await self._resolver.load(ref.to_dict())
            with as_written(ref.ref):
                if any(part["level"] >= level for part in listed):
                    raise ValueError("a part of it contains one of its own level")
            async for leaf in self._below(listed, owner):
                yield leaf

    async def _loaded(self, ref: ResultRef) -> Any:
        if ref.meta.content_type == MEDIA_TYPE:
            check_readable(ref.ref)
        return await self._resolver.load(ref.to_dict())

    async def _rows(self, ref: ResultRef) -> AsyncIterator[bytes]:
        """The items of a table, or of a list with tables in it, without brackets."""
        value = await self._loaded(ref)
        from ..tables.export import items

        with as_json(ref.ref):
            async for piece in in_threads(items(value)):
                yield piece

    async def _text(self, ref: ResultRef) -> AsyncIterator[bytes]:
        """The items of a list of JSON, without brackets, as they are stored."""
        store = store_of(self._stores, ref)
        digest, codec = hashlib.sha256(b"["), ref.meta.compression
        bad_content = (Truncated, ValueError if codec is None else error_of(codec))
        try:
            with refusals(ref):
                async for piece in read(store, ref.key, 1, ref.meta.bytes - 1, codec):
                    digest.update(piece)
                    yield piece
        except OSError as error:
            raise ResultStoreUnavailable(f"the result store does not answer: {error}") from error
        except bad_content as error:
            raise _changed(ref.ref, error) from error
        digest.update(b"]")
        if digest.hexdigest() != ref.meta.sha256:
            raise _changed(ref.ref, "the stored bytes differ from those that were written")


def check_readable(ref: str) -> None:
    """Raises NotAcceptable if tables cannot be read here."""
    if find_spec("pyarrow") is None:
        raise NotAcceptable(
            f"{ref} has tables, and this control plane has no pyarrow to read them. A step can read it, and the parts "
            "that the list of results names are given as they are stored",
            available=[],
        )


def files_in(scratch: str) -> ResultFiles:
    """`scratch`: a folder, or empty for that of the system."""
    return ResultFiles(Path(scratch or tempfile.gettempdir()))


def _owner_of(manifest: Mapping[str, Any]) -> str:
    return ResultUri.parse(manifest["ref"]).execution_id


def _ref_of(part: Mapping[str, Any], owner: str) -> ResultRef:
    """ValueError for what is no object of the execution, and TypeError or KeyError for what is no part."""
    ref = part["ref"]
    if not isinstance(part["level"], int) or part["level"] < 0:
        raise TypeError("a part has no level")
    if COLLECTED in ref or ref.get("kind") == ACCUMULATED or not ref["key"].startswith(f"{owner}/"):
        raise ValueError(f"a part of it is no object of execution {owner}")
    # it validates the kind, too
    return ResultRef.model_validate(ref)


@contextmanager
def as_json(what: str) -> Iterator[None]:
    """Of tables that are converted: a value of one may have no form in JSON, or too large a one."""
    try:
        yield
    except InvalidTable as error:
        raise NotAcceptable(f"{what} cannot be had as JSON: {error}", available=[]) from error


@contextmanager
def as_written(ref: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _changed(ref, error) from error


def _changed(ref: str, why: object) -> ReferenceNotAvailable:
    return ReferenceNotAvailable(f"{ref} is not as it was written: {str(why).partition(chr(10))[0]:.300}", "changed")
