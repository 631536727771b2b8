"""executions, show, events, cancel: what ran and runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from ..attempts import failed_items, lines
from ..client import Client
from ..ending import dropped, principal, quarantine, remarks, warnings
from ..failure import FAILED
from ..instant import instant
from ..options import DataOption, JsonOption
from ..output import command, print_json, result, say, show, table
from ..progress import Progress
from ..target import running_stack
from .run import value_of

# of a step
MOST_LINES = 10


class Status(StrEnum):
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Execution id.")]


@command
def executions(
    data: DataOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many, newest first.")] = 25,
    status: Annotated[
        Status | None, typer.Option("--status", case_sensitive=False, help="Only those that stand so.")
    ] = None,
    playbook: Annotated[
        str | None, typer.Option("--playbook", metavar="PATH", help="Only of this playbook, and of those below it.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="Only those that began then or later: 90m, 7d, a date."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Only those that began before: 90m, 7d, a date.")
    ] = None,
    who: Annotated[
        str | None, typer.Option("--principal", metavar="NAME", help="Only those that NAME started, or KIND:NAME.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List executions, newest first.

    WHEN is a time ago, such as 90m, 12h or 7d, or a date and time, 2026-05-01 or 2026-05-01T08:00, which is of here
    unless it says otherwise. Of executions in the archive it is not known who started them.
    """
    wanted = {
        "status": status.value if status else None,
        "path": playbook,
        "since": None if since is None else instant(since, "--since").isoformat(),
        "until": None if until is None else instant(until, "--until").isoformat(),
        **_starter(who),
    }
    entries: list[dict[str, Any]] = []
    with running_stack(data) as client:
        # a page may have fewer than it was asked for: the last is empty
        while len(entries) < limit and (page := _older(client, entries, limit, wanted)):
            entries += page
    if as_json:
        print_json(entries)
        return
    columns = ["execution_id", "path", "version", "status", "start_time", "duration_human", "principal"]
    if any(entry.get("archived") for entry in entries):
        columns.append("archived")
    rows = [{**entry, "principal": principal(entry.get("principal"))} for entry in entries]
    show(table(columns, [[row.get(column) for column in columns] for row in rows]))


