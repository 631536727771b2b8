from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from rich.console import Console

from noetl_serverless.cli import output
from noetl_serverless.cli.failure import Refused
from noetl_serverless.cli.output import cell, fault_line, result, rows_of
from noetl_serverless.cli.visible import visible


def text_of(value: Any) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(result(value))
    return capture.get()


@pytest.mark.parametrize(
    "value",
    [[{"a": 1}], {"table": [{"a": 1}], "other": 2}, {"rows": [{"a": 1}]}, {"columns": ["a"], "rows": [{"a": 1}]}],
)
def test_rows_of_objects_are_found(value: Any) -> None:
    assert rows_of(value) == [{"a": 1}]


@pytest.mark.parametrize("value", [None, 3, "x", [], [1, 2], [{"a": 1}, 2], {"table": 3}, {"rows": []}, {"a": 1}])
def test_the_rest_is_no_table(value: Any) -> None:
    assert rows_of(value) is None


def test_a_table_has_a_column_for_every_key_in_the_order_wished() -> None:
    shown = text_of({"columns": ["b", "a"], "table": [{"a": 1, "b": "x"}, {"a": 2, "c": True}]})
    header = shown.splitlines()[1].split()
    assert header == ["b", "a", "c"]
    assert "yes" in shown


def test_a_long_table_says_that_it_is_cut() -> None:
    shown = text_of([{"n": n} for n in range(60)])
    assert "the first 50 of 60 rows" in shown
    assert " 49" in shown
    assert " 50 " not in shown.split("the first", 1)[0]


def test_markup_in_a_value_is_text() -> None:
    assert "[red]x[/red]" in text_of([{"a": "[red]x[/red]"}])


def test_cells() -> None:
    assert [cell(value) for value in (None, True, 1234567, 0.5, {"a": 1})] == ["", "yes", "1234567", "0.5", '{"a": 1}']


def test_numbers_have_every_digit_that_they_have_in_json() -> None:
    numbers = (1234567.89, 0.1 + 0.2, -1e-9, 1e22, 3.0)
    assert [json.loads(cell(number)) for number in numbers] == [*numbers], "digits are lost in a table"
    assert "1234567.89" in text_of([{"amount": 1234567.89}])


def test_a_fault_is_named_as_editors_do() -> None:
    fault = {"message": "bad", "line": 3, "column": 7}
    assert fault_line(fault, "a.yaml") == "a.yaml:3:7: bad"
    assert fault_line({"message": "bad"}) == "bad"


@pytest.mark.parametrize(
    ("detail", "times"), [("the body is not valid: cron: wrong", 1), ("2 mistakes, the first: another", 2)]
)
def test_the_message_of_a_request_with_one_mistake_is_printed_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, detail: str, times: int
) -> None:
    monkeypatch.setattr(output, "console", lambda error: Console(stderr=error, soft_wrap=True))

    @output.command
    def refused() -> None:
        raise Refused(400, {"detail": detail, "errors": [{"message": "wrong", "pointer": "/cron"}]})

    with pytest.raises(typer.Exit):
        refused()
    assert len(capsys.readouterr().err.splitlines()) == times


HOSTILE = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202eb\r\x7f"
VISIBLE = r"a\u001b]0;title\u0007\u001b[2J\u009b31m\u202eb\u000d\u007f"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "200"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    output.console.cache_clear()
    yield
    output.console.cache_clear()


@pytest.mark.parametrize(
    "write",
    [
        lambda: output.echo(HOSTILE),
        lambda: output.remark(HOSTILE),
        lambda: output.show(output.table([HOSTILE], [["x"]])),
        lambda: output.show(output.table(["name"], [[HOSTILE]])),
        lambda: output.show(result({"kind": "result_ref", "ref": "x", "preview": HOSTILE})),
        lambda: output.show(result([{HOSTILE: 1}])),
        lambda: output.show(result(["b", HOSTILE])),
        lambda: output.show(result({"a": HOSTILE})),
        lambda: output.show(output.result(HOSTILE)),
        lambda: output.print_json({"a": HOSTILE}),
        lambda: output.print_failure(Refused(400, {"detail": HOSTILE})),
        lambda: output.console().print(HOSTILE, markup=False),
    ],
)
@pytest.mark.usefixtures("terminal")
def test_control_characters_of_others_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str], write: Callable[[], None]
) -> None:
    write()
    shown = re.sub(r"\x1b\[[\d;]*m", "", "".join(capsys.readouterr()))
    assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cf") and char != "\n"], repr(shown)
    assert r"\u001b" in shown and r"[2J\u009b31m\u202eb" in shown


def test_what_is_shown_of_control_characters_is_their_json() -> None:
    assert visible(HOSTILE) == VISIBLE
    assert json.loads(f'"{VISIBLE}"') == HOSTILE
    assert visible("one\ttwo\r\nthree\n名 é 👍🏽") == "one\ttwo\nthree\n名 é 👍🏽"


def test_a_list_for_a_program_has_each_row_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.console.cache_clear()
    uri = f"noetl://execution/7/result/{'n' * 2000}/0a1b2c3d"
    output.show(output.table(["name", "ref"], [["a", uri]]))
    assert uri in capsys.readouterr().out, "a URI is broken over several lines"
