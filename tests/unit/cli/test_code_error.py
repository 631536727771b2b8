from __future__ import annotations

from noetl_serverless.cli.code_error import MAX_LINES, code_error_lines

TRACEBACK = """\
  File "<code>", line 3, in main
    return total(rows)
  File "<code>", line 7, in total
    raise ValueError("no rows")
ValueError: no rows
"""


def test_the_line_of_the_code_and_the_traceback_are_shown() -> None:
    assert list(code_error_lines({"exception": "ValueError", "traceback": TRACEBACK, "line": 7})) == [
        "in line 7 of the code:",
        "    line 3, in main",
        "      return total(rows)",
        "    line 7, in total",
        '      raise ValueError("no rows")',
        "  ValueError: no rows",
    ]


def test_of_a_long_traceback_the_end_is_shown() -> None:
    shown = list(code_error_lines({"traceback": "deeper\n" * 100 + "ValueError: x", "line": None}))
    assert shown[:2] == ["in the code:", "  ..."]
    assert (len(shown), shown[-1]) == (2 + MAX_LINES, "  ValueError: x")


def test_other_errors_have_none() -> None:
    assert list(code_error_lines(None)) == list(code_error_lines({"line": 3})) == []
