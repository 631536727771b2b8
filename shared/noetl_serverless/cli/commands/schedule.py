"""schedule create, update, list, get, next, enable, disable, trigger, backfill, delete."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer

from ..client import Client
from ..failure import WrongUse
from ..options import DataOption, JsonOption, PayloadOption, SetOption, workload
from ..output import command, echo, print_json, show, table
from ..target import running_stack
from ..unread import unknown_values

app = typer.Typer(help="Manage schedules, which start playbooks at set times.", no_args_is_help=True)
# as in store.schedule_spec and store.overlap, whose imports take longer
Missed = Literal["skip", "fire_once", "catch_up"]
Overlap = Literal["allow", "skip", "queue", "cancel_running"]
NewNameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the new schedule, without a slash; a number alone is none.")
]
NameArgument = Annotated[str, typer.Argument(help="Name or id of the schedule.")]
CronOption = Annotated[
    str | None, typer.Option("--cron", help="Cron expression with five fields, such as '0 6 * * *'.")
]
EveryOption = Annotated[
    str | None,
    typer.Option("--every", metavar="TIME", help="Interval between runs, in seconds or with a unit: 90, 15m, 2h, 1d."),
]
TimezoneOption = Annotated[
    str | None, typer.Option("--timezone", help="Time zone of the cron expression.", show_default="UTC")
]
MissedOption = Annotated[
    Missed | None,
    typer.Option(
        "--missed",
        case_sensitive=False,
        help="What to do about missed runs. skip: start the latest if it was due within the last 90 seconds, and none "
        "otherwise. fire_once: start one for all of them, the latest. catch_up: start each of the latest 100.",
    ),
]
OverlapOption = Annotated[
    Overlap | None,
    typer.Option(
        "--overlap",
        case_sensitive=False,
        help="What to do about a run that is due while an earlier one still runs: start it, skip it, let one wait "
        "until no other runs, or cancel the earlier one.",
        show_default="allow",
    ),
]
JITTER_HELP = "Start each run up to so much later, in seconds or with a unit: 90, 10m."
JitterOption = Annotated[str | None, typer.Option("--jitter", metavar="TIME", help=JITTER_HELP, show_default="0")]
StartOption = Annotated[
    str | None, typer.Option("--start", help="Not due before this time, such as 2026-05-01 or 2026-05-01T08:00.")
]
EndOption = Annotated[str | None, typer.Option("--end", help="Not due after this time.")]
VersionOption = Annotated[
    int | None, typer.Option("--version", min=1, help="Version of the playbook; the default is the newest.")
]
RUN_COLUMNS = ("due_at", "start_at", "status", "backfill", "execution_id", "execution_status", "reason")


@app.command()
@command
def create(
    name: NewNameArgument,
    path: Annotated[str, typer.Argument(help="Path of the playbook in the catalog.")],
    cron: CronOption = None,
    every: EveryOption = None,
    timezone: TimezoneOption = None,
    missed: MissedOption = "fire_once",
    overlap: OverlapOption = None,
    jitter: JitterOption = None,
    start: StartOption = None,
    end: EndOption = None,
    version: VersionOption = None,
    payload: PayloadOption = None,
    assignments: SetOption = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Create the schedule disabled.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a schedule that runs a playbook by --cron or --every.

    Times without an offset are read in the schedule's time zone.
    """
    if (cron is None) == (every is None):
        raise WrongUse("give either --cron or --every")
    if timezone is not None and cron is None and not any(_is_local(time) for time in (start, end)):
        raise WrongUse("--timezone is for --cron, and for --start and --end without an offset: an interval has no zone")
    body = {
        "name": name,
        "playbook_path": path,
        **_settings(cron, every, timezone, missed, overlap, jitter, start, end, version),
        "enabled": not disabled,
        "input_payload": workload(payload, assignments),
    }
    with running_stack(data) as client:
        entry = client.post("/api/schedules", body)
        unknown = [] if as_json else _unknown(client, body, entry)
    _print_schedule(entry, as_json, unknown)


