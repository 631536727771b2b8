"""What a command prints: one JSON document, or text for people."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from .failure import Failure
from .references import reference_in, reference_lines, reference_text
from .visible import visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

PLAIN_WIDTH = 10_000
MAX_ROWS = 50

P = ParamSpec("P")
T = TypeVar("T")


def command(function: Callable[P, T]) -> Callable[P, T]:
    """Turn a Failure into a message, or a problem document with --json, and an exit status. The help is the docstring,
    reflowed."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except Failure as failure:
            if kwargs.get("as_json"):
                print_json(failure.problem)
            else:
                print_failure(failure)
            raise typer.Exit(failure.status) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    if function.__doc__:
        run.__doc__ = reflowed(function.__doc__)
    return run


def reflowed(text: str) -> str:
    """Help whose paragraphs have no line breaks of their own: the terminal's width decides. A paragraph that begins
    with \\b keeps them, as in click."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(part if part.startswith("\b") else " ".join(part.split()) for part in paragraphs)


def print_json(document: Any) -> None:
    sys.stdout.write(visible(json.dumps(document, indent=2, ensure_ascii=False, default=str)) + "\n")
    sys.stdout.flush()


@functools.cache
def console(*, error: bool = False) -> Console:
    from .visible_console import VisibleConsole

    found = VisibleConsole(stderr=error, highlight=False, soft_wrap=True)
    # output to a program or a file is not cut to the width of a terminal
    return (
        found if found.is_terminal else VisibleConsole(stderr=error, highlight=False, soft_wrap=True, width=PLAIN_WIDTH)
    )


def echo(text: str) -> None:
    """A line for people; `text` is plain, never markup."""
    console().print(visible(text), markup=False)


def remark(text: str) -> None:
    """A line on stderr, for people: stdout is the result."""
    console(error=True).print(visible(text), markup=False)


def show(renderable: RenderableType) -> None:
    console().print(renderable)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(header_style="bold", box=box.SIMPLE_HEAD)
    cells = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numeric = all(_is_number(row[index]) for row in cells)
        grid.add_column(Text(visible(column)), overflow="fold", justify="right" if numeric else "left")
    for row in cells:
        grid.add_row(*(Text(visible(cell(value))) for value in row))
    return grid


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            # every digit, and the same as --json
            return json.dumps(value)
        case dict() if (reference := reference_in(value)) is not None:
            return reference_text(reference)
        case dict() | list():
            return json.dumps(value, ensure_ascii=False, default=str)
        case _:
            return str(value)


def result(value: Any) -> RenderableType:
    """A result for people: rows of objects as a table, the rest as JSON; of one by reference, how it is read."""
    if (reference := reference_in(value)) is not None:
        from rich.text import Text

        return Text(visible("\n".join(reference_lines(reference))))
    rows = rows_of(value)
    if rows:
        columns = _columns(value, rows)
        grid = table(columns, [[row.get(column) for column in columns] for row in rows[:MAX_ROWS]])
        if len(rows) <= MAX_ROWS:
            return grid
        from rich.console import Group

        return Group(grid, f"the first {MAX_ROWS} of {len(rows)} rows")
    from rich.json import JSON

    return JSON.from_data(value, default=str)


def _columns(value: Any, rows: list[Mapping[str, Any]]) -> list[str]:
    """In the order of the result's `columns`, if it has them: the order of keys gets lost on the way."""
    found = list(dict.fromkeys(key for row in rows for key in row))
    requested = value.get("columns") if isinstance(value, dict) else None
    first = [name for name in requested if name in found] if isinstance(requested, list) else []
    return first + [name for name in found if name not in first]


def rows_of(value: Any) -> list[Mapping[str, Any]] | None:
    """The rows of `value` if it is a list of objects, or has one as its `table` or `rows`."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("table", "rows") if isinstance(value.get(key), list)), None)
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return value
    return None


def print_failure(failure: Failure) -> None:
    from rich.text import Text

    out = console(error=True)
    faults, file = failure.problem.get("errors") or [], failure.problem.get("file")
    what = visible(f"{file}: {failure.problem.get('title')}" if faults and file else failure.detail)
    out.print(Text.assemble(("error: ", "bold red"), what))
    for fault in faults:
        # the detail of a request with one mistake has its message already
        if (faults and file) or str(fault.get("message")) not in failure.detail:
            out.print(visible(fault_line(fault, file)), markup=False)


def fault_line(fault: Mapping[str, Any], file: str | None = None) -> str:
    """`file:line:column: message`, as editors and people read it."""
    place = ":".join(str(part) for part in (file, fault.get("line"), fault.get("column")) if part)
    return f"{place}: {fault.get('message')}" if place else str(fault.get("message"))
