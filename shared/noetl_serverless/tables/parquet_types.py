"""The types that are written as Parquet: those that are known to be, as pyarrow ends the process for one that it cannot
write, which is a list of the fixed length 0, and fails without naming the column for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow


def check_parquet(schema: pyarrow.Schema) -> None:
    """Raises ValueError, which names the column."""
    for field in schema:
        lacking = _lacking(field.type)
        if lacking is not None:
            within = "" if lacking == field.type else f", in {field.type}"
            raise ValueError(
                f"column {field.name!r:.200}: Parquet has no values of the type {lacking!s:.200}{within:.200}"
            )


def _lacking(kind: pyarrow.DataType) -> pyarrow.DataType | None:
    """What of the type is not written, if anything."""
    import pyarrow
    import pyarrow.types as t

    if isinstance(kind, pyarrow.BaseExtensionType):
        return _lacking(kind.storage_type)
    if t.is_dictionary(kind):
        return kind if t.is_nested(kind.value_type) else _lacking(kind.value_type)
    members: list[pyarrow.DataType]
    if t.is_struct(kind) and kind.num_fields:
        members = [field.type for field in kind]
    elif t.is_map(kind):
        members = [kind.key_type, kind.item_type]
    elif _is_list(kind):
        members = [kind.value_type]
    else:
        return None if _is_plain(kind) else kind
    return next((found for found in map(_lacking, members) if found is not None), None)


def _is_list(kind: pyarrow.DataType) -> bool:
    import pyarrow.types as t

    if t.is_fixed_size_list(kind):
        return bool(kind.list_size > 0)
    is_view = t.is_list_view(kind) or t.is_large_list_view(kind)
    return bool(t.is_list(kind) or t.is_large_list(kind) or is_view)


def _is_plain(kind: pyarrow.DataType) -> bool:
    import pyarrow.types as t

    if t.is_fixed_size_binary(kind):
        return bool(kind.byte_width > 0)
    if t.is_decimal(kind):
        return bool(0 <= kind.scale <= kind.precision)
    if t.is_temporal(kind):
        return not t.is_interval(kind)
    is_bytes = t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind)
    is_text = t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind)
    is_number = t.is_integer(kind) or t.is_floating(kind)
    return bool(t.is_null(kind) or t.is_boolean(kind) or is_number or is_text or is_bytes)
