"""vars: the variables of an execution."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer

from ..client import Client
from ..execution_id import checked
from ..failure import EXIT_FAILED, WrongUse
from ..options import DataOption, JsonOption, value_or_file
from ..output import command, echo, print_json, show, table
from ..target import running_stack
from .executions import IdArgument

MAX_CHARACTERS = 80


@command
def variables(
    execution_id: IdArgument,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One variable; by default, all.")] = None,
    data: DataOption = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Set a variable; the value is JSON or plain text, and @FILE reads a file.",
        ),
    ] = None,
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="TIME", help="With --set: gone after this time, such as 30m.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="With --set: a second request with this key changes nothing."),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the variable, or all.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show, set or delete variables of an execution, which its templates read as vars.NAME.

    Exit status 1 if the variable to delete does not exist.
    """
    values = _values(assignments or [])
    if values and (delete or name is not None):
        raise WrongUse("--set takes neither a NAME nor --delete: write --set NAME=VALUE")
    if not values and (ttl or key):
        raise WrongUse("--ttl and --key are for --set")
    place = f"/api/vars/{checked(execution_id)}" + (f"/{quote(name, safe='')}" if name is not None else "")
    with running_stack(data) as client:
        answer, texts = _do(client, place, values, ttl, key, delete)
    is_missing = delete and answer.get("deleted") is False
    if as_json:
        print_json(answer)
    elif isinstance(texts, str):
        echo(texts)
    else:
        show(table(("name", "value", "type", "source_step", "reads", "expires_at"), texts))
    if is_missing:
        raise typer.Exit(EXIT_FAILED)


def _do(
    client: Client, place: str, values: Mapping[str, Any], ttl: str | None, key: str | None, delete: bool
) -> tuple[dict[str, Any], str | Sequence[Sequence[Any]]]:
    """The answer, and what people see of it: a line, or the rows of a table."""
    if values:
        answer = client.post(place, {"variables": dict(values), "ttl": ttl}, key)
        duplicate = "a request with this key came before; nothing has changed"
        return answer, f"set {', '.join(values)}" if answer["status"] == "accepted" else duplicate
    if delete:
        answer = client.delete(place)
        if answer.get("deleted") is False:
            return answer, f"there is no variable '{answer['var_name']}'; nothing was deleted"
        count = answer["deleted_count"] if "deleted_count" in answer else int(answer["deleted"])
        return answer, f"deleted {count} variable{'' if count == 1 else 's'}"
    answer = client.get(place)
    if "var_name" in answer:
        value = answer["value"]
        return answer, value if isinstance(value, str) else json.dumps(value)
    return answer, [_row(name, it) for name, it in answer["variables"].items()]


def _row(name: str, it: Mapping[str, Any]) -> Sequence[Any]:
    value = json.dumps(it["value"])
    shown = value if len(value) <= MAX_CHARACTERS else f"{value[:MAX_CHARACTERS]}..."
    return (name, shown, it["type"], it["source_step"], it["access_count"], it["expires_at"])


def _values(assignments: Sequence[str]) -> dict[str, Any]:
    """Raises WrongUse."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise WrongUse(f"--set {assignment!r}: expected NAME=VALUE")
        values[name] = value_or_file(text)
    return values
