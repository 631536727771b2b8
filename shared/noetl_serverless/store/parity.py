"""Compares the projections of one execution with its log: every row, every column that the log determines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..engine.canonical import plain
from ..engine.events import Event
from ..engine.replay import fold
from ..engine.state import State
from ..inspection.expected_projections import ExpectedProjections, expected_projections, results_of

Row = Mapping[str, Any]

KEYS: Mapping[str, tuple[str, ...]] = {
    "command": ("command_id",),
    "stage": ("step", "generation"),
    "frame": ("step", "generation", "start"),
    "result_ref": ("key",),
    "transient": ("var_name",),
}
OF_EXECUTION = (
    *("path", "version", "plan_hash", "parent", "parent_execution_id", "restart_of", "depth", "status", "head"),
    *("result", "error"),
    *("created_at", "ended_at"),
)
# compared only if the first event has them: they may have been kept in the row alone
OF_START = ("workload", "principal")

# scopes of the results that are kept, by `execution.results_kept`
KEPT_SCOPES: Mapping[str | None, frozenset[str]] = {
    None: frozenset({"step", "execution", "workflow", "permanent"}),
    "execution": frozenset({"execution", "workflow", "permanent"}),
    "permanent": frozenset({"permanent"}),
}
# shown in place of a state that cannot be restored
UNREADABLE = "cannot be read"


@dataclass(kw_only=True, frozen=True, slots=True)
class StoredRows:
    """The rows of the projections. Instants are milliseconds since 1970."""

    execution: Row | None
    commands: Sequence[Row]
    stages: Sequence[Row]
    frames: Sequence[Row]
    results: Sequence[Row]
    variables: Sequence[Row]
    now: int
    # facts that are not in the log yet
    inbox: Sequence[Event] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """`row` is the projected row, `log` the row expected from the log; None where there is no such row. If both exist,
    only the columns that differ."""

    projection: str
    key: dict[str, Any]
    row: dict[str, Any] | None
    log: dict[str, Any] | None


def differences(execution_id: str, events: Sequence[Event], stored: StoredRows) -> list[Difference]:
    """An empty list means that the projections match the log."""
    stored_row = stored.execution
    workload = stored_row["workload"] if stored_row is not None else None
    of_log = expected_projections(execution_id, events, workload)
    found = _execution(execution_id, events, of_log, stored_row)
    found += _rows("command", stored.commands, outstanding_commands(of_log, stored.inbox))
    found += _rows("stage", stored.stages, of_log.stages)
    found += _rows("frame", stored.frames, of_log.frames)
    expected = [{**row, "expires_at": _instant(row["expires_at"])} for row in stored_results(of_log, stored.inbox)]
    # how often a variable was read, and when, is not in the log
    found += _rows("transient", stored.variables, of_log.variables)
    kept = stored_row.get("results_kept") if stored_row is not None else None

    def is_missing(row: Row) -> bool:
        return not _expired(row, stored.now) and row["scope"] in KEPT_SCOPES[kept]

    return found + _rows("result_ref", stored.results, expected, missing=is_missing)


def outstanding_commands(of_log: ExpectedProjections, inbox: Sequence[Event]) -> list[dict[str, Any]]:
    """The outstanding commands according to the log, without those whose report waits in the inbox."""
    reported = {event.command_id for event in inbox}
    return [row for row in of_log.commands if row["command_id"] not in reported or row["status"] == "dead"]


def stored_results(of_log: ExpectedProjections, inbox: Sequence[Event]) -> list[dict[str, Any]]:
    known = {row["key"] for row in of_log.results}
    return [*of_log.results, *(row for row in results_of(inbox) if row["key"] not in known)]


def _execution(
    execution_id: str, events: Sequence[Event], of_log: ExpectedProjections, stored_row: Row | None
) -> list[Difference]:
    key = {"execution_id": execution_id}
    expected = {**of_log.execution, "head": max(event.seq for event in events)}
    expected["parent_execution_id"] = (expected["parent"] or {}).get("execution_id")
    expected.setdefault("restart_of", None)
    if stored_row is None:
        return [Difference("execution", key, None, {name: plain(expected[name]) for name in OF_EXECUTION})]
    row = {name: plain(stored_row[name]) for name in OF_EXECUTION}
    log = {name: plain(expected[name]) for name in OF_EXECUTION}
    first = min(events, key=lambda event: event.seq)
    for name in OF_START:
        if name in first.payload:
            row[name], log[name] = plain(stored_row[name]), plain(first.payload[name])
    snapshot = _snapshot(stored_row)
    if snapshot is None:
        return _columns("execution", key, {**row, "state": UNREADABLE}, {**log, "state": "what its log folds to"})
    folded = fold(
        execution_id, (event for event in events if event.seq <= stored_row["folded"]), stored_row["workload"]
    )
    for name, value in plain(folded).items():
        if name != "workload":
            row[f"state.{name}"], log[f"state.{name}"] = snapshot[name], value
    return _columns("execution", key, row, log)


def _snapshot(stored_row: Row) -> dict[str, Any] | None:
    """The state as it is stored; None if it cannot be restored."""
    try:
        state: dict[str, Any] = plain(State.restore(stored_row["state"], {}))
    except Exception:
        return None
    return state


def _rows(
    projection: str,
    stored: Iterable[Row],
    expected: Iterable[Row],
    missing: Callable[[Row], bool] = lambda row: True,
) -> list[Difference]:
    """`missing`: whether it is a difference that an expected row does not exist."""
    names = KEYS[projection]
    rows = {tuple(row[name] for name in names): _without_nulls(row) for row in stored}
    log = {tuple(row[name] for name in names): _without_nulls(row) for row in expected}
    found = []
    for values in sorted({*rows, *log}, key=str):
        key = {name: values[place] for place, name in enumerate(names)}
        if values not in rows:
            if missing(log[values]):
                found.append(Difference(projection, key, None, log[values]))
        elif values not in log:
            found.append(Difference(projection, key, rows[values], None))
        else:
            found += _columns(projection, key, rows[values], log[values])
    return found


def _columns(projection: str, key: dict[str, Any], row: Row, log: Row) -> list[Difference]:
    names = [name for name in dict.fromkeys((*row, *log)) if row.get(name) != log.get(name)]
    if not names:
        return []
    return [
        Difference(projection, key, {name: row.get(name) for name in names}, {name: log.get(name) for name in names})
    ]


def _without_nulls(row: Row) -> dict[str, Any]:
    return {name: plain(value) for name, value in row.items() if value is not None}


def _instant(value: str | None) -> int | None:
    return None if value is None else round(datetime.fromisoformat(value).timestamp() * 1000)


def _expired(row: Row, now: int) -> bool:
    expires = row.get("expires_at")
    return expires is not None and expires <= now
