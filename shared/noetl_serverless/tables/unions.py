"""Types with unions in them, of which pyarrow does not know everything that it knows of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .sizes import children

if TYPE_CHECKING:
    import pyarrow


def has_union(kind: pyarrow.DataType) -> bool:
    import pyarrow.types as t

    return bool(t.is_union(kind)) or any(map(has_union, children(kind)))


def has_dense_union(kind: pyarrow.DataType) -> bool:
    """Whether a copy of a slice may have all values of the whole: those of a dense union are copied with each."""
    import pyarrow.types as t

    return bool(t.is_union(kind) and kind.mode == "dense") or any(map(has_dense_union, children(kind)))