@app.command()
@command
def update(
    name: NameArgument,
    path: Annotated[str | None, typer.Option("--path", help="Path of another playbook in the catalog.")] = None,
    cron: CronOption = None,
    every: EveryOption = None,
    timezone: Annotated[str | None, typer.Option("--timezone", help="Time zone of the cron expression.")] = None,
    missed: Annotated[
        Missed | None, typer.Option("--missed", case_sensitive=False, help="What to do about missed runs.")
    ] = None,
    overlap: Annotated[
        Overlap | None,
        typer.Option("--overlap", case_sensitive=False, help="What to do about a run while an earlier one still runs."),
    ] = None,
    jitter: Annotated[str | None, typer.Option("--jitter", metavar="TIME", help=JITTER_HELP)] = None,
    start: StartOption = None,
    end: EndOption = None,
    version: Annotated[int | None, typer.Option("--version", min=1, help="Version of the playbook.")] = None,
    no_start: Annotated[bool, typer.Option("--no-start", help="Remove the time of --start.")] = False,
    no_end: Annotated[bool, typer.Option("--no-end", help="Remove the time of --end.")] = False,
    newest: Annotated[bool, typer.Option("--newest", help="Run the newest version of the playbook.")] = False,
    payload: PayloadOption = None,
    assignments: SetOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a schedule: what no option names stays as it is.

    --cron takes the place of an interval, and --every that of a cron expression. --payload and --set replace the whole
    input. With other times, the schedule is due next after now.
    """
    if cron is not None and every is not None:
        raise WrongUse("give either --cron or --every")
    body = _settings(cron, every, timezone, missed, overlap, jitter, start, end, version)
    removed = {"start_at": no_start, "end_at": no_end, "playbook_version": newest}
    if both := [field for field in body if removed.get(field)]:
        raise WrongUse(f"{both[0]} cannot be set and removed")
    body |= {field: None for field, is_removed in removed.items() if is_removed}
    if path is not None:
        body["playbook_path"] = path
    if payload is not None or assignments:
        body["input_payload"] = workload(payload, assignments)
    if not body:
        raise WrongUse("nothing is to be changed: give an option")
    with running_stack(data) as client:
        entry = client.post(_path(name), body)
        unknown = [] if as_json else _unknown(client, body, entry)
    _print_schedule(entry, as_json, unknown)


@app.command("next")
@command
def due(
    name: Annotated[str | None, typer.Argument(help="Name or id of a schedule.")] = None,
    cron: CronOption = None,
    every: EveryOption = None,
    timezone: TimezoneOption = None,
    start: StartOption = None,
    end: EndOption = None,
    after: Annotated[str | None, typer.Option("--after", help="Begin after this time.", show_default="now")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="How many times to show.")] = 10,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show when a schedule is due next. Nothing is created or started.

    Give the name of a schedule; or --cron or --every, which need no running stack.
    """
    given = [option for option in (name, cron, every) if option is not None]
    if len(given) != 1:
        raise WrongUse("give the name of a schedule, --cron or --every")
    if name is None:
        found = _due_times(cron, every, timezone or "UTC", start, end, after, count)
    elif timezone or start or end:
        raise WrongUse("--timezone, --start and --end are for --cron and --every; a schedule has its own")
    else:
        with running_stack(data) as client:
            found = client.get(f"{_path(name)}/next", count=count, after=_time(after, "--after"))["items"]
            zone = client.get(_path(name))["timezone"] if found else "UTC"
        found = [_with_local(each, zone) for each in found]
    if as_json:
        print_json(found)
    elif not found:
        echo("it is not due any more")
    else:
        show(table(tuple(found[0]), [list(each.values()) for each in found]))


@app.command()
@command
def backfill(
    name: NameArgument,
    first: Annotated[
        str, typer.Option("--from", help="The first due time, inclusive, such as 2026-05-01 or 2026-05-01T08:00.")
    ],
    end: Annotated[str, typer.Option("--to", help="The end, exclusive; not after now.")],
    max_runs: Annotated[
        int, typer.Option("--max", min=1, max=1000, help="Refuse a range with more runs than this.")
    ] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the runs.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start the runs of a schedule for a range of time in the past, except those that were started before.

    Times without an offset are read in the schedule's time zone. Unless runs may overlap, they start one after
    the other.
    """
    body = {"from": _time(first, "--from"), "to": _time(end, "--to"), "max_runs": max_runs, "dry_run": dry_run}
    with running_stack(data) as client:
        found = client.post(f"{_path(name)}/backfill", body)
    if as_json:
        print_json(found)
        return
    if found["runs"]:
        show(table(("due_at", "is_new"), [[run["due_at"], run["is_new"]] for run in found["runs"]]))
    verb = "would be started" if dry_run else "will be started"
    echo(f"{found['new']} of {len(found['runs'])} runs {verb}")


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
def get(name: NameArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show a schedule and its latest runs."""
    with running_stack(data) as client:
        found = client.get(_path(name))
    if as_json:
        print_json(found)
        return
    runs = found.pop("runs")
    show(table(("field", "value"), [[key, value] for key, value in found.items() if value not in (None, {})]))
    if runs:
        show(table(RUN_COLUMNS, [[_cell(run, column) for column in RUN_COLUMNS] for run in runs]))


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
    """Start one execution now, in addition to the schedule, also if that is disabled."""
    _post(name, "trigger", data, as_json)


@app.command()
@command
def delete(name: NameArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Delete a schedule."""
    with running_stack(data) as client:
        answer = client.delete(_path(name))
    if as_json:
        print_json(answer or {"status": "deleted", "name": name})
    else:
        echo(f"deleted {name}")


def _cell(run: dict[str, Any], column: str) -> Any:
    """A run that could not be started has its reason in an error."""
    error = run.get("error")
    if column == "reason" and run.get("reason") is None and isinstance(error, dict):
        return error.get("message") or error.get("detail") or error.get("code")
    return run.get(column)


def _path(name: str) -> str:
    return f"/api/schedules/{quote(name, safe='')}"


def _settings(
    cron: str | None,
    every: str | None,
    timezone: str | None,
    missed: str | None,
    overlap: str | None,
    jitter: str | None,
    start: str | None,
    end: str | None,
    version: int | None,
) -> dict[str, Any]:
    """The fields of a request; those that no option gives are left out."""
    fields = {
        "playbook_version": version,
        "cron": cron,
        "interval_seconds": _whole_seconds(every, "--every", 1),
        "timezone": timezone,
        "missed_policy": missed,
        "overlap_policy": overlap,
        "jitter_seconds": _whole_seconds(jitter, "--jitter", 0),
        "start_at": _time(start, "--start"),
        "end_at": _time(end, "--end"),
    }
    return {key: value for key, value in fields.items() if value is not None}


def _whole_seconds(text: str | None, option: str, least: int) -> int | None:
    from ...playbook.numbers import seconds

    if text is None:
        return None
    try:
        found = seconds(text)
    except ValueError:
        found = -1.0
    if found < least or not found.is_integer():
        raise WrongUse(
            f"{option} {text!r}: expected whole seconds, at least {least}, or a time with a unit such as 15m, 2h or 1d"
        )
    return int(found)


def _is_local(text: str | None) -> bool:
    """Whether a time is read in a time zone."""
    given = _time(text, "time")
    return given is not None and datetime.fromisoformat(given).tzinfo is None


def _time(text: str | None, option: str) -> str | None:
    """Checked, and given on as it is: without an offset it is read in the schedule's time zone."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        message = f"{option} {text!r}: expected a time such as 2026-05-01 or 2026-05-01T08:00"
        raise WrongUse(message) from None


def _due_times(
    cron: str | None,
    every: str | None,
    timezone: str,
    start: str | None,
    end: str | None,
    after: str | None,
    count: int,
) -> list[dict[str, str]]:
    from ...errors import InvalidRequest
    from ...store.schedule_spec import ScheduleSpec, in_zone, instants, zone_of

    try:
        now = datetime.now(UTC).replace(microsecond=0)
        times = (_time(start, "--start"), _time(end, "--end"), _time(after, "--after"))
        first, last, begin = [
            None if text is None else in_zone(datetime.fromisoformat(text), timezone) for text in times
        ]
        spec = ScheduleSpec(first or now, cron, _whole_seconds(every, "--every", 1), timezone, start=first, end=last)
        spec.check()
        zone = zone_of(timezone)
    except InvalidRequest as problem:
        raise WrongUse(str(problem)) from None
    due = islice(instants(spec, begin or now), count)
    return [{"due_at": at.isoformat().replace("+00:00", "Z"), "local": at.astimezone(zone).isoformat()} for at in due]


def _with_local(due: dict[str, str], timezone: str) -> dict[str, str]:
    """With `due_at` on the clocks of the time zone after it."""
    from zoneinfo import ZoneInfo

    at = datetime.fromisoformat(due["due_at"])
    return {"due_at": due["due_at"], "local": at.astimezone(ZoneInfo(timezone)).isoformat(), **due}


def _post(name: str, verb: str, data: Any, as_json: bool) -> None:
    with running_stack(data) as client:
        answer = client.post(f"{_path(name)}/{verb}")
    _print_schedule(answer, as_json)


def _unknown(client: Client, body: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    """Warnings about values in a request that the playbook of the schedule does not use."""
    values = body.get("input_payload")
    if not values:
        return []
    version = entry["playbook_version"] or "latest"
    found = client.post("/api/catalog/resource", {"path": entry["playbook_path"], "version": version})
    return list(unknown_values(values, found["payload"] or {}, found["content"]))


def _print_schedule(entry: dict[str, Any], as_json: bool, warnings: Sequence[str] = ()) -> None:
    if as_json:
        print_json(entry)
    elif "execution_id" in entry and "name" not in entry:
        echo(f"started execution {entry['execution_id']}")
    else:
        due = entry.get("next_run_at")
        next_run = "never due: its end has passed, or no time fits" if due is None else f"next run at {due}"
        state = next_run if entry.get("enabled") else "disabled"
        echo(f"{entry.get('name')}: {state}")
    for warning in warnings:
        echo(warning)
