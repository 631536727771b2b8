"""The help of each command."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from noetl_serverless.cli.main import app
from noetl_serverless.cli.output import reflowed

WIDTH = 200


def commands(command: Any, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of this command, and of those below it."""
    yield words
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *words, name)


ALL = list(commands(typer.main.get_command(app)))


def test_all_commands_are_found() -> None:
    assert {("up",), ("diff",), ("events",), ("quarantine", "drop"), ("deploy",)} <= set(ALL)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_no_line_of_the_help_ends_before_the_next_word_would_not_fit(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": str(WIDTH)}).output
    # the frames around options are rich's, whose columns are narrower; what is indented keeps its lines
    lines = [line.rstrip() for line in shown.splitlines()]
    text = [line[1:] for line in lines if not line.startswith(("╭", "│", "╰"))]
    early = [
        line
        for line, after in pairwise(text)
        if line and after and not line.startswith(" ") and len(line) + 1 + len(after.split()[0]) < WIDTH - 2
    ]
    assert not early


def test_paragraphs_are_reflowed_except_those_marked_to_keep_their_lines() -> None:
    assert reflowed("A first\n    line.\n\n    A second\n    one.\n    ") == "A first line.\n\nA second one."
    assert reflowed("Text.\n\n\b\n  SELECT 1\n  FROM t") == "Text.\n\n\b\n  SELECT 1\n  FROM t"


def test_the_help_of_events_explains_its_columns() -> None:
    shown = " ".join(CliRunner().invoke(app, ["events", "--help"], env={"COLUMNS": "400"}).output.split())
    assert "an event's number, its time, its type and its step" in shown
    assert '"(caused by 3)" means that the engine decided the event because of event 3' in shown
