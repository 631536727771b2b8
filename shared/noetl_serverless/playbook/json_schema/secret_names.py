"""Which values of a document a schema marks as secret, with `writeOnly` or `x-secret`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .references import IN_PLACE, OF_LIST, OF_MAPPING, Path, children, target, walk

MARKS: Final = ("writeOnly", "x-secret")


@dataclass(frozen=True, slots=True)
class SecretNames:
    """The names of properties that are secret; `everything`: what is marked has no name, such as the items of an
    array, so that every value counts as secret. Rather too many than too few: a name counts wherever it stands."""

    names: frozenset[str] = frozenset()
    everything: bool = False

    def cover(self, path: Sequence[str | int]) -> bool:
        return self.everything or not self.names.isdisjoint(path)


def secret_names(schema: Any) -> SecretNames:
    names: set[str] = set()
    everything = False
    for path, found in walk(schema):
        parts = _parts(path)
        if parts and parts[-1][0] == "properties" and is_secret(schema, found):
            names.add(str(path[-1]))
        elif _has_mark(found) and not _is_reached_by_name(path):
            everything = True
    return SecretNames(frozenset(names), everything)


def is_secret(root: Any, schema: Any) -> bool:
    """Whether `schema`, or one that applies to the same value, has a mark. `schema` is a part of `root`."""
    waiting, seen = [schema], set[int]()
    while waiting:
        found = waiting.pop()
        if not isinstance(found, Mapping) or id(found) in seen:
            continue
        seen.add(id(found))
        if _has_mark(found):
            return True
        waiting += [child for path, child in children(found) if path[0] in IN_PLACE]
        if isinstance(reference := found.get("$ref"), str):
            waiting.append(target(root, reference))
    return False


def _has_mark(schema: Any) -> bool:
    return isinstance(schema, Mapping) and any(schema.get(mark) is True for mark in MARKS)


def _is_reached_by_name(path: Path) -> bool:
    """Whether it applies to the value of a named property only. A definition may be used anywhere."""
    return next((part[0] == "properties" for part in reversed(_parts(path)) if part[0] not in IN_PLACE), False)


def _parts(path: Path) -> list[Path]:
    """Each keyword of the path, with the name or the index that follows."""
    parts: list[Path] = []
    while path:
        length = 2 if path[0] in OF_MAPPING or path[0] in OF_LIST else 1
        parts.append(path[:length])
        path = path[length:]
    return parts