@command
def show_(
    execution_id: IdArgument,
    data: DataOption = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Every turn of a step that runs again and again, and all that failed.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one execution: where its steps stand, the attempts that failed, and its result.

    Of a step that runs again and again the first and the last turn are told, and those that failed; --all tells each.
    """
    with running_stack(data) as client:
        entry = client.execution(execution_id)
        place = f"/api/executions/{quote(execution_id, safe='')}"
        under_way = client.get(f"{place}/status")["under_way"] if entry["status"] == "RUNNING" else []
        if as_json:
            runs = client.get(f"{place}/runs", failed="true")
            items = list(_items_of(_read(client, execution_id)))
            print_json({**entry, "under_way": under_way, "failed_runs": runs, "failed_items": items})
            return
        progress = _read(client, execution_id)
    progress.place(under_way)
    where = "  (archived)" if entry.get("archived") else ""
    say(f"{entry.get('path')}  {entry['status']}  {entry.get('duration_human') or ''}{where}")
    if starter := principal(entry.get("principal")):
        say(f"started by {starter}")
    show(progress.steps(whole=whole))
    for text in (*_items(execution_id, progress, whole), *_failures(execution_id, progress, whole)):
        say(text)
    for text in remarks(entry):
        say(text)
    if progress.dropped is not None:
        say(_dropped(progress.dropped))
    if entry.get("error"):
        if not entry.get("quarantined"):
            show(result(entry["error"]))
    elif entry.get("result") is not None:
        show(result(value_of(entry["result"])))


@command
def events(
    execution_id: IdArgument,
    data: DataOption = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the execution ends.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the log of an execution."""
    found = []
    with running_stack(data) as client:
        client.execution(execution_id)
        for page in client.follow(execution_id) if follow else _pages(client, execution_id):
            for event in page:
                found.append(event)
                if not as_json:
                    say(_line(event))
    if as_json:
        print_json(found)


@command
def cancel(
    execution_id: IdArgument,
    data: DataOption = None,
    reason: Annotated[str, typer.Option("--reason", help="Kept in the log.")] = "cancelled by noetls",
    cascade: Annotated[bool, typer.Option("--cascade/--no-cascade", help="Its sub-playbooks too.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Cancel an execution. Exit status 1 if it had ended already."""
    with running_stack(data) as client:
        apart = client.execution(execution_id).get("quarantined")
        body = {"reason": reason, "cascade": cascade}
        answer = client.post(f"/api/executions/{quote(execution_id, safe='')}/cancel", body)
    if as_json:
        print_json(answer)
    else:
        left = "; it was in quarantine, and is not any more" if apart and answer["status"] == "cancelled" else ""
        say(f"{answer.get('message') or answer['status']}{left}")
    if answer["status"] != "cancelled":
        raise typer.Exit(FAILED)


def _older(
    client: Client, entries: list[dict[str, Any]], limit: int, wanted: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Those behind `entries`, up to `limit` in all; `wanted`: which."""
    before = entries[-1]["execution_id"] if entries else None
    found: list[dict[str, Any]] = client.get("/api/executions", page_size=limit - len(entries), before=before, **wanted)
    return found


def _starter(who: str | None) -> dict[str, str]:
    """`ada`, or `user:ada`; a name that has a colon of its own needs its kind before it."""
    kind, colon, name = (who or "").partition(":")
    if who is None:
        return {}
    return {"principal_kind": kind, "principal": name} if colon else {"principal": who}


def _pages(client: Any, execution_id: str) -> Any:
    """All events there are now, page by page."""
    after = 0
    while page := client.events(execution_id, after):
        after = max(int(event["seq"]) for event in page)
        yield page


def _read(client: Client, execution_id: str) -> Progress:
    progress = Progress()
    for page in _pages(client, execution_id):
        progress.feed(page)
    return progress


def _items_of(progress: Progress) -> Iterator[dict[str, Any]]:
    """The items of loops that failed: {step, generation, failed, items: [{index, error, attempts}]}, of each run."""
    for row in progress.rows.values():
        if row.failed_items.count:
            failed = row.failed_items
            yield {"step": row.name, "generation": row.generation, "failed": failed.count, "items": failed.told}


def _items(execution_id: str, progress: Progress, whole: bool) -> Iterator[str]:
    """The items of loops that failed, the first of each step, or all that are kept."""
    found: dict[str, list[str]] = {}
    for run in _items_of(progress):
        again = f" (again, {run['generation']})" if run["generation"] > 1 else ""
        told = failed_items(run["items"], run["failed"] - len(run["items"]))
        found.setdefault(run["step"], []).extend(f"{run['step']}{again}: {text}" for text in told)
    for name, texts in found.items():
        yield from texts if whole else texts[:MOST_LINES]
        if len(texts) > MOST_LINES and not whole:
            yield f"{name}: more items failed; noetls explain {execution_id} {name} tells which"


def _failures(execution_id: str, progress: Progress, whole: bool) -> Iterator[str]:
    """The attempts that came to nothing, the first of each step, or all that are kept."""
    for name in dict.fromkeys(row.name for row in progress.rows.values()):
        rows = [row for row in progress.rows.values() if row.name == name]
        found = [text for row in rows for run in row.failures for text in lines(asdict(run))]
        told = found if whole else found[:MOST_LINES]
        for text in told:
            yield f"{name}: {text}"
        failed = sum(row.failed for row in rows)
        if failed > len(found) or len(found) > len(told):
            yield f"{name}: {failed} in all; noetls explain {execution_id} {name} tells more"


def _dropped(event: Mapping[str, Any]) -> str:
    return dropped(event["timestamp"], (event.get("payload") or {}).get("by"))


def _line(event: dict[str, Any]) -> str:
    parts = [f"{event['seq']:>6}", event["timestamp"], f"{event['event_type']:<22}", event.get("step") or ""]
    if event.get("cause"):
        parts.append(f"(of {event['cause']})")
    lines = ["  ".join(str(part) for part in parts).rstrip()]
    payload = event.get("payload") or {}
    if "quarantined" in payload:
        lines += quarantine(str(event["execution_id"]), payload.get("error"))
    if event["event_type"] == "execution.dropped":
        lines.append(_dropped(event))
    lines += warnings(payload.get("warnings") or ())
    return "\n        ".join(lines)
