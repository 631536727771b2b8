"""trigger list, get, events, event, enable, disable, fire, retry, drop: what starts playbooks by itself."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from ..failure import EXIT_FAILED, WrongUse
from ..options import DataOption, JsonOption, workload
from ..output import cell, command, echo, print_json, show, table
from ..target import running_stack

app = typer.Typer(help="Manage triggers, which start playbooks for events.", no_args_is_help=True)
TriggerArgument = Annotated[str, typer.Argument(metavar="TRIGGER", help="PATH/NAME of the trigger, or its id.")]
EventArgument = Annotated[str, typer.Argument(metavar="EVENT", help="Id of the event.")]
PAGE_ROWS = 100


@app.command("list")
@command
def list_(
    path: Annotated[str | None, typer.Option("--path", help="Only those of this playbook.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List triggers, and whether they are effective: enabled, and of the newest version of their playbook."""
    with running_stack(data) as client:
        entries = list(client.items_from("/api/triggers", "after", "", limit=PAGE_ROWS, path=path))
    if as_json:
        print_json(entries)
        return
    columns = ("path", "name", "kind", "source", "enabled", "effective", "error")
    rows = [{**entry, "error": _reason(entry["error"])} for entry in entries]
    show(table(columns, [[row.get(column) for column in columns] for row in rows]))


@app.command()
@command
def get(trigger: TriggerArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show a trigger, as JSON with --json or without."""
    with running_stack(data) as client:
        print_json(client.get(_place(trigger)))


@app.command()
@command
def events(
    trigger: TriggerArgument,
    status: Annotated[
        str | None,
        typer.Option("--status", help="Only those that are received, started, filtered, failed, dead or dropped."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many at most.")] = 50,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what a trigger has received, newest first, and what it has started. Dead letters wait for retry or drop."""
    with running_stack(data) as client:
        entries = client.get(f"{_place(trigger)}/events", status=status, limit=limit)["items"]
    if as_json:
        print_json(entries)
        return
    columns = ("event_id", "status", "execution_id", "attempts", "received_at", "error")
    rows = [{**entry, "error": _reason(entry["error"])} for entry in entries]
    show(table(columns, [[row.get(column) for column in columns] for row in rows]))


@app.command()
@command
def event(trigger: TriggerArgument, event: EventArgument, data: DataOption = None) -> None:
    """Show an event that has yet to start an execution, or is a dead letter, with its content, as JSON."""
    with running_stack(data) as client:
        print_json(client.post(f"{_place(trigger)}/read", {"event_id": event}))


@app.command()
@command
def enable(trigger: TriggerArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Enable a trigger. What it had received before it was disabled goes on."""
    _switch(trigger, "enable", data, as_json)


@app.command()
@command
def disable(trigger: TriggerArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Disable a trigger, also for later versions of its playbook."""
    _switch(trigger, "disable", data, as_json)


@app.command()
@command
def fire(
    trigger: TriggerArgument,
    payload: Annotated[
        str | None, typer.Option("--payload", help="Data of the event as JSON; @FILE reads a file, @- standard input.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set a value of the data: key=value or a.b=value; the value is JSON or plain text."),
    ] = None,
    id: Annotated[str | None, typer.Option("--id", help="Id of the event; by default a new one.")] = None,
    type_: Annotated[str, typer.Option("--type", help="Type of the event.")] = "fire",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what the trigger makes of it.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a trigger an event whose data is what --payload and --set give. Exit status 1 if it fails.

    It is not the workload: the trigger's `when` and `input` read it as `event.data`.
    """
    event = {"id": id, "type": type_, "data": workload(payload, assignments)}
    with running_stack(data) as client:
        answer = client.post(f"{_place(trigger)}/fire", {"event": event, "dry_run": dry_run})
    if as_json:
        print_json(answer)
    elif answer["error"] is not None:
        echo(f"event {answer['event_id']}: {_reason(answer['error'])}")
    elif answer["matched"] is False:
        echo(f"event {answer['event_id']}: the condition of the trigger does not hold")
    elif dry_run:
        print_json(answer["input"])
    elif answer["execution_id"] is not None:
        echo(f"event {answer['event_id']} has started execution {answer['execution_id']}")
    else:
        echo(f"event {answer['event_id']} is {answer['status']}")
    if answer["error"] is not None:
        raise typer.Exit(EXIT_FAILED)


@app.command()
@command
def retry(trigger: TriggerArgument, event: EventArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Start a dead letter after all, with the newest version of the playbook."""
    _resolve(trigger, event, "retry", data, as_json)


@app.command()
@command
def drop(trigger: TriggerArgument, event: EventArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Give up a dead letter. Its id stays known, so that it is not received again."""
    _resolve(trigger, event, "drop", data, as_json)


def _switch(trigger: str, verb: str, data: Any, as_json: bool) -> None:
    with running_stack(data) as client:
        entry = client.post(f"{_place(trigger)}/{verb}")
    if as_json:
        print_json(entry)
        return
    state = "enabled" if entry["enabled"] else "disabled"
    hint = (
        ""
        if entry["effective"] or not entry["enabled"]
        else ", but the newest version of its playbook has no such trigger"
    )
    echo(f"{entry['path']}/{entry['name']} is {state}{hint}")


def _resolve(trigger: str, event: str, verb: str, data: Any, as_json: bool) -> None:
    with running_stack(data) as client:
        entry = client.post(f"{_place(trigger)}/{verb}", {"event_id": event})
    if as_json:
        print_json(entry)
    elif verb == "retry":
        echo(
            f"event {entry['event_id']} is started within seconds; to see what becomes of it, run: "
            f"noetls trigger events {trigger}"
        )
    else:
        echo(f"event {entry['event_id']} is {entry['status']}")


def _place(trigger: str) -> str:
    if not trigger.strip("/"):
        raise WrongUse("name the trigger as PATH/NAME, or by its id")
    return f"/api/triggers/{quote(trigger.strip('/'), safe='/')}"


def _reason(error: Any) -> str | None:
    if error is None:
        return None
    place = f"line {error['line']}: " if error.get("line") else ""
    return cell(f"{place}{error.get('message') or error.get('detail') or error.get('code')}")
