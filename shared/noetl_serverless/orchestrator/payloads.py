"""Payloads of sub-playbooks that are too large for the log and are kept in the result store."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, NamedTuple

import orjson

from ..commands.reference import executions_of
from ..errors import InvalidRequest, ResultStoreUnavailable
from ..limits import PAYLOADS_BYTES, WORKLOAD_BYTES
from ..playbook.values import InvalidValue, stored
from ..results.stores import ResultStores

logger = logging.getLogger(__name__)

# seconds for one payload: a store that takes longer counts as away
READ_TIMEOUT_SECONDS = 10.0
# seconds after that without another attempt, since each of many callers would wait as long
STORE_PAUSE_SECONDS = 5.0
PAYLOAD_REF = "payload_ref"


class PayloadKey(NamedTuple):
    store: str
    key: str
    sha256: str
    # bytes
    size: int


class Payloads:
    """Reads and checks payloads. Those read last are cached, mainly for the commit that opens the child; cached values
    are shared and must not be changed."""

    def __init__(self, results: Callable[[], ResultStores] | None) -> None:
        """`results` makes the result stores when one is first needed; without it every reference is refused."""
        self._results = results
        self._stores: ResultStores | None = None
        self._cached: OrderedDict[PayloadKey, Any] = OrderedDict()
        self._bytes = 0
        # until when each store counts as away
        self._away_until: dict[str, float] = {}

    async def load_payload(self, execution_id: str, child: Mapping[str, Any]) -> Mapping[str, Any]:
        """The payload that `child` is started with; `child` is as in the execution's `call.parked` and `child.started`.
        Raises InvalidRequest if it does not exist or is not allowed, ResultStoreUnavailable while it cannot be read."""
        ref = child.get(PAYLOAD_REF)
        if ref is None:
            return child.get("payload") or {}
        if executions_of(ref) != {execution_id}:
            raise InvalidRequest("the payload's reference belongs to another execution")
        payload = await self.load_value(ref)
        if not isinstance(payload, dict):
            raise InvalidRequest("the payload must be an object")
        return payload

    async def load_value(self, ref: Mapping[str, Any]) -> Any:
        """The value of a reference whose owner has been checked; raises as `load_payload` does."""
        key = _key_of(ref)
        if key in self._cached:
            self._cached.move_to_end(key)
            return self._cached[key]
        content = await self._read(key)
        value = await asyncio.to_thread(_decoded, content, key)
        self._cache_value(key, value)
        return value

    async def _read(self, key: PayloadKey) -> bytes:
        if self._results is None:
            raise InvalidRequest("the payload is a reference, but no result store is configured")
        if monotonic() < self._away_until.get(key.store, 0.0):
            raise ResultStoreUnavailable("the result store is temporarily unavailable; try again")
        if self._stores is None:
            self._stores = self._results()
        try:
            store = self._stores.named(key.store)
        except KeyError:
            raise InvalidRequest(
                f"the payload is in the result store {key.store!r}, which this deployment does not have"
            ) from None
        reading = asyncio.timeout(READ_TIMEOUT_SECONDS)
        try:
            async with reading:
                # an object that is larger than its reference says is not read to its end
                content = await store.get_range(key.key, 0, key.size + 1)
        except (KeyError, ValueError):
            # ValueError: not a valid key
            raise InvalidRequest("the payload is not in the result store") from None
        except Exception as error:
            if reading.expired():
                self._away_until[key.store] = monotonic() + STORE_PAUSE_SECONDS
            logger.warning("a payload could not be read: %s", error)
            raise ResultStoreUnavailable("the result store does not answer; try again") from error
        return content

    def _cache_value(self, key: PayloadKey, value: Any) -> None:
        if key in self._cached:
            return
        self._cached[key] = value
        self._bytes += key.size
        while self._bytes > PAYLOADS_BYTES:
            evicted, _ = self._cached.popitem(last=False)
            self._bytes -= evicted.size


def payload_bytes(ref: Mapping[str, Any] | None) -> int:
    """Bytes to be read for a payload, according to its reference; 0 if it has none, or is too large to be read."""
    meta = (ref or {}).get("meta")
    size = meta.get("bytes") if isinstance(meta, Mapping) else 0
    return size if isinstance(size, int) and 0 < size <= WORKLOAD_BYTES else 0


def _key_of(ref: Mapping[str, Any]) -> PayloadKey:
    """Raises InvalidRequest."""
    meta = ref.get("meta") or {}
    store, key, sha256, size = ref.get("store"), ref.get("key"), meta.get("sha256"), meta.get("bytes")
    if not store or not key or not sha256 or not size:
        raise InvalidRequest("the payload's reference needs `store`, `key`, `meta.sha256` and `meta.bytes`")
    if size > WORKLOAD_BYTES:
        raise InvalidRequest(f"the payload has {size} bytes; the limit is {WORKLOAD_BYTES}; pass a URL instead")
    return PayloadKey(store, key, sha256, size)


def _decoded(content: bytes, key: PayloadKey) -> Any:
    if len(content) != key.size or hashlib.sha256(content).hexdigest() != key.sha256:
        raise InvalidRequest("the payload in the result store does not match its reference")
    try:
        return stored(orjson.loads(content))
    except (orjson.JSONDecodeError, InvalidValue) as error:
        raise InvalidRequest(f"the payload cannot be stored: {error}") from None
