"""The JSON Schema of the language, for editors: what each key takes, and for each kind of tool what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .grammar import PLAIN_CONFIG, RESOLVED_KINDS
from .key_texts import KEYS, PARTS
from .model import Playbook
from .part import Part
from .resource import MODELS
from .tool_calls import KIND as CATALOG
from .tool_calls import ToolCall

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
IDENTIFIER: Final = "urn:noetl:playbook:v2"
_DEFS: Final = "#/$defs/"
# keys of the language whose value is a time
_TIMES: Final = frozenset(
    {"timeout", "connect", "read", "delay", "max_delay", "max_seconds", "lease_seconds", "heartbeat_seconds", "per"}
)
# what the model says of text that is one expression
_EXPRESSION: Final = {"type": "string", "format": "expression"}
# begins the name of the definition of a kind of tool
_OF_TOOL: Final = "tool."
# parts of the configs of tools that are read when the playbook is registered
_PLAIN_PARTS: Final = frozenset({"Script", "Source"})
_TEMPLATE: Final = {"$ref": f"{_DEFS}Template"}
# of a schema that stands for a value, beside what the value may be
_OUTER: Final = ("description", "default")

Schema = dict[str, Any]


def playbook_schema(configs: Mapping[str, Schema]) -> Schema:
    """JSON Schema 2020-12 of a playbook. `configs`: each known kind of tool with the schema of the keys of its own, in
    which a template may stand for a value of any type."""
    return _document(Playbook, "Playbook", configs, identifier=IDENTIFIER, title="NoETL playbook")


def resource_schema(kind: str, configs: Mapping[str, Schema]) -> Schema:
    """JSON Schema 2020-12 of another document of the catalog: Tool, Mcp or Credential."""
    title = f"NoETL {kind}"
    return _document(
        MODELS[kind], MODELS[kind].__name__, configs, identifier=f"urn:noetl:{kind.lower()}:v2", title=title
    )


def _document(model: type[Part], name: str, configs: Mapping[str, Schema], *, identifier: str, title: str) -> Schema:
    schema = model.model_json_schema(by_alias=True)
    definitions: dict[str, Schema] = schema.pop("$defs", {})
    definitions[name] = schema
    for one, definition in definitions.items():
        _describe(one, definition)
    if "Tool" in definitions:
        definitions |= _tools(definitions.pop("Tool"), configs)
    root = definitions.pop(name)
    return {
        "$schema": DIALECT,
        "$id": identifier,
        "title": title,
        **_untitled(root),
        "$defs": {one: _untitled(definition) for one, definition in sorted(definitions.items())},
    }


def _tools(common: Schema, configs: Mapping[str, Schema]) -> dict[str, Schema]:
    definitions: dict[str, Schema] = {
        "Duration": _duration(),
        "Expression": _expression(),
        "Template": _template(),
        "Tool": _tool(common, [*RESOLVED_KINDS, *configs]),
        f"{_OF_TOOL}workbook": _workbook(common),
        f"{_OF_TOOL}{CATALOG}": _of_catalog(common),
    }
    for kind, config in configs.items():
        definitions |= _kind(kind, config, common)
    return definitions


def _describe(name: str, definition: Schema) -> None:
    """Add what the model itself does not say."""
    if name in PARTS:
        definition.setdefault("description", PARTS[name])
    for key, field in definition.get("properties", {}).items():
        field.update(_with_expressions(field))
        if key in _TIMES and not _takes_any_text(field):
            outer = {name: field.pop(name) for name in _OUTER if name in field}
            options = field.pop("anyOf", None) or [dict(field)]
            field.clear()
            field.update(anyOf=[*options, {"$ref": f"{_DEFS}Duration"}], **outer)
        if text := KEYS.get(name, {}).get(key):
            field.setdefault("description", text)


def _with_expressions(schema: Schema) -> Schema:
    if schema.items() >= _EXPRESSION.items():
        return {"$ref": f"{_DEFS}Expression"}
    return schema | {
        key: [_with_expressions(one) for one in schema[key]] for key in ("anyOf", "oneOf") if key in schema
    }


def _duration() -> Schema:
    text = "A time as text: a number of seconds, or with units, such as 500ms, 30s, 5m, 1h30m, 2d"
    return {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d)?\s*)+$", "description": text}


def _expression() -> Schema:
    # the words of a condition and numbers as text are accepted, too
    return {"type": "string", "description": "Text that is one {{ expression }}, whose value counts."}


def _template() -> Schema:
    text = "A template: text with {{ expressions }}. A text that is one expression yields its value, of any type."
    return {"type": "string", "pattern": r"\{\{|\{%", "description": text}


def _tool(common: Schema, kinds: list[str]) -> Schema:
    """A tool is described by its kind, so that an error and a completion are about that one."""
    cases = [
        {
            "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
            "then": {"$ref": f"{_DEFS}{_OF_TOOL}{kind}"},
        }
        for kind in sorted(kinds)
    ]
    kind = {**common["properties"]["kind"], "enum": sorted(kinds)}
    return {**common, "properties": {**common["properties"], "kind": kind}, "allOf": cases}


def _workbook(common: Schema) -> Schema:
    return {
        **common,
        "description": "A task of the workbook, by its name. What is given here overrides what the task has.",
        "properties": {**common["properties"], "kind": {"const": "workbook"}},
        "required": ["kind", "name"],
        "additionalProperties": False,
    }


def _of_catalog(common: Schema) -> Schema:
    call = ToolCall.model_json_schema(by_alias=True)
    return {
        **common,
        "description": call["description"],
        "properties": {**common["properties"], **call["properties"], "kind": {"const": CATALOG}},
        "required": ["kind", *call["required"]],
        "additionalProperties": False,
    }


def _kind(kind: str, config: Schema, common: Schema) -> dict[str, Schema]:
    """The definition of the tool, and those of the parts of its config."""
    prefix = f"{_OF_TOOL}{kind}"
    inner = config.get("$defs", {})
    own = {key: value for key, value in config.items() if key not in ("$defs", "properties", "required")}
    plain = PLAIN_CONFIG.get(kind, frozenset())
    fields = {
        key: (_referring if key in plain else _or_template)(field, prefix)
        for key, field in config.get("properties", {}).items()
    }
    definition = {
        **own,
        "type": "object",
        "properties": {**common["properties"], **fields, "kind": {"const": kind}},
        "required": ["kind", *config.get("required", [])],
        "additionalProperties": config.get("additionalProperties", True),
    }
    parts = {name: (_referring if name in _PLAIN_PARTS else _inside)(part, prefix) for name, part in inner.items()}
    return {prefix: definition, **{f"{prefix}.{name}": part for name, part in parts.items()}}


def _referring(schema: Any, prefix: str) -> Any:
    """`schema` with references to the definitions of its tool; no templates are rendered in it."""
    if isinstance(schema, list):
        return [_referring(item, prefix) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _referring(value, prefix) for key, value in schema.items()}
    if isinstance(changed.get("$ref"), str):
        changed["$ref"] = f"{_DEFS}{prefix}.{changed['$ref'].removeprefix(_DEFS)}"
    return changed


def _or_template(schema: Any, prefix: str) -> Any:
    """`schema`, or a template for a value of it."""
    if not isinstance(schema, dict):
        return schema
    inside = _inside(schema, prefix)
    if _takes_any_text(inside):
        return inside
    outer = {key: inside.pop(key) for key in _OUTER if key in inside}
    options = inside["anyOf"] if set(inside) == {"anyOf"} else [inside]
    return {"anyOf": [*options, _TEMPLATE], **outer}


def _inside(schema: Schema, prefix: str) -> Schema:
    """`schema` with templates allowed for each part of its value, and references to the definitions of its tool."""
    changed = dict(schema)
    if "$ref" in changed:
        changed["$ref"] = f"{_DEFS}{prefix}.{changed['$ref'].removeprefix(_DEFS)}"
    for key in ("items", "additionalProperties"):
        if key in changed:
            changed[key] = _or_template(changed[key], prefix)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if key in changed:
            changed[key] = [_inside(option, prefix) for option in changed[key]]
    if "properties" in changed:
        changed["properties"] = {key: _or_template(value, prefix) for key, value in changed["properties"].items()}
    return changed


def _takes_any_text(schema: Schema) -> bool:
    if any(_takes_any_text(option) for key in ("anyOf", "oneOf") for option in schema.get(key, ())):
        return True
    if schema.get("type") == "string":
        return not {"enum", "const", "pattern", "format", "maxLength"} & schema.keys()
    return not {"type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"} & schema.keys()


def _untitled(value: Any, *, is_field_map: bool = False) -> Any:
    """Without the titles that only repeat names, and without defaults that say that there is none."""
    if isinstance(value, list):
        return [_untitled(item) for item in value]
    if not isinstance(value, dict):
        return value
    if is_field_map:
        return {key: _untitled(item) for key, item in value.items()}
    return {
        key: _reflowed(item) if key == "description" else _untitled(item, is_field_map=key == "properties")
        for key, item in value.items()
        if key != "title" and not (key == "default" and item in (None, {}, []))
    }


def _reflowed(text: str) -> str:
    """Paragraphs without line breaks of their own: the editor's width decides."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))
