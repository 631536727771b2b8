"""The fields of a form for starting a playbook: from the schema of its input, or else from the defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from .json_schema.references import target
from .json_schema.secret_names import is_secret, without_secrets

# fields inside of fields; a schema may use itself
MAX_DEPTH: Final = 8
# of one form
MAX_FIELDS: Final = 1000
# the key of a schema that names the credentials which a form offers, as a glob
CREDENTIAL: Final = "x-credential"

_KINDS: Final[Mapping[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
    dict: "object",
    list: "array",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FormField:
    """`kind`: string, integer, number, boolean, object, array, null, enum, or any. `default`: of the workload, never of
    a secret. `credential_glob`: of the names of credentials to choose from. `options`: of an enum. `children`: of an
    object."""

    name: str
    kind: str
    default: Any = None
    description: str | None = None
    required: bool = False
    secret: bool = False
    credential_glob: str | None = None
    options: list[Any] | None = None
    children: list[FormField] | None = None


def input_form(workload: Mapping[str, Any], schema: Mapping[str, Any] | None) -> list[FormField]:
    """In the order of the schema, then of the workload. `schema` is one that `validate_schema` has no fault of."""
    return _Form(schema or {}).fields(schema or {}, workload, 0)


def result_form(schema: Mapping[str, Any]) -> FormField:
    """The result as a field."""
    return _Form(schema).field("result", [schema], {}, 0)


def takes_only_text(schema: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Whether the value at `path`, of names of properties, has to be a text."""
    form = _Form(schema)
    schemas: list[Any] = [schema]
    for name in path:
        properties = [part.get("properties", {}) for inner in schemas for part in form.parts(inner)]
        schemas = [found[name] for found in properties if name in found]
    parts = [part for inner in schemas for part in form.parts(inner)]
    return any(part.get("type") in ("string", ["string"]) or _are_texts(part.get("enum")) for part in parts)


def _are_texts(options: Any) -> bool:
    return isinstance(options, list) and all(isinstance(option, str) for option in options)


class _Form:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = MAX_FIELDS

    def fields(self, schema: Mapping[str, Any], defaults: Any, depth: int) -> list[FormField]:
        values = defaults if isinstance(defaults, Mapping) else {}
        properties: dict[str, Any] = {}
        required: set[str] = set()
        for part in self.parts(schema):
            for name, inner in part.get("properties", {}).items():
                properties.setdefault(name, []).append(inner)
            required |= set(part.get("required", ()))
        shown = without_secrets(self._root, [schema], values) or {}
        found = []
        # what is secret though it has no schema of its own has no field
        for name in dict.fromkeys((*properties, *(name for name in values if name in shown))):
            if self._left <= 0:
                break
            self._left -= 1
            field = self.field(name, properties.get(name, []), values, depth)
            is_required = name in required and name not in values
            found.append(replace(field, default=shown.get(name), required=is_required))
        return found

    def field(self, name: str, schemas: list[Any], values: Mapping[str, Any], depth: int) -> FormField:
        default = values.get(name)
        parts = [part for schema in schemas for part in self.parts(schema)]
        described = {key: value for part in reversed(parts) for key, value in part.items()}
        options = described.get("enum") or ([described["const"]] if "const" in described else None)
        kind = "enum" if options is not None else _kind(described.get("type"), values, name)
        secret = any(is_secret(self._root, schema) for schema in schemas)
        children = None
        if kind == "object" and depth < MAX_DEPTH:
            children = self.fields({"allOf": schemas}, {} if secret else default, depth + 1)
        return FormField(
            name=name,
            kind=kind,
            description=described.get("description") or described.get("title"),
            secret=secret,
            credential_glob=glob if isinstance(glob := described.get(CREDENTIAL), str) else None,
            options=options,
            children=children,
        )

    def parts(self, schema: Any) -> Iterator[Mapping[str, Any]]:
        """The schemas that all apply to the same value."""
        waiting, seen = [schema], set[int]()
        while waiting:
            found = waiting.pop(0)
            if not isinstance(found, Mapping) or id(found) in seen:
                continue
            seen.add(id(found))
            yield found
            if (reference := found.get("$ref")) is not None:
                waiting.append(target(self._root, reference))
            waiting += found.get("allOf", ())


def _kind(types: Any, values: Mapping[str, Any], name: str) -> str:
    """`null` only if nothing else is allowed."""
    names = [types] if isinstance(types, str) else list(types or ())
    named = next((name for name in names if name != "null"), "null" if names else None)
    if named is not None:
        return str(named)
    return _KINDS.get(type(values[name]), "any") if name in values else "any"
