"""How many rows a statement may have, and how many bytes of them."""

from __future__ import annotations

from dataclasses import dataclass

from ..limits import MIB


class TooManyRows(Exception):
    """A statement has more rows, or more bytes of them, than the task may take."""


@dataclass(frozen=True, slots=True)
class Limits:
    """None: there is none."""

    max_rows: int | None = None
    max_bytes: int | None = None

    def check(self, rows: int, size: int) -> None:
        """Raises TooManyRows."""
        if self.max_bytes is not None and size > self.max_bytes:
            raise TooManyRows(f"the rows take more than {self.max_bytes // MIB} MiB")
        if self.max_rows is not None and rows > self.max_rows:
            raise TooManyRows(f"there are more than {self.max_rows} rows")
