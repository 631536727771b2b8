"""executions, show, events, cancel: past and running executions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from ...engine.events import QUARANTINED, RETRIED
from ...inspection.failed_items import MAX_ITEMS
from ...inspection.quarantine_periods import QuarantinePeriods
from ...plurals import counted
from ..attempts import failed_items, lines, time
from ..client import Client
from ..code_error import code_error_lines
from ..ending import (
    dropped,
    failed_counts,
    kept_signals,
    paused,
    principal,
    quarantine,
    retried,
    status_notes,
    warnings,
)
from ..execution_id import checked, path_of
from ..failure import EXIT_FAILED
from ..instant import instant
from ..options import DataOption, JsonOption
from ..output import command, echo, print_json, result, show, table
from ..progress import Progress, seconds
from ..target import running_stack
from .run import value_of

# lines about failures in one list, unless --all is given
MAX_LINES = 10


class Status(StrEnum):
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    # running ones that are paused
    PAUSED = "PAUSED"


IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Execution id.")]


@command
def executions(
    data: DataOption = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1000, help="Maximum number of executions, newest first.")
    ] = 25,
    status: Annotated[
        Status | None, typer.Option("--status", case_sensitive=False, help="Show only executions with this status.")
    ] = None,
    playbook: Annotated[
        str | None,
        typer.Option(
            "--playbook", metavar="PATH", help="Show only executions of this playbook and of those below its path."
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="Show only executions that started at WHEN or later."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Show only executions that started before WHEN.")
    ] = None,
    started_by: Annotated[
        str | None,
        typer.Option("--principal", metavar="NAME", help="Show only executions that NAME or KIND:NAME started."),
    ] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="ID", help="Show only the sub-playbooks of this execution.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List executions, newest first.

    WHEN is an age, such as 90m, 12h or 7d, or a date or time, such as 2026-05-01 or 2026-05-01T08:00, in local time
    unless it has an offset. Who started an execution is not known once it is archived.
    """
    filters = {
        "status": status.value if status else None,
        "path": playbook,
        "parent_execution_id": None if parent is None else checked(parent),
        "since": None if since is None else instant(since, "--since").isoformat(),
        "until": None if until is None else instant(until, "--until").isoformat(),
        **_principal_filter(started_by),
    }
    entries: list[dict[str, Any]] = []
    with running_stack(data) as client:
        # a page may be shorter than requested: only an empty page is the last one
        while len(entries) < limit and (page := _next_page(client, entries, limit, filters)):
            entries += page
    if as_json:
        print_json(entries)
        return
    columns = ["execution_id", "path", "version", "status", "start_time", "duration_human", "principal"]
    if any(entry.get("archived") for entry in entries):
        columns.append("archived")
    rows = [{**entry, "principal": principal(entry.get("principal")), "status": _status(entry)} for entry in entries]
    show(table(columns, [[row.get(column) for column in columns] for row in rows]))


