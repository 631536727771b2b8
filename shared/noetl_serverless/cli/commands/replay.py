"""replay, rebuild: executions from their logs alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ...plurals import counted
from ..execution_id import checked
from ..failure import EXIT_FAILED, WrongUse
from ..options import DataOption, JsonOption
from ..output import cell, command, echo, print_json, show, table
from ..recordings import RecordedArgument, is_capsule, recording_of
from ..target import running_stack

# events that one call folds at most
MAX_EVENTS = 100_000


@command
def replay(
    recorded: RecordedArgument,
    data: DataOption = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="SEQ|TIME", help="Stop at this event number or time (ISO 8601, UTC)."),
    ] = None,
    validate: Annotated[bool, typer.Option("--validate", help="Compare every projected row with the log.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Rebuild an execution from its log alone: its state, steps, loops, frames, commands and results.

    With --validate, compare the projections with the log instead. Exit status 1 if they differ.
    """
    if validate:
        if is_capsule(recorded) or at is not None:
            raise WrongUse("--validate requires an execution id and does not accept a capsule or --at")
        _validate(recorded, data, as_json)
        return
    seq, instant = _position(at)
    document = _offline(recorded, seq, instant) if is_capsule(recorded) else _online(recorded, data, seq, instant)
    if as_json:
        print_json(document)
        return
    _show(document)


def _position(at: str | None) -> tuple[int | None, datetime | None]:
    if at is None:
        return None, None
    if at.isdigit():
        return int(at), None
    try:
        instant = datetime.fromisoformat(at)
    except ValueError:
        raise WrongUse(f"--at {at!r}: expected an event number, or a time such as 2026-01-31T12:00:00Z") from None
    return None, instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def _online(execution_id: str, data: Any, seq: int | None, instant: datetime | None) -> dict[str, Any]:
    with running_stack(data) as client:
        document: dict[str, Any] = client.get(
            "/api/replay/state",
            execution_id=checked(execution_id),
            as_of_event_id=seq,
            as_of_time=None if instant is None else instant.isoformat(),
            limit=MAX_EVENTS,
        )
    return document


def _offline(file: str, seq: int | None, instant: datetime | None) -> dict[str, Any]:
    from ...engine.replay import up_to
    from ...inspection.expected_projections import document

    found = recording_of(file, None)
    at = None if instant is None else int(instant.timestamp() * 1000)
    result = document(found.execution_id, up_to(found.events, seq=seq, at=at), found.workload)
    as_of = None if instant is None else instant.isoformat()
    return {**result, "complete": True, "as_of_time": as_of}


def _show(document: dict[str, Any]) -> None:
    surfaces = document["surfaces"]
    execution = surfaces["execution"]
    cut = "" if document["complete"] else f", cut off after {counted(document['event_count'], 'event')}"
    echo(f"{execution['path']}  {execution['status']}  as of event {document['last_event_id']}{cut}")
    ended = execution["status"] != "RUNNING"
    steps = [[row["step"], row["generation"], _status(row, ended), _content(row)] for row in surfaces["steps"]]
    show(table(("step", "run", "status", "outcome"), steps))
    for name, columns in COLUMNS.items():
        if surfaces[name]:
            echo(f"{name}:")
            show(table(columns, [[row.get(column) for column in columns] for row in surfaces[name]]))
    if execution["ctx"]:
        echo(f"ctx: {_short(execution['ctx'])}")
    for name, ref in execution.get("ctx_refs", {}).items():
        echo(f"ctx.{name}: {ref['ref']}")
    for row in surfaces.get("variables", ()):
        source = f", set by {row['source_step']}" if row["source_step"] else ""
        echo(f"vars.{row['var_name']}: {_short(row['var_value'])} ({row['var_type']}{source})")
    if execution["error"]:
        echo(f"error: {execution['error'].get('message') or _short(execution['error'])}")
    echo(f"state sha256 {document['checksums']['state']}")


COLUMNS = {
    "commands": ("command_id", "kind", "attempt", "status", "seq"),
    "loops": ("step", "generation", "count", "next", "ok", "failed"),
    "stages": ("step", "generation", "count", "status"),
    "results": ("step", "store", "bytes", "ref"),
}


# statuses of a step that has not ended
UNDER_WAY = frozenset({"opening", "running", "looping", "delayed", "parked", "waiting"})


def _status(row: dict[str, Any], ended: bool) -> str:
    """In quarantine the state keeps the steps that were under way, so that they can continue, but none of them runs.
    After any other end it only keeps that the step had begun."""
    status = str(row["status"])
    if status == "lost":
        return "stopped"
    return f"stopped, was {status}" if ended and status in UNDER_WAY else status


def _content(row: dict[str, Any]) -> str:
    for name in ("error", "ref", "data"):
        if row.get(name) is not None:
            value = (
                row[name].get("message") if name == "error" else row[name].get("ref") if name == "ref" else row[name]
            )
            return _short(value)
    return ""


def _short(value: Any) -> str:
    text = cell(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _validate(execution_id: str, data: Any, as_json: bool) -> None:
    with running_stack(data) as client:
        answer = client.get("/api/replay/validate", execution_id=checked(execution_id))
    if as_json:
        print_json(answer)
    elif answer["valid"]:
        echo("the projections match the log")
    else:
        _show_differences(answer["differences"])
    if not answer["valid"]:
        raise typer.Exit(EXIT_FAILED)


def _show_differences(differences: list[dict[str, Any]]) -> None:
    rows = [
        [entry["projection"], ", ".join(str(value) for value in entry["key"].values()), *_sides(entry)]
        for entry in differences
    ]
    show(table(("projection", "row", "projected", "in the log"), rows))


def _sides(entry: dict[str, Any]) -> tuple[str, str]:
    return (
        "no such row" if entry["row"] is None else _short(entry["row"]),
        "no such row" if entry["log"] is None else _short(entry["log"]),
    )


@command
def rebuild(
    data: DataOption = None,
    execution_id: Annotated[
        str | None, typer.Option("--execution", metavar="ID", help="Rebuild only this execution.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Rebuild every execution.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Drop projections and rebuild them from the logs, while the system runs.

    Give --execution or --all. Each execution is rebuilt in one transaction. Only leases are lost: commands that workers
    hold are claimed again.
    """
    if (execution_id is None) != every:
        raise WrongUse("give either --execution ID, or --all to rebuild every execution and drop all leases")
    done: list[dict[str, Any]] = []
    with running_stack(data) as client:
        body: dict[str, Any] = {"limit": 50} if execution_id is None else {"execution_id": checked(execution_id)}
        while True:
            answer = client.post("/api/replay/rebuild", body)
            done += answer["executions"]
            if answer["next"] is None:
                break
            body["after"] = answer["next"]
    if as_json:
        print_json(done)
        return
    repaired = [entry for entry in done if entry["differences"]]
    for entry in repaired:
        echo(f"execution {entry['execution_id']}:")
        _show_differences(entry["differences"])
    leases = sum(entry["leases"] for entry in done)
    verdict = f"{len(repaired):,} of them differed from their log" if repaired else "none differed from its log"
    echo(f"{counted(len(done), 'execution')} rebuilt, {verdict}; {counted(leases, 'lease')} lost")
