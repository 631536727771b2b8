"""Code of Python steps, compiled once for all executions: in a child that has run nothing yet, compiling a line takes
longer than running it, and reading it as it is here a quarter of that."""

from __future__ import annotations

import marshal
import struct
from functools import lru_cache
from typing import NamedTuple

# as the frames of the code name it
FILE = "<code>"
# a frame beyond is sent in its parts: to copy it takes as long as to send it
_JOIN_BELOW_BYTES = 65536
# of one text: longer ones would hold up the event loop
_MAX_CHARACTERS = 20_000
# as `compiled_size` counts: 5 to 12 ms, and ordinary code of _MAX_CHARACTERS is two thirds of it at most
_MAX_SIZE = 20_000
_MAX_CODES = 512
# a constant such as `'ab' * 2048` is computed as it is compiled
_MAX_CONTENT_BYTES = 200_000


class CompiledCode(NamedTuple):
    """`content`: as `marshal` writes it; empty if the child has to compile it, because it is long, large or wrong.
    `input_names`: by which names the code may read its whole input."""

    content: bytes = b""
    is_pure: bool = False
    input_names: tuple[str, ...] = ()


def compiled(code: str) -> CompiledCode:
    if len(code) <= _MAX_CHARACTERS:
        return _compiled(code)
    from ..playbook.python_names import INPUT_NAMES

    # it is not parsed here
    return CompiledCode(input_names=tuple(name for name in INPUT_NAMES if name in code))


def request(code: CompiledCode, fields: bytes) -> tuple[bytes, bytes]:
    """What a child is sent, in two parts because the second may be large: the code's content after 4 bytes of its
    length, big-endian, and the JSON `fields`."""
    return struct.pack(">I", len(code.content)) + code.content, fields


def framed(*parts: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
    """What is sent, one after the other, for a request or a reply of these parts: its length in 4 bytes, and they."""
    length = sum(map(len, parts))
    header = struct.pack(">I", length)
    return (b"".join((header, *parts)),) if length < _JOIN_BELOW_BYTES else (header, *parts)


def read_request(content: bytes | bytearray) -> tuple[bytes, memoryview]:
    """The code's content, and the fields."""
    (length,) = struct.unpack_from(">I", content)
    return bytes(content[4 : 4 + length]), memoryview(content)[4 + length :]


@lru_cache(_MAX_CODES)
def _compiled(code: str) -> CompiledCode:
    # the children, which import this file, need neither
    import warnings

    from ..playbook.code_size import compiled_size
    from ..playbook.python_body import compile_module, parse
    from ..playbook.python_names import input_names_in
    from .pure_code import is_pure

    with warnings.catch_warnings(action="ignore"):
        try:
            module = parse(code)
            input_names = input_names_in(code, module)
            if compiled_size(module, _MAX_SIZE) > _MAX_SIZE:
                return CompiledCode(input_names=input_names)
            # what runs is what was looked at
            content = marshal.dumps(compile_module(module))
            if len(content) > _MAX_CONTENT_BYTES:
                return CompiledCode(input_names=input_names)
            return CompiledCode(content, is_pure(module), input_names)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return CompiledCode()
