"""Options that many commands share, and values given on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from .failure import WrongUse

# how the name of a file with the tests of a playbook ends
TEST_SUFFIX = ".test.yaml"

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Data directory of the stack.", show_default="in the user's data folder"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the output as one JSON document.")]
PayloadOption = Annotated[
    str | None, typer.Option("--payload", help="Workload as JSON; @FILE reads a file, @- standard input.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Refuse older forms of the language.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Set a workload value: key=value or a.b=value; the value is JSON or plain text."),
]


def data_directory(path: Path | None) -> Path:
    if path is not None:
        return path
    import platformdirs

    return Path(platformdirs.user_data_dir("noetl-serverless", appauthor=False))


def workload(payload: str | None, assignments: list[str] | None, option: str = "--payload") -> dict[str, Any]:
    """The object that `option` gives, with each --set applied to it. WrongUse if one cannot be read."""
    values = read_json(payload, option) if payload else {}
    if not isinstance(values, dict):
        raise WrongUse(f"{option} must be a JSON object")
    for assignment in assignments or []:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise WrongUse(f"--set {assignment!r}: expected key=value")
        _set_path(values, key, value_of(text))
    return values


def read_json(text: str, option: str) -> Any:
    """JSON given directly or as @FILE. WrongUse with line and column if it is not valid."""
    place = option
    if text.startswith("@"):
        place = text[1:]
        text = read_text(place)
    try:
        return _loads(text)
    except ValueError as error:
        raise WrongUse(f"{place}: invalid JSON: {error}") from None


def read_text(name: str) -> str:
    """The text of a file, `-` for standard input. WrongUse if it cannot be read."""
    if name == "-":
        return sys.stdin.read()
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise WrongUse(f"{name}: {reason}") from None


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def value_of(text: str) -> Any:
    try:
        return _loads(text)
    except ValueError:
        return text


def value_or_file(text: str) -> Any:
    """As `value_of`; @FILE reads a file, @- standard input. WrongUse if it cannot be read."""
    return value_of(read_text(text[1:]) if text.startswith("@") else text)


def as_declared(values: dict[str, Any], assignments: list[str] | None, content: str) -> dict[str, Any]:
    """`values`, in which --set has left the text that was given where the playbook's schema takes only texts, though it
    could be read as JSON: `--set zip=01234`, `--set day=3`. `content`: of a playbook that can be read."""
    from ..playbook.input_form import takes_only_text
    from ..playbook.load import playbook_data

    if "schemas" not in content:
        return values
    schema = (playbook_data(content).get("schemas") or {}).get("input") or {}
    for assignment in assignments or []:
        key, _, text = assignment.partition("=")
        if takes_only_text(schema, key.split(".")) and not isinstance(value_of(text), str):
            _set_path(values, key, text)
    return values


def _set_path(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise WrongUse(f"--set {path}: {name} is not an object")
        values = inner
    values[last] = value
