"""The JSON of a result of which something was accumulated, made of its parts as it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import orjson

from ..playbook.views import COLLECTED
from ..results.accumulated import MERGE, leaves_of
from ..results.reader import Resolver
from ..results.stores import ResultStores

# rows of a table that are written at once
_ROWS: Final = 10_000


def size_of(document: Mapping[str, Any]) -> int:
    """About how many bytes of JSON it has, as far as that is accumulated."""
    return sum(int(manifest["total_bytes"]) for manifest in document[COLLECTED].values())


async def pieces_of(document: Mapping[str, Any], stores: ResultStores) -> AsyncIterator[bytes]:
    """Raises ReferenceNotAvailable for a part that is gone, and StoreFailed."""
    # each part is read once
    resolver = Resolver(stores, cache_bytes=0)
    separator = b"{"
    for name, value in document["rest"].items():
        yield separator + orjson.dumps(name) + b":" + orjson.dumps(value)
        separator = b","
    for name, manifest in document[COLLECTED].items():
        yield separator + orjson.dumps(name) + b":"
        separator = b","
        if manifest["strategy"] == MERGE:
            # later parts replace keys of earlier ones
            yield orjson.dumps(await resolver.load(manifest))
            continue
        async for piece in _items(manifest, resolver):
            yield piece
    yield b"{}" if separator == b"{" else b"}"


async def _items(manifest: Mapping[str, Any], resolver: Resolver) -> AsyncIterator[bytes]:
    separator = b"["
    async for _, part in leaves_of(manifest, resolver.load):
        for start in range(0, len(part), _ROWS):
            yield separator + orjson.dumps(part[start : start + _ROWS])[1:-1]
            separator = b","
    yield b"[]" if separator == b"[" else b"]"
