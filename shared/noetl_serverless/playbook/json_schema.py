"""Values against JSON Schemas, draft 2020-12. References lead only within the schema: nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import json_pointer

# more than anybody reads
MAX_FAULTS: Final = 20
_TYPES: Final = ("string", "number", "integer", "boolean", "object", "array", "null")


@dataclass(frozen=True, slots=True)
class SchemaFault:
    """Where a value differs from its schema. `expected`: what the schema says there; `given`: the value there."""

    pointer: str
    message: str
    expected: Any = None
    given: Any = None


def check(schema: Mapping[str, Any], value: Any) -> list[SchemaFault]:
    """What of `value` the schema does not allow, the outer parts first; at most MAX_FAULTS."""
    # most processes check nothing
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    validator = Draft202012Validator(schema, registry=Registry())
    try:
        found = _first(validator.iter_errors(value))
    except Unresolvable as error:
        return [SchemaFault("", f"the schema refers to {error.ref!r}, which it does not contain")]
    except RecursionError:
        return [SchemaFault("", "the value or its schema is nested too deeply")]
    return [_fault(error) for error in sorted(found, key=lambda one: len(one.absolute_path))]


def validate_schema(schema: Any) -> list[SchemaFault]:
    """What is wrong with a schema itself; pointers are relative to it."""
    from jsonschema import Draft202012Validator

    found = [
        _fault(error) for error in _first(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema))
    ]
    if found:
        return found
    return [
        SchemaFault(
            json_pointer(path), f"a reference leads to a part of the schema itself, as in #/$defs/name: {target!r}"
        )
        for path, target in _references(schema, ())
        if not target.startswith("#")
    ]


def _references(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in ("$ref", "$dynamicRef") and isinstance(item, str):
                yield (*path, key), item
            elif key not in ("const", "enum", "default", "examples"):
                yield from _references(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, (*path, index))


def _first(errors: Iterable[Any]) -> list[Any]:
    found = []
    for error in errors:
        found.append(error)
        if len(found) == MAX_FAULTS:
            break
    return found


def _fault(error: Any) -> SchemaFault:
    return SchemaFault(
        json_pointer(error.absolute_path), _message(error), {error.validator: error.validator_value}, error.instance
    )


def _message(error: Any) -> str:
    """Without the value, which may be long or secret."""
    limit = error.validator_value
    if (
        error.absolute_path
        and error.absolute_path[-1] == "type"
        and error.validator == "anyOf"
        and "simpleTypes" in str(limit)
    ):
        return f"this must be a type, or a list of types: {', '.join(_TYPES)}"
    match error.validator:
        case "type":
            return f"this must be {' or '.join([limit] if isinstance(limit, str) else limit)}"
        case "required":
            missing = [name for name in limit if name not in error.instance]
            return f"{', '.join(map(repr, missing))} {'is' if len(missing) == 1 else 'are'} required"
        case "additionalProperties" if limit is False:
            extra = sorted(set(error.instance) - set(error.schema.get("properties", {})))
            return f"{', '.join(map(repr, extra))} {'is' if len(extra) == 1 else 'are'} not allowed here"
        case "enum":
            return f"this must be one of {', '.join(map(repr, limit))}"
        case "const":
            return f"this must be {limit!r}"
        case keyword:
            return f"this does not fulfil {keyword}: {str(limit)[:200]}"
