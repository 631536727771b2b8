"""Where `$ref` leads, always in the same schema, and the places of a schema that are schemas themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

from ...errors import pointer_keys

OF_ONE: Final = frozenset(
    {
        *("not", "if", "then", "else", "additionalProperties", "propertyNames", "items", "contains"),
        *("unevaluatedItems", "unevaluatedProperties"),
    }
)
OF_LIST: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
OF_MAPPING: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
# which apply to the same value as the schema that they stand in
IN_PLACE: Final = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"})

Path = tuple[str | int, ...]


def children(schema: Any) -> Iterator[tuple[Path, Any]]:
    """The schemas directly in `schema`, each with its path from there, as far as it is written as it has to be."""
    for keyword, argument in schema.items() if isinstance(schema, Mapping) else ():
        if keyword in OF_ONE:
            yield (keyword,), argument
        elif keyword in OF_LIST and isinstance(argument, list):
            yield from (((keyword, index), child) for index, child in enumerate(argument))
        elif keyword in OF_MAPPING and isinstance(argument, Mapping):
            yield from (((keyword, name), child) for name, child in argument.items())


def walk(schema: Any) -> Iterator[tuple[Path, Any]]:
    """All schemas in `schema`, itself included, each with its path."""
    waiting: list[tuple[Path, Any]] = [((), schema)]
    while waiting:
        path, found = waiting.pop()
        yield path, found
        waiting.extend(((*path, *relative), child) for relative, child in reversed(list(children(found))))


def keys_of(reference: str) -> list[str]:
    """The keys and indexes, as texts, that `$ref` names; raises ValueError if it is not a place of the same schema."""
    fragment = unquote(reference.removeprefix("#"))
    if not reference.startswith("#") or (fragment and not fragment.startswith("/")):
        raise ValueError
    return pointer_keys(fragment)


def target(root: Any, reference: str) -> Any:
    """Raises LookupError or ValueError if there is nothing."""
    found = root
    for key in keys_of(reference):
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found
