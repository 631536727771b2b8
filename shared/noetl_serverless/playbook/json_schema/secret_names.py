"""Which values of a document a schema marks as secret, with `writeOnly` or `x-secret`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .references import IN_PLACE, OF_LIST, OF_MAPPING, Path, children, target, walk

MARKS: Final = ("writeOnly", "x-secret")
# a value is looked into so deeply; what is below is not shown
MAX_DEPTH: Final = 32
_ITEMS: Final = frozenset({"items", "prefixItems", "contains", "unevaluatedItems"})
_OTHER_PROPERTIES: Final = frozenset({"patternProperties", "additionalProperties", "unevaluatedProperties"})


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
    return any(_has_mark(found) for found in _in_place(root, [schema]))


def without_secrets(root: Any, schemas: Sequence[Any], value: Any, depth: int = 0) -> Any:
    """`value`, to which `schemas` apply, without the properties that are secret; None if it is itself, or an array of
    which an item is. Patterns are not evaluated: a property may be one that they are for."""
    if depth > MAX_DEPTH or any(is_secret(root, schema) for schema in schemas):
        return None
    if isinstance(value, Mapping):
        inside = {name: _of_property(root, schemas, name) for name in value}
        secret = {name for name, found in inside.items() if any(is_secret(root, schema) for schema in found)}
        return {
            name: without_secrets(root, inside[name], item, depth + 1)
            for name, item in value.items()
            if name not in secret
        }
    if isinstance(value, list):
        inside_of_schemas = (each for found in _in_place(root, schemas) for each in children(found))
        inner = [child for path, child in inside_of_schemas if path[0] in _ITEMS]
        shown = [without_secrets(root, inner, item, depth + 1) for item in value]
        return None if any(item is None and value[at] is not None for at, item in enumerate(shown)) else shown
    return value


def _of_property(root: Any, schemas: Sequence[Any], name: str) -> list[Any]:
    found = []
    for schema in _in_place(root, schemas):
        for path, child in children(schema):
            if path[0] in _OTHER_PROPERTIES or (path[0] == "properties" and path[-1] == name):
                found.append(child)
    return found


def _in_place(root: Any, schemas: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas that apply, or may apply, to the same value."""
    waiting, seen = list(schemas), set[int]()
    while waiting:
        found = waiting.pop()
        if not isinstance(found, Mapping) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [child for path, child in children(found) if path[0] in IN_PLACE]
        if isinstance(reference := found.get("$ref"), str):
            waiting.append(target(root, reference))


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
