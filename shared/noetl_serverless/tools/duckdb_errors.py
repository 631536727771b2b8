"""What the errors of DuckDB say to the author of a task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import duckdb

from .sql import name_needed

# of functions that DuckDB offers instead: there are more than forty of +
_CANDIDATES: Final = 5
_NO_TABLE: Final = re.compile(r"Table with name (?P<name>.+?) does not exist!")


def message_of(error: duckdb.Error, input: Mapping[str, Any]) -> str:
    """`input`: what of the task's input is no table, by name."""
    text = _shortened(str(error))
    first, break_, rest = text.partition("\n")
    if isinstance(error, duckdb.ParserException):
        return f"{first}{name_needed(first)}{break_}{rest}"
    if isinstance(error, duckdb.CatalogException) and (found := _NO_TABLE.search(first)) is not None:
        names = {name.lower(): name for name in input}
        name = names.get(found["name"].strip('"').lower())
        if name is not None:
            return _no_table(name, input[name])
    return text


def _no_table(name: str, value: Any) -> str:
    keep = "`output: {inline_max_bytes: 0}` at the task that makes them keeps the columns"
    fields = [value.get("rows"), value.get("data")] if isinstance(value, Mapping) else [value]
    if any(isinstance(field, list) and not field for field in fields):
        return f"the input {name!r} has no rows, and so no columns, and is no table: {keep}"
    what = "null" if value is None else f"a value of type {type(value).__name__}"
    return f"the input {name!r} is {what}, and no table: give it a table, or a list of objects"


def _shortened(message: str) -> str:
    lines = message.split("\n")
    candidates = [index for index, line in enumerate(lines) if line.startswith("\t") and " -> " in line]
    left_out = candidates[_CANDIDATES:]
    if not left_out:
        return message
    lines[left_out[0] : left_out[-1] + 1] = [f"\t... and {len(left_out)} more"]
    return "\n".join(lines).rstrip()
