"""What a value may be, in words, from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

_DEFS: Final = "#/$defs/"
_TEXTS: Final[Mapping[str, str]] = {
    "Duration": "a time such as `500ms`, `30s` or `1h30m`",
    "Expression": "one `{{ expression }}`",
    "Template": "a template",
}
_PATTERNS: Final[Mapping[str, str]] = {
    "^[A-Za-z_][A-Za-z0-9_]*$": "name of letters, digits and `_` that does not begin with a digit",
    "^[A-Za-z_][A-Za-z0-9_-]*$": "name of letters, digits, `_` and `-` that begins with a letter or `_`",
    "^[A-Za-z0-9_][A-Za-z0-9_./-]*$": "text of letters, digits and `_./-`",
    r"^\$(\.[A-Za-z_][A-Za-z0-9_-]*|\[\d{1,9}\])*$": "path such as `$.rows[0].id`",
}
_LEFT_OUT: Final[tuple[Any, ...]] = (None, {}, [])

Schema = Mapping[str, Any]
# of a definition, or of a word that a key may be
Linked = Callable[[str], str]


def type_of(schema: Schema, of_object: Linked, of_word: Linked) -> str:
    """What a value may be. `of_object` gives what to write for a definition, `of_word` for one of several words."""
    return _joined(_options(schema, of_object, of_word))


def default_of(schema: Schema) -> str | None:
    """As JSON; None if there is none, or if that says nothing."""
    default = schema.get("default")
    if default in _LEFT_OUT or isinstance(default, dict):
        return None
    return default if isinstance(default, str) else f"{default:g}" if _is_float(default) else json.dumps(default)


def _is_float(value: Any) -> bool:
    return isinstance(value, float)


def _options(schema: Schema, of_object: Linked, of_word: Linked) -> Iterator[str]:
    choices = [option for key in ("anyOf", "oneOf") for option in schema.get(key, ()) if "required" not in option]
    if choices:
        for option in choices:
            yield from _options(option, of_object, of_word)
    elif "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(_DEFS)
        yield _TEXTS.get(name) or of_object(name)
    elif "enum" in schema or "const" in schema:
        words = schema.get("enum") or [schema["const"]]
        yield from (of_word(str(word)) for word in words)
    elif schema.get("type") == "array":
        yield _list(schema, of_object, of_word)
    elif schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        yield f"object{_of(inner, of_object, of_word) if isinstance(inner, Mapping) else ''}"
    elif schema.get("type") == "boolean":
        yield from ("`true`", "`false`")
    elif schema.get("type") != "null":
        yield _plain(schema)


def _list(schema: Schema, of_object: Linked, of_word: Linked) -> str:
    of = _of(schema.get("items", {}), of_object, of_word)
    least, most = schema.get("minItems"), schema.get("maxItems")
    bounds = [f"at least {least}"] if least else []
    bounds += [f"at most {most}"] if most else []
    return f"list{of} ({', '.join(bounds)})" if bounds else f"list{of}"


def _of(inner: Schema, of_object: Linked, of_word: Linked) -> str:
    """What the items of a list, or the values of an object, may be, of which a template need not be said again."""
    found = [option for option in _options(inner, of_object, of_word) if option != _TEXTS["Template"]]
    return f" of {_joined(found)}" if inner else ""


def _joined(options: Iterable[str]) -> str:
    *others, last = dict.fromkeys(options)
    return f"{', '.join(others)} or {last}" if others else last


def _plain(schema: Schema) -> str:
    match schema.get("type"):
        case "string":
            return _PATTERNS.get(schema.get("pattern", ""), "text") + _length(schema)
        case "integer":
            return f"integer{_range(schema)}"
        case "number":
            return f"number{_range(schema)}"
        case _:
            return "any value"


def _length(schema: Schema) -> str:
    return f" (at most {schema['maxLength']} characters)" if "maxLength" in schema else ""


def _range(schema: Schema) -> str:
    least, above, most = (schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    lower = f"from {_number(least)}" if least is not None else f"above {_number(above)}" if above is not None else ""
    upper = f"to {_number(most)}" if most is not None else ""
    if lower and not upper:
        lower = f"of at least {_number(least)}" if least is not None else lower
    if lower.startswith("above") and upper:
        upper = f"up {upper}"
    return "".join(f" {part}" for part in (lower, upper) if part)


def _number(value: float) -> str:
    return f"{value:,.10g}" if value >= 10_000 else f"{value:g}"
