"""Which parts of a value are known to stand, as JSON, at a place of a file."""

from __future__ import annotations

import os
from typing import Any

import orjson
import pytest

from noetl_serverless.tables.json_text import LARGE_BYTES, texts_in
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import memory_file

LONG = "x" * LARGE_BYTES
OTHER = "y" * LARGE_BYTES


def known(content: bytes) -> list[tuple[Any, bytes]]:
    """The parts beside the whole value, and what stands at their places."""
    descriptor = memory_file()
    os.write(descriptor, content)
    file, value = MappedFile(descriptor, len(content)), orjson.loads(content)
    (whole, text), *parts = texts_in(value, file)
    assert whole is value
    assert (text.file, text.start, text.end) == (file, 0, file.size)
    for part, _ in parts:
        assert any(part is item for item in value.values()), "it is known by its identity"
    return [(part, bytes(file.view[text.start : text.end])) for part, text in parts]


def test_long_texts_are_found_between_what_is_small() -> None:
    value = {"n": 1, "a": LONG, "é": 'with "quotes"', "b": OTHER, "last": [None, True][1], "f": 1.5e-7}
    assert known(orjson.dumps(value)) == [(LONG, f'"{LONG}"'.encode()), (OTHER, f'"{OTHER}"'.encode())]


@pytest.mark.parametrize(
    "content",
    [
        f'{{"a":"{LONG}\\n"}}',
        f'{{"a":"{LONG}é"}}',
        f'{{"a": "{LONG}"}}',
        f'{{"a":"{LONG}" }}',
        f'{{"a":"{LONG}"}} ',
        f'{{"a":"{LONG}","a":"{OTHER}"}}',
        f'{{"a":"{LONG}","b":1,"a":"{OTHER}"}}',
        f'{{"b":2,"a":1,"b":2,"a":"{LONG}"}}',
        f'{{"n":1e2,"a":"{LONG}\\n"}}',
        f'{{"\\u0061":"{LONG}"}}',
        f'{{"a":"{LONG}","rows":[1]}}',
        f'{{"a":"{LONG}","b":"{OTHER}\\n"}}',
        f'["{LONG}"]',
        f'"{LONG}"',
        "{}",
    ],
    ids=lambda content: content.replace(LONG, "x..").replace(OTHER, "y.."),
)
def test_what_is_written_otherwise_is_not_guessed_at(content: str) -> None:
    assert known(content.encode()) == []
