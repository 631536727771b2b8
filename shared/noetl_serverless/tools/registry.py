"""The available tool kinds: found by entry point, imported on first use."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import Fault, json_pointer
from ..playbook.faults import did_you_mean
from ..playbook.grammar import BUILTIN_KINDS
from .config import NOT_SUPPORTED, UNKNOWN, ConfigError, Location, explain
from .port import Tool

GROUP = "noetl_serverless.tools"

# kinds of the language that have no tool yet; listed so that the error message can say so
NOT_YET = frozenset(
    {
        *("agent", "artifact", "container", "ducklake", "gateway", "gcs", "mcp", "nats", "playbooks", "provider"),
        *("result_fetch", "rhai", "script", "secrets", "shell", "snowflake", "snowflake_transfer"),
        *("subscription", "transfer", "wasm"),
    }
)

_loaded: dict[str, Tool] = {}


class UnknownKind(LookupError):
    """There is no tool of this kind."""


@cache
def _entries() -> Mapping[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def kinds() -> list[str]:
    return sorted(_entries())


def load(kind: str) -> Tool:
    """The one tool of this kind in this process; UnknownKind if there is none."""
    tool = _loaded.get(kind)
    if tool is None:
        entry = _entries().get(kind)
        if entry is None:
            raise UnknownKind(_unknown(kind))
        tool = _loaded[kind] = entry.load()()
    return tool


async def close() -> None:
    """Close whatever the loaded tools keep between calls."""
    await asyncio.gather(*(tool.close() for tool in _loaded.values()))


def schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind's config."""
    return load(kind).config.model_json_schema()


def playbook_schema() -> dict[str, Any]:
    """The JSON Schema of a playbook, with every kind of tool that is installed on this machine."""
    # no function needs it, unless it is asked for
    from ..playbook.schema import playbook_schema as schema_of_language

    return schema_of_language({kind: schema(kind) for kind in kinds()})


def resource_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a document of the catalog that is no playbook: Tool, Mcp or Credential."""
    from ..playbook.schema import resource_schema as schema_of_language

    return schema_of_language(kind, {name: schema(name) for name in kinds()})


@dataclass(frozen=True, slots=True)
class ConfigFault(Fault):
    """`of_key`: it is about the name of a field, not about its value."""

    of_key: bool = False


def check(kind: str, config: Mapping[str, Any]) -> list[ConfigFault]:
    """Faults of an unrendered config; pointers are relative to it. A template may render to a value of any type."""
    try:
        model = load(kind).config
    except UnknownKind as error:
        code = "playbook.not_supported" if kind in NOT_YET else "playbook.unknown_kind"
        return [ConfigFault(str(error), pointer="/kind", code=code)]
    fields = {key: value for key, value in config.items() if key not in _COMMON}
    faults: list[ConfigFault] = []
    for context in ({"fields_only": True}, None):
        try:
            model.model_validate(fields, context=context)
        except ValidationError as error:
            faults += _faults(model, fields, error, presence=context is None)
    return faults


# fields of a task that are not in its tool's config; `auth` is in the config of the tools that know it
_COMMON = frozenset({"kind", "name", "input", "spec", "output", "assert"})


_OF_KEYS = frozenset({UNKNOWN, NOT_SUPPORTED})
_OF_PRESENCE = frozenset({"presence", "conflict"})
_CODES = {
    UNKNOWN: "playbook.unknown_field",
    NOT_SUPPORTED: "playbook.not_supported",
    "missing": "playbook.missing_field",
    "presence": "playbook.missing_field",
}


def _faults(
    model: type[BaseModel], fields: Mapping[str, Any], error: ValidationError, presence: bool
) -> list[ConfigFault]:
    return [
        ConfigFault(
            problem.message,
            pointer=json_pointer(problem.loc),
            code=_CODES.get(problem.type, "playbook.invalid_value"),
            of_key=problem.type in _OF_KEYS,
        )
        for problem in explain(model, fields, error)
        if (problem.type in _OF_PRESENCE) == presence and not _may_be_right(fields, problem)
    ]


def _may_be_right(fields: Mapping[str, Any], problem: ConfigError) -> bool:
    """Whether a template has yet to give what is at fault: the value, or what contains the key."""
    return _is_template(fields, problem.loc[:-1] if problem.type in _OF_KEYS else problem.loc)


def _is_template(fields: Any, loc: Location) -> bool:
    """Whether the value at fault, or one that contains it, is a template that has yet to be rendered."""
    value: Any = fields
    for part in loc:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            continue
        if isinstance(value, str) and ("{{" in value or "{%" in value):
            return True
    return False


def _unknown(kind: str) -> str:
    if kind in NOT_YET:
        return f"tool kind {kind!r} is not supported yet"
    if kind in BUILTIN_KINDS:
        return f"a tool of kind {kind!r} has no fields of its own"
    known = sorted(BUILTIN_KINDS.union(kinds()))
    hint = did_you_mean(kind, known) or f"; the kinds are {', '.join(known)}"
    return f"unknown tool kind {kind!r}{hint}"
