"""Tables as plain lists, for what knows no tables: a limited number of rows, since they take many times the memory."""

from __future__ import annotations

from typing import Any, Final

from ..limits import MIB
from .invalid import TableTooLarge as TableTooLarge
from .table import TAKE_TABLES, Table
from .value import without_tables

MAX_LISTED_ROWS: Final = 1_000_000
MAX_LISTED_BYTES: Final = 100 * MIB


def has_table(value: Any) -> bool:
    """Whether it is one, or has one at any depth."""
    match value:
        case Table():
            return True
        case dict():
            return any(map(has_table, value.values()))
        case list() | tuple():
            return any(map(has_table, value))
        case _:
            return False


def listed(value: Any) -> Any:
    """`value`, in which each table is a list of its rows. Raises TableTooLarge, and InvalidTable."""
    return without_tables(value, rows_listed) if has_table(value) else value


def rows_listed(table: Table) -> list[dict[str, Any]]:
    """Raises TableTooLarge, and InvalidTable."""
    if len(table) > MAX_LISTED_ROWS or table.file.size > MAX_LISTED_BYTES:
        raise TableTooLarge(
            f"a table of {len(table)} rows and {table.file.size} bytes cannot be used as a list, which may have "
            f"{MAX_LISTED_ROWS} rows and {MAX_LISTED_BYTES // MIB} MiB; tools of kind {', '.join(TAKE_TABLES)} take "
            f"tables of any size"
        )
    table.check_listed()
    return list(table)
