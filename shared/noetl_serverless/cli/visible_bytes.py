"""Bytes of others on a terminal: as text, of which nothing steers the terminal."""

from __future__ import annotations

import codecs
import io
from typing import IO, TYPE_CHECKING

from .visible import visible

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class VisibleBytes(io.BufferedIOBase):
    """Writes to `target` what is written to it. `finish`: once all has come."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        # what is no UTF-8 is shown in hexadecimal
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        # a line break may come in two pieces
        self._return = ""

    def write(self, content: ReadableBuffer, /) -> int:
        size = memoryview(content).nbytes
        self._show(self._decoder.decode(bytes(content)))
        return size

    def finish(self) -> None:
        self._show(self._decoder.decode(b"", final=True), is_last=True)

    def _show(self, text: str, *, is_last: bool = False) -> None:
        text = self._return + text
        self._return = "\r" if text.endswith("\r") and not is_last else ""
        self._target.write(visible(text.removesuffix(self._return)).encode())
