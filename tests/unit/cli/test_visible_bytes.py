"""What is written to a terminal does not steer it, however it is cut into pieces."""

from __future__ import annotations

import io

import pytest

from noetl_serverless.cli.visible_bytes import VisibleBytes


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_nothing_steers_a_terminal(size: int) -> None:
    content = "a,ü\r\n\x1b]0;title\x07\t\u009b2J\r€\r".encode() + b"\xff\xc3"
    target = io.BytesIO()
    shown = VisibleBytes(target)
    for start in range(0, len(content), size):
        assert shown.write(content[start : start + size]) == len(content[start : start + size])
    shown.finish()
    expected = r"a,ü" + "\n" + r"\u001b]0;title\u0007" + "\t" + r"\u009b2J\u000d€\u000d\xff\xc3"
    assert target.getvalue().decode() == expected
