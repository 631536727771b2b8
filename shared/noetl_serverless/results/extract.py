"""The fields of a result that can be read without fetching it, and the JSON paths that select them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from ..errors import InvalidRequest
from ..playbook.json_paths import all_at, is_simple
from ..tables.table import Table

MAX_SCALAR_BYTES: Final = 256
MAX_EXTRACT_BYTES: Final = 4 * 1024
MAX_SELECTED_BYTES: Final = 16 * 1024
# rows of a table that a path with more than names and indexes looks at
MAX_TABLE_ROWS: Final = 10_000
MISSING: Final[Any] = object()


class NotSelected(InvalidRequest):
    """`output.select` of a tool names what cannot be written to the log."""


_PART = re.compile(r"\.([A-Za-z_][\w-]*)|\[(-?\d+)\]|\['([^']+)'\]|\[\"([^\"]+)\"\]")


def extract(data: Any, select: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """The fields that a template may read without a fetch: small top-level scalars, and those that `select` names.

    `select`: (JSON path, name). A path without a value yields no field. Raises NotSelected if the selected fields are
    larger than 16 KiB, because they are written to the log.
    """
    fields: dict[str, Any] = {}
    if isinstance(data, Mapping):
        budget = MAX_EXTRACT_BYTES
        for name, value in data.items():
            if not isinstance(name, str) or not isinstance(value, str | int | float | bool | None):
                continue
            if isinstance(value, str) and len(value) > MAX_SCALAR_BYTES:
                # to write it only to see how long it is would take as long as to store it
                continue
            size = len(orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_SUBCLASS, default=str))
            cost = size + len(name)
            if size <= MAX_SCALAR_BYTES and cost <= budget:
                fields[name] = value
                budget -= cost
    chosen = {}
    for path, name in select:
        try:
            found = at_path(data, path)
        except InvalidRequest as error:
            raise NotSelected(f"output.select, as {name}: {error.detail}") from None
        if found is not MISSING:
            chosen[name] = found
    try:
        size = len(orjson.dumps(chosen))
    except TypeError:
        # a part of it is a table, or something else that is large
        size = MAX_SELECTED_BYTES + 1
    if size > MAX_SELECTED_BYTES:
        names = ", ".join(chosen)
        raise NotSelected(
            f"output.select: the values of {names} have more than {MAX_SELECTED_BYTES} bytes together: select parts of "
            "them; a rule of the tool can set a large value in ctx"
        )
    return fields | chosen


def at_path(data: Any, path: str) -> Any:
    """The value at a path such as `$.a.b[0]`, `MISSING` if there is none; the list of the values at one that may have
    several (RFC 9535), such as `$.rows[*].id`. Raises InvalidRequest for a table with too many rows for that."""
    if not is_simple(path):
        return _all_at(data, path)
    for key in _keys(path):
        if isinstance(key, int) and isinstance(data, Sequence) and not isinstance(data, str | bytes):
            if not -len(data) <= key < len(data):
                return MISSING
            data = data[key]
        elif isinstance(key, str) and isinstance(data, Mapping) and key in data:
            data = data[key]
        else:
            return MISSING
    return data


def _keys(path: str) -> list[str | int]:
    keys: list[str | int] = []
    for name, index, quoted, double in _PART.findall(path, 1):
        keys.append(int(index) if index else name or quoted or double)
    return keys


def _all_at(data: Any, path: str) -> Any:
    find, is_single = all_at(path)
    found = find(_without_tables(data, path))
    if is_single:
        return found[0] if found else MISSING
    return found


def _without_tables(data: Any, path: str) -> Any:
    if isinstance(data, Table):
        if len(data) > MAX_TABLE_ROWS:
            raise InvalidRequest(
                f"{path} looks at all of {len(data)} rows of a table; the limit is {MAX_TABLE_ROWS}. Name "
                "rows by their index, as in $.rows[0] or $.rows[-1], or select them in the query"
            )
        return list(data)
    if isinstance(data, Mapping) and any(isinstance(value, Table) for value in data.values()):
        return {name: _without_tables(value, path) for name, value in data.items()}
    return data
