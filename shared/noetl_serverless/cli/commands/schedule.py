"""schedule create, list, enable, disable, trigger, delete."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer

from ..failure import WrongUse
from ..options import DataOption, JsonOption, PayloadOption, SetOption, workload
from ..output import command, echo, print_json, show, table
from ..target import running_stack

app = typer.Typer(help="Manage schedules, which start playbooks at set times.", no_args_is_help=True)
# as in store.schedule_spec, whose import takes longer
Missed = Literal["skip", "fire_once", "catch_up"]
NameArgument = Annotated[str, typer.Argument(help="Name or id of the schedule.")]


@app.command()
@command
def create(
    name: NameArgument,
    path: Annotated[str, typer.Argument(help="Path of the playbook in the catalog.")],
    cron: Annotated[
        str | None, typer.Option("--cron", help="Cron expression with five fields, such as '0 6 * * *'.")
    ] = None,
    every: Annotated[int | None, typer.Option("--every", min=1, help="Interval between runs, in seconds.")] = None,
    timezone: Annotated[str, typer.Option("--timezone", help="Time zone of the cron expression.")] = "UTC",
    missed: Annotated[
        Missed,
        typer.Option(
            "--missed",
            case_sensitive=False,
            help="What to do about missed runs: start none, one for all of them, or each of the last 100.",
        ),
    ] = "fire_once",
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Version of the playbook; the default is the newest.")
    ] = None,
    payload: PayloadOption = None,
    assignments: SetOption = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Create the schedule disabled.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a schedule that runs a playbook by --cron or --every."""
    if (cron is None) == (every is None):
        raise WrongUse("give either --cron or --every")
    body: dict[str, Any] = {
        "name": name,
        "playbook_path": path,
        "playbook_version": version,
        "cron": cron,
        "interval_seconds": every,
        "timezone": timezone,
        "missed_policy": missed,
        "enabled": not disabled,
        "input_payload": workload(payload, assignments),
    }
    with running_stack(data) as client:
        entry = client.post("/api/schedules", {key: value for key, value in body.items() if value is not None})
    _print_schedule(entry, as_json)


@app.command("list")
@command
def list_(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List schedules."""
    with running_stack(data) as client:
        entries = client.items("/api/schedules")
    if as_json:
        print_json(entries)
        return
    columns = ("name", "playbook_path", "cron", "interval_seconds", "enabled", "next_run_at", "last_status")
    show(table(columns, [[entry.get(column) for column in columns] for entry in entries]))


@app.command()
@command
def enable(name: NameArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Enable a schedule."""
    _post(name, "enable", data, as_json)


@app.command()
@command
def disable(name: NameArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Disable a schedule."""
    _post(name, "disable", data, as_json)


@app.command()
@command
def trigger(name: NameArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Start one execution now, in addition to the schedule."""
    _post(name, "trigger", data, as_json)


@app.command()
@command
def delete(name: NameArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Delete a schedule."""
    with running_stack(data) as client:
        answer = client.delete(f"/api/schedules/{quote(name, safe='')}")
    if as_json:
        print_json(answer or {"status": "deleted", "name": name})
    else:
        echo(f"deleted {name}")


def _post(name: str, verb: str, data: Any, as_json: bool) -> None:
    with running_stack(data) as client:
        answer = client.post(f"/api/schedules/{quote(name, safe='')}/{verb}")
    _print_schedule(answer, as_json)


def _print_schedule(entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(entry)
    elif "execution_id" in entry and "name" not in entry:
        echo(f"started execution {entry['execution_id']}")
    else:
        state = f"next run at {entry.get('next_run_at')}" if entry.get("enabled") else "disabled"
        echo(f"{entry.get('name')}: {state}")