@command
def show_(
    execution_id: IdArgument,
    data: DataOption = None,
    whole: Annotated[bool, typer.Option("--all", help="Show every run of each step, and all failures.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one execution: the status of its steps, the failed attempts, and its result.

    For a step on a cycle, only the first, the last and the failed runs are shown; --all shows every run.
    """
    with running_stack(data) as client:
        entry = client.execution(execution_id)
        place = path_of(execution_id)
        status = client.status(execution_id) if entry["status"] == "RUNNING" else {}
        under_way, kept = status.get("under_way", []), status.get("kept_signals", [])
        if as_json:
            runs = client.get(f"{place}/runs", failed="true")["items"]
            items = _read(client, execution_id, whole=whole).failed_items()
            print_json(
                {**entry, "under_way": under_way, "kept_signals": kept, "failed_runs": runs, "failed_items": items}
            )
            return
        progress = _read(client, execution_id, whole=whole)
    progress.set_statuses(under_way)
    shown_status = _status(entry) + (" (compensating)" if progress.is_compensating else "")
    where = "  (archived)" if entry.get("archived") else ""
    echo(f"{entry.get('path')}  {shown_status}  {_duration(entry, progress)}{where}")
    if starter := principal(entry.get("principal")):
        echo(f"started by {starter}")
    if entry.get("parent_execution_id"):
        echo(f"a sub-playbook of execution {entry['parent_execution_id']}")
    if entry.get("restarted_from"):
        echo(f"goes on with execution {entry['restarted_from']}")
    if restarts := entry.get("restarts"):
        echo(f"restarted as execution {', '.join(restarts)}")
    if progress.paused is not None and entry.get("paused_since"):
        echo(_paused(progress.paused))
    if kept:
        echo(kept_signals(Counter(kept)))
    now = seconds(entry["start_time"]) + entry["duration_seconds"] if entry["status"] == "RUNNING" else None
    show(progress.steps(now, whole=whole))
    for text in progress.details():
        echo(text)
    for text in (*_errors(progress, whole), *_items(progress, whole), *_failures(execution_id, progress, whole)):
        echo(text)
    for text in (*status_notes(entry), *failed_counts(progress.failed_items()), *_retried_periods(progress)):
        echo(text)
    if progress.dropped is not None:
        echo(_dropped(progress.dropped))
    if entry.get("error"):
        if not entry.get("quarantined"):
            show(result(entry["error"]))
            for text in code_error_lines(progress.code_error(entry["error"])):
                echo(text)
    elif entry.get("result") is not None:
        show(result(value_of(entry["result"])))


@command
def events(
    execution_id: IdArgument,
    data: DataOption = None,
    follow: Annotated[bool, typer.Option("--follow", help="Keep printing events until the execution ends.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the log of an execution.

    Each line has an event's number, its time, its type and its step. "(caused by 3)" means that the engine decided the
    event because of event 3.

    A fact that was kept in quarantine is listed after the event by which the execution continued, with the time at
    which it arrived. It and the events that follow from it also show when they took effect.
    """
    found = []
    periods = QuarantinePeriods()
    with running_stack(data) as client:
        client.execution(execution_id)
        for page in client.follow(execution_id) if follow else _pages(client, execution_id):
            for event in page:
                found.append(_with_effect(event, periods))
                if not as_json:
                    # the execution may have left quarantine since
                    is_quarantined = QUARANTINED in event["payload"] and client.execution(execution_id)["quarantined"]
                    echo(_line(found[-1], is_quarantined=is_quarantined))
    if as_json:
        print_json(found)


@command
def cancel(
    execution_id: IdArgument,
    data: DataOption = None,
    reason: Annotated[str, typer.Option("--reason", help="Reason to record in the log.")] = "cancelled by noetls",
    cascade: Annotated[bool, typer.Option("--cascade/--no-cascade", help="Also cancel its sub-playbooks.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Cancel an execution. Exit status 1 if it had ended already."""
    with running_stack(data) as client:
        was_quarantined = client.execution(execution_id).get("quarantined")
        body = {"reason": reason, "cascade": cascade}
        answer = client.post(f"{path_of(execution_id)}/cancel", body)
    if as_json:
        print_json(answer)
    else:
        suffix = "; it is no longer in quarantine" if was_quarantined and answer["status"] == "cancelled" else ""
        echo(f"{answer.get('message') or answer['status']}{suffix}")
    if answer["status"] != "cancelled":
        raise typer.Exit(EXIT_FAILED)


def _status(entry: Mapping[str, Any]) -> str:
    return f"{entry['status']} (paused)" if entry.get("paused_since") else str(entry["status"])


def _duration(entry: Mapping[str, Any], progress: Progress) -> str:
    """The duration as text. For a fact that was kept in quarantine, the store has the time at which it arrived. If it
    ended the execution, the stored end is too early, so the end is computed here."""
    stored = entry.get("duration_human") or ""
    if entry["status"] == "RUNNING" or not any(period.ended_by == RETRIED for period in progress.periods.all):
        return str(stored)
    from ...control_plane.models.executions import human

    return human(max(0.0, progress.ended - seconds(entry["start_time"])))


def _next_page(
    client: Client, entries: list[dict[str, Any]], limit: int, filters: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The next page after `entries`, up to `limit` entries in all that match `filters`."""
    before = entries[-1]["execution_id"] if entries else None
    found: list[dict[str, Any]] = client.get(
        "/api/executions", page_size=limit - len(entries), before=before, **filters
    )
    return found


def _principal_filter(principal_name: str | None) -> dict[str, str]:
    """The filter for `ada` or `user:ada`. A name that contains a colon needs its kind before it."""
    kind, colon, name = (principal_name or "").partition(":")
    if principal_name is None:
        return {}
    return {"principal_kind": kind, "principal": name} if colon else {"principal": principal_name}


def _pages(client: Any, execution_id: str) -> Any:
    """All events up to now, page by page."""
    after = 0
    while page := client.events(execution_id, after):
        after = max(int(event["seq"]) for event in page)
        yield page


def _read(client: Client, execution_id: str, *, whole: bool) -> Progress:
    progress = Progress(None if whole else MAX_ITEMS)
    for page in _pages(client, execution_id):
        progress.apply(page)
    return progress


def _errors(progress: Progress, whole: bool) -> Iterator[str]:
    """Lines about steps that failed without a failed attempt: by a condition, by `set`, or by a sub-playbook."""
    found = [row for row in progress.rows.values() if row.state == "failed" and row.error and not row.failures]
    found = [row for row in found if not row.failed_items.count]
    for row in found if whole else found[:MAX_LINES]:
        yield f"{row.title} failed: {row.error}"
    if len(found) > MAX_LINES and not whole:
        yield f"and {len(found) - MAX_LINES} more; use --all to show them"


def _items(progress: Progress, whole: bool) -> Iterator[str]:
    """Lines about failed loop items: the first MAX_LINES of each step, or all that are kept."""
    found: dict[str, list[str]] = {}
    failed: Counter[str] = Counter()
    for run in progress.failed_items():
        generation = f" (run {run['generation']})" if run["generation"] > 1 else ""
        shown = failed_items(run["items"], run["unnamed"])
        found.setdefault(run["step"], []).extend(f"{run['step']}{generation}: {text}" for text in shown)
        failed[run["step"]] += run["failed"]
    for name, texts in found.items():
        yield from texts if whole else texts[:MAX_LINES]
        if failed[name] > MAX_LINES and not whole:
            more = counted(failed[name] - MAX_LINES, "more item", "more items")
            yield f"{name}: and {more} failed; use --all to show {'it' if more.startswith('1 ') else 'them'}"


def _failures(execution_id: str, progress: Progress, whole: bool) -> Iterator[str]:
    """Lines about failed attempts and lost leases: the first MAX_LINES of each step, or all that are kept."""
    for name in dict.fromkeys(row.name for row in progress.rows.values()):
        rows = [row for row in progress.rows.values() if row.name == name]
        found = [text for row in rows for run in row.failures for text in lines(asdict(run))]
        shown = found if whole else found[:MAX_LINES]
        for text in shown:
            yield f"{name}: {text}"
        failed = sum(row.failed for row in rows)
        if failed > len(found) or len(found) > len(shown):
            yield f"{name}: {failed} in all; for more, run: noetls explain {execution_id} {name}"


def _retried_periods(progress: Progress) -> Iterator[str]:
    for period in progress.periods.all:
        if period.ended_by == RETRIED:
            yield retried(time(period.since), time(period.until))


def _with_effect(event: dict[str, Any], periods: QuarantinePeriods) -> dict[str, Any]:
    """The event, with `took_effect_at` if that is later than its time: it was kept in quarantine, or follows from a
    fact that was."""
    at = round(1000 * seconds(event["timestamp"]))
    effective_at = periods.read(event["event_type"], event["seq"], at, event.get("payload") or {})
    return event if effective_at == at else {**event, "took_effect_at": time(effective_at)}


def _dropped(event: Mapping[str, Any]) -> str:
    return dropped(event["timestamp"], (event.get("payload") or {}).get("by"))


def _paused(event: Mapping[str, Any]) -> str:
    payload = event.get("payload") or {}
    return paused(event["timestamp"], payload.get("reason"), payload.get("by"))


def _summary(event: Mapping[str, Any]) -> str:
    """What an event says beside its type and step, in a few words: of a signal its name and sender, of a wait what it
    is for and how it ends, of a pause why. Never the data."""
    # one that is too large is not there
    payload = event.get("payload") or {}
    by = f" by {principal(payload['by'])}" if payload.get("by") else ""
    name = f"'{payload['signal']}'" if payload.get("signal") else ""
    match event["event_type"]:
        case "signal.received":
            return f"{name}{by}"
        case "wait.started" if payload:
            return f"for {'approval' if payload.get('approval') else 'signal'} {name}" if name else "until a time"
        case "wait.ended" if payload.get("error"):
            return f"{payload['status']}: {payload['error'].get('code')}: {payload['error'].get('message')}"
        case "wait.ended" if payload:
            return f"{payload['status']}: {f'signal {name}' if name else 'its time has come'}"
        case "execution.paused":
            return f"{by.strip()}{': ' if by and payload.get('reason') else ''}{payload.get('reason') or ''}"
        case "execution.resumed":
            return by.strip()
    return ""


def _line(event: dict[str, Any], *, is_quarantined: bool = False) -> str:
    """`is_quarantined`: whether the execution is in quarantine now."""
    parts = [f"{event['seq']:>6}", event["timestamp"], f"{event['event_type']:<22}", event.get("step") or ""]
    if summary := _summary(event):
        parts.append(summary)
    if event.get("cause"):
        parts.append(f"(caused by {event['cause']})")
    if "took_effect_at" in event:
        effect = event["took_effect_at"]
        parts.append(f"(decided at {effect})" if event.get("cause") else f"(kept in quarantine until {effect})")
    lines = ["  ".join(str(part) for part in parts).rstrip()]
    payload = event.get("payload") or {}
    if QUARANTINED in payload:
        lines += quarantine(str(event["execution_id"]), payload.get("error"), left=not is_quarantined)
    if event["event_type"] == "execution.dropped":
        lines.append(_dropped(event))
    lines += warnings(payload.get("warnings") or ())
    return "\n        ".join(lines)
