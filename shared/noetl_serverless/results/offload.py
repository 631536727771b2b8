"""The one place that decides whether a result is inline or by reference."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from ..errors import InvalidRequest
from ..limits import INLINE_BYTES
from .extract import extract
from .reference import Meta, ResultRef, ResultUri, preview, storage_key
from .stores import AUTO, ResultStores

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def dump(data: Any) -> bytes:
    """The result as JSON; raises InvalidRequest, which names what has no JSON form."""
    try:
        return orjson.dumps(data, default=_plain, option=_OPTIONS)
    except TypeError as error:
        cause = error.__cause__ or error
        raise InvalidRequest(f"the result is not a JSON value: {cause}") from error


async def externalise(
    data: Any,
    *,
    execution_id: str,
    step: str,
    suffix: str,
    stores: ResultStores,
    kind: str = AUTO,
    select: Sequence[tuple[str, str]] = (),
    limit: int = INLINE_BYTES,
) -> dict[str, Any]:
    """{"data": ...} for what fits into an event, else {"ref": ...} once a store has it; `kind`: which one, as the
    playbook says.

    `suffix` names the attempt (a command id): together with the content it determines where the result is written, so
    that a retry writes to another place or the same bytes. With `select`, (JSON path, name) pairs, the result is always
    by reference, so that the selected names exist whatever its size.
    """
    if isinstance(data, bool | int | float | None) and not select:
        return {"data": data}
    content = dump(data)
    if len(content) <= limit and not select:
        return {"data": data}
    # in a thread, since a large one takes a while
    sha256 = (await asyncio.to_thread(hashlib.sha256, content)).hexdigest()
    digest = hashlib.sha256(f"{suffix}\n{sha256}".encode()).hexdigest()[:32]
    fields = extract(data, select)
    stored = await stores.choose(kind, len(content)).put(storage_key(execution_id, step, digest), content)
    reference = ResultRef(
        # the storage key keeps more of the digest: 32 bits alone would collide in a wide fan-out
        ref=str(ResultUri(execution_id, "result", step, digest[:8])),
        store=stored.store,
        key=stored.key,
        meta=Meta(
            bytes=stored.bytes,
            sha256=sha256,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            row_count=_rows(data),
        ),
        preview=preview(content),
        extracted=fields,
    )
    return {"ref": reference.to_dict()}


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
