"""What a schema may look like: draft 2020-12, without what is loaded from elsewhere or cannot be bounded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from ...errors import json_pointer
from ..faults import did_you_mean
from ..values import is_deeper
from . import patterns
from .check import TYPES, is_number
from .fault import SchemaFault, cut, given_phrase, pointer_of
from .references import IN_PLACE, OF_LIST, OF_MAPPING, OF_ONE, Path, children, keys_of, walk

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
# of JSON
MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 48
MAX_FAULTS: Final = 20

REFUSED: Final[Mapping[str, str]] = {
    "$anchor": "name the place with a JSON pointer: $ref: '#/$defs/name'",
    "$dynamicAnchor": "use $defs and $ref",
    "$dynamicRef": "use $ref: '#/$defs/name'",
    "$id": "a schema is a whole by itself",
    "$recursiveRef": "use $ref: '#'",
    "$vocabulary": "the vocabularies are those of draft 2020-12",
    "additionalItems": "use items, and prefixItems for those before",
    "contentSchema": "texts are not decoded",
    "definitions": "use $defs",
    "dependencies": "use dependentRequired or dependentSchemas",
    "divisibleBy": "use multipleOf",
    "id": "a schema is a whole by itself",
    "nullable": "add null to the types: type: [string, 'null']",
}


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value) and len(set(value)) == len(value)


_BOOLEAN: Final = ("true or false", lambda value: isinstance(value, bool))
_COUNT: Final = (
    "a whole number from 0",
    lambda value: is_number(value) and value >= 0 and (isinstance(value, int) or value.is_integer()),
)
_NUMBER: Final = ("a number", is_number)
_TEXT: Final = ("a string", lambda value: isinstance(value, str))
_ANY: Final = ("any value", lambda value: True)
_STRINGS: Final = ("a list of different strings", _is_strings)
_TYPE: Final = (
    f"one of {', '.join(TYPES)}, or a list of them",
    lambda value: (
        value in TYPES if isinstance(value, str) else bool(value) and _is_strings(value) and set(value) <= TYPES.keys()
    ),
)

# of each keyword that holds no schema: what it takes
SHAPES: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "$comment": _TEXT,
    "$ref": _TEXT,
    "$schema": _TEXT,
    "const": _ANY,
    "contentEncoding": _TEXT,
    "contentMediaType": _TEXT,
    "default": _ANY,
    "dependentRequired": (
        "an object of lists of different strings",
        lambda value: isinstance(value, Mapping) and all(_is_strings(names) for names in value.values()),
    ),
    "deprecated": _BOOLEAN,
    "description": _TEXT,
    "enum": ("a list of at least one value", lambda value: isinstance(value, list) and bool(value)),
    "examples": ("a list", lambda value: isinstance(value, list)),
    "exclusiveMaximum": _NUMBER,
    "exclusiveMinimum": _NUMBER,
    "format": _TEXT,
    "maxContains": _COUNT,
    "maxItems": _COUNT,
    "maxLength": _COUNT,
    "maxProperties": _COUNT,
    "maximum": _NUMBER,
    "minContains": _COUNT,
    "minItems": _COUNT,
    "minLength": _COUNT,
    "minProperties": _COUNT,
    "minimum": _NUMBER,
    "multipleOf": ("a number above 0", lambda value: is_number(value) and value > 0),
    "pattern": _TEXT,
    "readOnly": _BOOLEAN,
    "required": _STRINGS,
    "title": _TEXT,
    "type": _TYPE,
    "uniqueItems": _BOOLEAN,
    "writeOnly": _BOOLEAN,
    "x-secret": _BOOLEAN,
}
ALL: Final = frozenset(SHAPES) | OF_ONE | OF_LIST | OF_MAPPING


def validate_schema(schema: Any) -> list[SchemaFault]:
    """What is wrong with `schema`, at most MAX_FAULTS, each with its JSON pointer in it. It must be JSON."""
    if is_deeper(schema, MAX_DEPTH):
        return [_fault((), f"the schema is nested deeper than {MAX_DEPTH} levels", "less", "more")]
    size = len(json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_BYTES:
        message = f"the schema has {size:,} bytes of JSON, more than {MAX_BYTES:,}"
        return [_fault((), message, f"at most {MAX_BYTES:,} bytes", f"{size:,} bytes")]
    rules = _Rules(schema)
    for path, found in walk(schema):
        rules.check(path, found)
        if len(rules.faults) >= MAX_FAULTS:
            return rules.faults[:MAX_FAULTS]
    if not rules.faults:
        rules.check_references()
    return rules.faults[:MAX_FAULTS]


class _Rules:
    def __init__(self, root: Any) -> None:
        self.faults: list[SchemaFault] = []
        self._places = {json_pointer(path) for path, _ in walk(root)}
        self._root = root

    def check(self, path: Path, schema: Any) -> None:
        if isinstance(schema, bool):
            return
        if not isinstance(schema, Mapping):
            self._wrong(path, "a schema: an object, true or false", schema)
            return
        for keyword, argument in schema.items():
            self._keyword((*path, keyword), keyword, argument)

    def _keyword(self, path: Path, keyword: str, argument: Any) -> None:
        if keyword in REFUSED:
            self.faults.append(
                _fault(path, f"'{keyword}' cannot be used: {REFUSED[keyword]}", "no such keyword", keyword)
            )
        elif keyword in OF_LIST:
            if not isinstance(argument, list) or not argument:
                self._wrong(path, "a list of at least one schema", argument)
        elif keyword in OF_MAPPING:
            if not isinstance(argument, Mapping):
                self._wrong(path, "an object whose values are schemas", argument)
            elif keyword == "patternProperties":
                for pattern in argument:
                    self._pattern((*path, pattern), pattern)
        elif keyword in SHAPES:
            expected, fits = SHAPES[keyword]
            if not fits(argument):
                self._wrong(path, expected, argument)
            elif keyword == "pattern":
                self._pattern(path, argument)
            elif keyword == "$ref":
                self._reference(path, argument)
            elif keyword == "$schema" and (len(path) > 1 or argument.removesuffix("#") != DIALECT):
                place = "" if len(path) == 1 else ", and only at the root"
                self._wrong(path, f"{DIALECT}{place}", argument)
        elif keyword not in OF_ONE and not keyword.startswith("x-"):
            message = f"there is no keyword '{cut(keyword)}' in JSON Schema 2020-12{did_you_mean(keyword, ALL)}"
            self.faults.append(_fault(path, message, "a keyword of JSON Schema, or x-...", cut(keyword)))

    def _pattern(self, path: Path, pattern: str) -> None:
        try:
            patterns.compiled(pattern)
        except ValueError as error:
            message = f"the pattern cannot be used: {error}; it is one of RE2, without lookaround and backreferences"
            self.faults.append(_fault(path, message, "a regular expression of RE2", cut(pattern)))

    def _reference(self, path: Path, reference: str) -> None:
        try:
            found = json_pointer(keys_of(reference)) in self._places
        except ValueError:
            message = (
                f"'{cut(reference)}' is not a place in this schema; other documents are never loaded: copy the schema "
                "to $defs, and write $ref: '#/$defs/name'"
            )
            self.faults.append(_fault(path, message, "#/$defs/...", cut(reference)))
            return
        if not found:
            message = f"there is no schema at '{cut(reference)}'{did_you_mean(reference, self._named())}"
            self.faults.append(_fault(path, message, "the place of a schema", cut(reference)))

    def _named(self) -> list[str]:
        return [f"#{place}" for place in sorted(self._places) if place.startswith("/$defs/")]

    def check_references(self) -> None:
        """No schema may apply to the same value again and again."""
        leads_to: dict[str, list[str]] = {}
        paths: dict[str, Path] = {}
        for path, schema in walk(self._root):
            here = json_pointer(path)
            paths[here] = path
            inside = [json_pointer((*path, *part)) for part, _ in children(schema) if part[0] in IN_PLACE]
            if isinstance(schema, Mapping) and "$ref" in schema:
                inside.append(json_pointer(keys_of(schema["$ref"])))
            leads_to[here] = inside
        done: set[str] = set()
        for start in leads_to:
            if (again := _cycle(start, leads_to, done)) is not None:
                path = paths[again]
                message = (
                    "this schema leads back to itself for the same value, without going into a property or an item"
                )
                self.faults.append(_fault(path, message, "a $ref inside properties or items", "a cycle"))
                return

    def _wrong(self, path: Path, expected: str, value: Any) -> None:
        given = given_phrase(value)
        self.faults.append(_fault(path, f"this must be {expected}, not {given}", expected, given))


def _cycle(start: str, leads_to: Mapping[str, list[str]], done: set[str]) -> str | None:
    """A place on a cycle that is reached from `start`; what is known to lead to none is added to `done`."""
    under_way: set[str] = set()
    stack = [(start, iter(leads_to[start]))] if start not in done else []
    under_way.add(start)
    while stack:
        place, rest = stack[-1]
        following = next(rest, None)
        if following is None:
            stack.pop()
            under_way.discard(place)
            done.add(place)
        elif following in under_way:
            return following
        elif following not in done:
            under_way.add(following)
            stack.append((following, iter(leads_to[following])))
    return None


def _fault(path: Path, message: str, expected: str, given: str) -> SchemaFault:
    return SchemaFault(pointer_of(path), message, expected, given)
