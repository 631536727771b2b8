"""archive: move executions that have ended from the database to files."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

import typer

from ...plurals import counted
from ..client import items_of
from ..failure import Failure, Refused, WrongUse
from ..options import DataOption, JsonOption
from ..output import command, echo, print_json, show, table
from ..target import running_stack

AGE = re.compile(r"^(\d+(?:\.\d+)?)([smhdw])$")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
PAUSE_SECONDS = 0.1
# a worker is invoked again after this time: an invocation may be lost
INVOKE_AGAIN_SECONDS = 5.0
# after this many failed attempts at one batch the error is taken to be permanent
MAX_ATTEMPTS = 3

# \b keeps the line breaks of a paragraph in the help
EPILOG = """\
The result store (DATA/results of a local stack) has the tables events,
executions and results as Parquet files; payload, workload, state, result
and error are JSON text. In DuckDB:

\b
  SELECT path, status, count(*), avg(ended_at - created_at) AS took
  FROM 'DATA/results/archive/executions/**/*.parquet'
  WHERE year = 2026 GROUP BY ALL ORDER BY took DESC;

\b
  SELECT step, sum((payload->'$.meta.duration_ms')::DOUBLE) AS ms
  FROM 'DATA/results/archive/events/**/*.parquet'
  WHERE type = 'call.done' GROUP BY step ORDER BY ms DESC;

The commands executions, show, events and replay also read archived
executions."""


@command
def archive(
    before: Annotated[
        str | None,
        typer.Option(
            "--before",
            metavar="AGE|DATE",
            help="Archive executions that ended before this age or date: 90d, 12h or 2026-01-31 (UTC).",
            show_default="as NOETL_ARCHIVE_AFTER_DAYS says",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be archived, without changing anything.")
    ] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move executions that have ended from the database to Parquet files.

    Exit status 1 if some could not be written.
    """
    cutoff = None if before is None else cutoff_of(before, datetime.now(UTC)).isoformat()
    try:
        with running_stack(data) as client:
            if dry_run:
                answer = client.post("/api/archives", {"before": cutoff, "dry_run": True})
                _print_due(answer, as_json)
                return
            written = _archive(client, cutoff)
    except Refused as refused:
        if cutoff is not None or refused.http_status != HTTPStatus.BAD_REQUEST:
            raise
        raise WrongUse(
            "give --before, such as --before 90d: NOETL_ARCHIVE_AFTER_DAYS, its default, is not set for this stack"
        ) from None
    _print_written(written, as_json)


def cutoff_of(text: str, now: datetime) -> datetime:
    """WrongUse if it is neither an age nor a date."""
    age = AGE.match(text)
    if age is not None:
        return now - timedelta(**{UNITS[age[2]]: float(age[1])})
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUse(f"--before {text!r}: expected an age such as 90d or 12h, or a date such as 2026-01-31") from None
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def _archive(client: Any, cutoff: str | None) -> list[dict[str, Any]]:
    """Archive a few batches at a time until nothing is due; returns the batches that were written."""
    written: list[dict[str, Any]] = []
    while True:
        answer = client.post("/api/archives", {"before": cutoff})
        # the first answer fixes the cutoff: executions that end meanwhile are not included
        cutoff = answer["before"]
        if answer["planned"]:
            written += _await(client, answer["planned"], cutoff)
        elif not answer["more"]:
            return written
        else:
            # other callers' batches fill the limit of waiting batches
            time.sleep(1.0)


def _await(client: Any, ids: list[str], cutoff: str) -> list[dict[str, Any]]:
    invoked = time.monotonic()
    while True:
        found = items_of(client.get("/api/archives", ids=",".join(ids)))
        waiting = [entry for entry in found if entry["status"] == "planned"]
        if not waiting:
            return found
        stuck = next((entry for entry in waiting if entry["attempts"] >= MAX_ATTEMPTS and entry["error"]), None)
        if stuck is not None:
            raise Failure(
                f"batch {stuck['archive_id']} could not be written after {stuck['attempts']} attempts: "
                f"{stuck['error']}. Its executions are still in the database, and it is tried again later"
            )
        if time.monotonic() - invoked > INVOKE_AGAIN_SECONDS:
            client.post("/api/archives", {"before": cutoff, "plan": False})
            invoked = time.monotonic()
        time.sleep(PAUSE_SECONDS)


def _print_due(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    due = answer["due"]
    if not due:
        echo(f"no executions ended before {answer['before']}")
        return
    rows = [[entry["month"], entry["executions"], entry["events"]] for entry in due]
    show(table(("month", "executions", "events"), rows))
    total = sum(entry["executions"] for entry in due)
    echo(f"{counted(total, 'execution')} that ended before {answer['before']}; nothing was changed")


def _print_written(written: list[dict[str, Any]], as_json: bool) -> None:
    totals = {name: sum(entry[name] for entry in written) for name in ("executions", "events", "bytes")}
    if as_json:
        print_json({"archived": written, **totals})
        return
    if not written:
        echo("nothing to archive")
        return
    rows = [
        [entry["files"]["events"]["key"], entry["executions"], entry["events"], entry["bytes"]] for entry in written
    ]
    show(table(("file", "executions", "events", "bytes"), rows))
    executions, events, size = (counted(number, name.removesuffix("s")) for name, number in totals.items())
    echo(f"{executions} with {events} archived in {size}")
