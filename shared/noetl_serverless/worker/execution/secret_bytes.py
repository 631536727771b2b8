"""Finds secrets in bytes, whatever these mean: also those that no value shows."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import Any, Final

from ...limits import MIB

# searched at once: a search for one form holds the interpreter's lock
_PIECE_BYTES: Final = 8 * MIB
# forms that are searched for one by one; more, by an expression for many at once
_FEW_FORMS: Final = 8
# of which the expression has this much of each, and as many as its automaton has room for
_BEGINNING_BYTES: Final = 16
_MAX_IN_EXPRESSION: Final = 200


class SecretBytes:
    def __init__(self, forms: Collection[str]) -> None:
        self._forms = sorted({form.encode(errors="surrogatepass") for form in forms})
        self._overlap = max(map(len, self._forms), default=1) - 1
        self._groups = list(_groups(self._forms)) if len(self._forms) > _FEW_FORMS else [(None, self._forms)]

    def is_in(self, content: Any) -> bool:
        """Whether one of them, or what looks like one, stands in `content`, a buffer of bytes."""
        view = memoryview(content).cast("B")
        starts = range(0, len(view), _PIECE_BYTES)
        return any(self._is_in_piece(view[start : start + _PIECE_BYTES + self._overlap]) for start in starts)

    def _is_in_piece(self, piece: memoryview) -> bool:
        forms = [form for expression, group in self._groups if _may_match(expression, piece) for form in group]
        content = bytes(piece) if forms else b""
        return any(form in content for form in forms)


def _groups(forms: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    for first in range(0, len(forms), _MAX_IN_EXPRESSION):
        group = forms[first : first + _MAX_IN_EXPRESSION]
        beginnings = dict.fromkeys(form[:_BEGINNING_BYTES] for form in group)
        yield "|".join("".join(f"\\x{byte:02x}" for byte in beginning) for beginning in beginnings), group


def _may_match(expression: str | None, piece: memoryview) -> bool:
    """It takes the same time for one beginning and for hundreds, and not the interpreter's lock."""
    if expression is None:
        return True
    import pyarrow
    import pyarrow.compute as compute

    ends = pyarrow.py_buffer(struct.pack("=qq", 0, len(piece)))
    whole = pyarrow.Array.from_buffers(pyarrow.large_binary(), 1, [None, ends, pyarrow.py_buffer(piece)])
    return bool(compute.match_substring_regex(whole, expression)[0].as_py())
