"""The input and the output of a call of a tool of the catalog, held against the schemas of its definition."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson

from ...limits import INLINE_BYTES
from ...playbook.plan import Interface
from ...tools.port import ToolFailure
from .domain import size_of

# of each value in an error
_SHOWN_CHARACTERS: Final = 300


def input_of(interface: Interface, of_step: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What the call is given: of the step's input what the tool declares, then the task's own; else the defaults."""
    properties = interface.properties
    defaults = {
        name: schema["default"]
        for name, schema in properties.items()
        if isinstance(schema, Mapping) and "default" in schema
    }
    return {**defaults, **{name: value for name, value in of_step.items() if name in properties}, **own}


def names_of(interface: Interface, given: Mapping[str, Any]) -> dict[str, Any]:
    """What its templates and its code read by name: null for what is not given."""
    return {**dict.fromkeys(interface.properties), **given}


async def check_input(interface: Interface, kind: str, given: Mapping[str, Any]) -> None:
    """Raises ToolFailure."""
    schema = {"type": "object", **(interface.input or {})}
    if (fields := await _first_fault(schema, given)) is not None:
        message = f"the input of {interface.title} is not valid: {fields.pop('message')}"
        raise ToolFailure(kind, "tool.input_invalid", message, **fields)


async def check_output(interface: Interface, kind: str, value: Any) -> None:
    """Raises ToolFailure."""
    if interface.output is not None and (fields := await _first_fault(interface.output, value)) is not None:
        message = f"the result of {interface.title} is not valid: {fields.pop('message')}"
        raise ToolFailure(kind, "tool.output_invalid", message, **fields)


async def _first_fault(schema: Mapping[str, Any], value: Any) -> dict[str, Any] | None:
    """{message, pointer, expected, given}"""
    # imported when the first such tool is called
    from ...playbook.json_schema import check

    if size_of(value) > INLINE_BYTES:
        found = await asyncio.to_thread(check, schema, value)
    else:
        found = check(schema, value)
    if not found:
        return None
    fault = found[0]
    at = f" (at {fault.pointer})" if fault.pointer else ""
    return {
        "message": f"{fault.message}{at}",
        "pointer": fault.pointer,
        "expected": _shown(fault.expected),
        "given": _shown(fault.given),
    }


def _shown(value: Any) -> Any:
    text = orjson.dumps(value, default=str).decode()
    return value if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
