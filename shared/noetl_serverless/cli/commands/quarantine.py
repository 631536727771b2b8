"""quarantine list, show, retry, drop: executions that the engine could not decide about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from ...plurals import counted
from ..execution_id import checked
from ..failure import EXIT_FAILED
from ..options import DataOption, JsonOption
from ..output import cell, command, echo, print_json, show, table
from ..target import running_stack

app = typer.Typer(help="Manage executions that the engine could not continue.", no_args_is_help=True)
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Execution id.")]
PAGE_ROWS = 100
MAX_CHARACTERS = 160


@app.command("list")
@command
def list_(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List executions in quarantine, the oldest first."""
    with running_stack(data) as client:
        entries = list(client.items_from("/api/quarantine", "after", "0", limit=PAGE_ROWS))
    if as_json:
        print_json(entries)
        return
    if not entries:
        echo("no executions are in quarantine")
        return
    columns = ("execution_id", "path", "version", "at", "place", "fact_count", "message")
    rows = [{**entry, **entry["error"]} for entry in entries]
    show(table(columns, [[row.get(column) for column in columns] for row in rows]))


@app.command("show")
@command
def show_(execution_id: IdArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show why an execution is in quarantine, the facts kept for a retry, and how to resolve it."""
    with running_stack(data) as client:
        entry = client.get(_place(execution_id))
    if as_json:
        print_json(entry)
        return
    for text in _lines(entry):
        echo(text)


@app.command()
@command
def retry(execution_id: IdArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Continue an execution from where it stopped, with the facts that were kept.

    Exit status 1 if the execution goes into quarantine again, 2 if it cannot leave it.
    """
    with running_stack(data) as client:
        answer = client.post(f"{_place(execution_id)}/retry")
    if as_json:
        print_json(answer)
    elif answer["quarantined"]:
        echo(f"execution {execution_id} is in quarantine again; run: noetls quarantine show {execution_id}")
    else:
        echo(f"execution {execution_id} continues: {answer['status']}")
    if answer["quarantined"]:
        raise typer.Exit(EXIT_FAILED)


@app.command()
@command
def drop(execution_id: IdArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Leave an execution FAILED and cancel its sub-playbooks. The facts that were kept for it are deleted; its log is
    not."""
    with running_stack(data) as client:
        answer = client.delete(_place(execution_id))
    if as_json:
        print_json(answer)
    else:
        echo(f"execution {execution_id} was dropped from quarantine; its status remains FAILED")


def _place(execution_id: str) -> str:
    return f"/api/quarantine/{checked(execution_id)}"


def _lines(entry: Mapping[str, Any]) -> Iterator[str]:
    id, error, facts = entry["execution_id"], entry["error"], entry["facts"]
    yield f"execution {id} of {entry['path']} version {entry['version']}: in quarantine since {entry['at']}"
    yield f"  {error['message']}"
    if error["place"]:
        yield f"  at {error['place']}; its log ends with event {entry['seq']}"
    yield f"kept for a retry: {counted(entry['fact_count'], 'fact')}"
    for fact in facts:
        where = fact["command_id"] or fact["step"] or ""
        payload = fact["beginning"] if fact["payload"] is None else cell(fact["payload"])
        yield f"  {fact['type']}  {where}  {_short(payload)}".rstrip()
    if entry["fact_count"] > len(facts):
        yield f"  and {entry['fact_count'] - len(facts)} more"
    yield "to resolve this:"
    yield f"  noetls quarantine retry {id}    continue it once the cause is fixed"
    yield f"  noetls quarantine drop {id}     leave it FAILED and cancel its sub-playbooks"
    yield f"  noetls cancel {id}              cancel it and its sub-playbooks"


def _short(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 3] + "..."
