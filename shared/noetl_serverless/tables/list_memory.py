"""How much memory the rows of a table may take as a list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ..limits import MIB
from .sizes import OBJECTS, least_of_rows

if TYPE_CHECKING:
    import pyarrow

# of Python objects at least: a value that takes a byte in a table, or none, is one as well
MAX_LISTED_OBJECTS: Final = 2048 * MIB
# of kinds of tools
TAKE_TABLES: Final = ("duckdb", "postgres", "python")


class TableTooLarge(ValueError):
    """A table that is given where only a list of limited size can be used."""


def check_memory(rows: int, batches: Iterable[pyarrow.RecordBatch]) -> None:
    """Raises TableTooLarge."""
    size = sum(least_of_rows(batch, 0, batch.num_rows, OBJECTS) for batch in batches)
    if size > MAX_LISTED_OBJECTS:
        raise TableTooLarge(
            f"a table of {rows} rows and at least {size // MIB} MiB of values cannot be used as a list, which may have "
            f"{MAX_LISTED_OBJECTS // MIB} MiB; tools of kind {', '.join(TAKE_TABLES)} take tables of any size"
        )
