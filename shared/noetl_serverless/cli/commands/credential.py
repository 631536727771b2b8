"""credential set, list, delete."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from ..failure import WrongUse
from ..options import DataOption, JsonOption, workload
from ..output import command, echo, print_json, show, table
from ..target import running_stack

app = typer.Typer(help="Manage credentials, the secrets that playbooks use by name.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Name of the credential.")]


@app.command("set")
@command
def set_(
    name: NameArgument,
    kind: Annotated[
        str,
        typer.Option(
            "--type",
            help=(
                "Type: postgres, bearer, oauth2, basic, api_key or header; aws or service_account for a keychain; "
                "webhook_secret for triggers. Tools read no other type."
            ),
        ),
    ],
    value: Annotated[
        str | None, typer.Option("--value", help="Fields as JSON; @FILE reads a file, @- standard input.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set a field of the credential: name=value; the value is JSON or plain text."),
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", help="Text that the list of credentials shows.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store a credential, encrypted. It replaces one of the same name.

    A field that the type does not have is refused. The shell's history keeps what is typed on the command line: prefer
    --value @FILE or @-.
    """
    content = workload(value, assignments, "--value")
    if not content:
        raise WrongUse("give the credential's fields with --value or --set")
    body = {"name": name, "type": kind, "data": content}
    if description:
        body["description"] = description
    with running_stack(data) as client:
        entry = client.post("/api/credentials", body)
    if as_json:
        print_json(entry)
    else:
        echo(f"stored {entry['name']}: type {entry['type']}, fields {', '.join(sorted(content))}")
        for warning in entry.get("warnings") or ():
            echo(f"warning: {warning}")


@app.command("list")
@command
def list_(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List credentials, without their secrets."""
    with running_stack(data) as client:
        entries = client.items("/api/credentials")
    if as_json:
        print_json(entries)
        return
    columns = ("name", "type", "description", "updated_at")
    show(table(columns, [[entry.get(column) for column in columns] for entry in entries]))


@app.command("delete")
@command
def delete(name: NameArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Delete a credential."""
    with running_stack(data) as client:
        answer = client.delete(f"/api/credentials/{quote(name, safe='')}")
    if as_json:
        print_json(answer or {"status": "deleted", "name": name})
    else:
        echo(f"deleted {name}")
