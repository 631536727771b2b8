"""Finds secrets in bytes, whatever these mean: also those that no value shows."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any, Final

from ...limits import MIB

# searched at once: a search for one form holds the interpreter's lock
_PIECE_BYTES: Final = 8 * MIB
# the same of JSON, whose escapes are replaced before
_DOCUMENT_BYTES: Final = 1 * MIB
# of one character in JSON
_ESCAPED_BYTES: Final = 6
_ESCAPES: Final = re.compile(rb'(?:\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]))+')
# as Python writes none: for what needs no escape, and with capital letters
_UNUSUAL_ESCAPE: Final = re.compile(rb"\\(?:/|u00[0-7]|u[0-9a-f]*[A-F])")
# as Python writes them in texts without any other character beyond ASCII
_ESCAPE_BEYOND_ASCII: Final = re.compile(rb"\\u(?!00[0-7])")
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

    def is_in_documents(self, content: Any) -> bool:
        """The same in the texts of JSON documents, however these are escaped, such as `\\/`. Only where there are
        escapes that Python would not write: those that it would are in the forms of a secret."""
        view = memoryview(content).cast("B")
        size = _DOCUMENT_BYTES + _ESCAPED_BYTES * (self._overlap + 2)
        pieces = (bytes(view[start : start + size]) for start in range(0, len(view), _DOCUMENT_BYTES))
        return any(
            self._is_in_piece(memoryview(_ESCAPES.sub(_unescaped, piece)))
            for piece in pieces
            if _UNUSUAL_ESCAPE.search(piece) or (not piece.isascii() and _ESCAPE_BEYOND_ASCII.search(piece))
        )

    def _is_in_piece(self, piece: memoryview) -> bool:
        forms = [form for expression, group in self._groups if _may_match(expression, piece) for form in group]
        content = bytes(piece) if forms else b""
        return any(form in content for form in forms)


def _unescaped(escapes: re.Match[bytes]) -> bytes:
    return _read(escapes[0])


@lru_cache(maxsize=4096)
def _read(escapes: bytes) -> bytes:
    # half a pair of surrogates is read, too
    text: str = json.loads(b'"%s"' % escapes)
    return text.encode(errors="surrogatepass")


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
