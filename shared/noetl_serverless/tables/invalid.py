"""What is wrong with a table, or too large in it."""

from __future__ import annotations


class InvalidTable(ValueError):
    """The bytes are no Arrow IPC stream, or their values do not fit their types."""


class RowTooLarge(InvalidTable):
    """A row that would take more memory as a value than a row may."""


class TableTooLarge(ValueError):
    """A table that is given where only a list of limited size can be used."""
