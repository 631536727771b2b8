"""The stores that a deployment has for results, its tiers, and which of them a result goes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ..errors import Unsupported
from ..limits import KIB, MIB
from ..ports import ResultStore
from .unfinished import UnfinishedWrites

AUTO: Final = "auto"
KV: Final = "kv"
POSTGRES: Final = "postgres"
# what all of these name is the object store of the deployment, so that a playbook runs on each
OBJECT_KINDS: Final = frozenset({"disk", "object", "s3", "gcs"})
# other names of stores in playbooks
ALIASES: Final[Mapping[str, str]] = {"db": POSTGRES}
# the largest object of a store, in bytes
MAX_BYTES: Final[Mapping[str, int]] = {KV: 1 * MIB - 4 * KIB}


class NoObjectStore(Unsupported):
    def __init__(self) -> None:
        super().__init__("this needs an object store, and this deployment has none: set NOETL_RESULT_URL")


class ResultStores:
    """`objects`: the object store, if there is one; `kv`, `postgres`: the others. `auto`: their order, as it is tried
    for results whose playbook names none; after them comes the object store, and then PostgreSQL."""

    def __init__(
        self,
        objects: ResultStore | None = None,
        *,
        kv: ResultStore | None = None,
        postgres: ResultStore | None = None,
        auto: Sequence[str] = (),
    ) -> None:
        """ValueError if nothing is left for large results, or `auto` names what there is not."""
        self._objects = objects
        self._by_name = {store.name: store for store in (objects, kv, postgres) if store is not None}
        if missing := [name for name in auto if name not in self._by_name]:
            raise ValueError(f"there is no result store {', '.join(missing)}; there are {', '.join(self._by_name)}")
        last = [store.name for store in (objects, postgres) if store is not None]
        self._auto = list(dict.fromkeys([*auto, *last]))
        if not last:
            raise ValueError("results need an object store or PostgreSQL")
        self._default = self._by_name[last[0]]
        self.unfinished = UnfinishedWrites()

    @property
    def default(self) -> ResultStore:
        """Takes objects of any size: the object store, or PostgreSQL where there is none."""
        return self._default

    def objects(self) -> ResultStore:
        """The object store; raises NoObjectStore."""
        if self._objects is None:
            raise NoObjectStore
        return self._objects

    def named(self, name: str) -> ResultStore:
        """The store that a reference names; KeyError if this deployment has none of that name."""
        return self._by_name[name]

    def choose(self, kind: str, size: int) -> ResultStore:
        """The store for an object of `size` bytes; `kind`: what the playbook says. One that cannot take it, or that
        this deployment does not have, is as good as auto."""
        name = ALIASES.get(kind, kind)
        if name in OBJECT_KINDS and self._objects is not None:
            return self._objects
        for candidate in (name, *self._auto):
            if candidate in self._by_name and size <= MAX_BYTES.get(candidate, size):
                return self._by_name[candidate]
        # unreachable: the last of `auto` takes any size
        raise AssertionError("no store takes it")

    def __iter__(self) -> Iterator[ResultStore]:
        return iter(self._by_name.values())
