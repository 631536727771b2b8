"""keychain list, delete."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from ...plurals import counted
from ..client import Client
from ..options import DataOption, JsonOption
from ..output import command, echo, print_json, show, table
from ..target import running_stack

app = typer.Typer(
    help="Look at the secrets that playbooks have fetched, and make them be fetched again.", no_args_is_help=True
)
WhoseArgument = Annotated[str, typer.Argument(metavar="PATH|EXECUTION", help="Path of a playbook, or an execution.")]
VersionOption = Annotated[
    int | None, typer.Option("--version", help="Version of the playbook; by default, the newest.")
]


@app.command("list")
@command
def list_(
    whose: WhoseArgument, version: VersionOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """List the cached secrets of a playbook, or those that end with an execution, without their values."""
    with running_stack(data) as client:
        catalog_id, selected = _selected(client, whose, version)
        entries = list(client.items_from(f"/api/keychain/{catalog_id}", "after", "", **selected))
    if as_json:
        print_json(entries)
        return
    columns = ("keychain_name", "credential_type", "scope_type", "status", "fields", "expires_at", "execution_id")
    rows = [{**entry, "fields": ", ".join(entry["token_data"])} for entry in entries]
    show(table(columns, [[row.get(column) for column in columns] for row in rows]))


@app.command("delete")
@command
def delete(
    whose: WhoseArgument,
    name: Annotated[str, typer.Argument(help="Name of the keychain entry.")],
    version: VersionOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete the cached values of an entry: the next use fetches it again."""
    with running_stack(data) as client:
        catalog_id, selected = _selected(client, whose, version)
        query = f"?{urlencode(selected)}" if selected else ""
        answer = client.delete(f"/api/keychain/{catalog_id}/{quote(name, safe='')}{query}")
    if as_json:
        print_json(answer)
    else:
        echo(f"deleted {counted(answer['count'], 'cached value')} of {name}")


def _selected(client: Client, whose: str, version: int | None) -> tuple[str, dict[str, Any]]:
    """The catalog id, and the parameters that select what is meant."""
    if whose.isdecimal():
        return str(client.execution(whose)["catalog_id"]), {"execution_id": whose}
    entry = client.post("/api/catalog/resource", {"path": whose, "version": version or "latest"})
    return str(entry["catalog_id"]), {}
