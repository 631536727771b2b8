"""What the projections must contain, computed from the log alone and independently of the code of commits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..engine import events as e
from ..engine.canonical import checksum, plain
from ..engine.events import Event
from ..engine.replay import fold, logical_order
from ..engine.state import State, split_token_key
from ..engine.upcast import UPCASTERS
from ..error_codes import spellings

RUNNING = "RUNNING"
STATUS = {"new": RUNNING, "running": RUNNING, "completed": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED"}
ENDINGS = frozenset({e.CALL_DONE, e.CALL_ERROR, e.FRAME_COMMITTED})
ENDS = frozenset({e.COMPLETED, e.FAILED, e.CANCELLED})
# the error of a command that was given up after too many deliveries; its row is kept
DEAD_LETTERS = "command.delivery_limit"

Row = dict[str, Any]


@dataclass(kw_only=True, frozen=True, slots=True)
class ExpectedProjections:
    """Rows by their keys; instants are milliseconds since 1970."""

    state: State
    execution: Row
    steps: list[Row]
    stages: list[Row]
    frames: list[Row]
    loops: list[Row]
    # open commands and timers; and dead letters, with the status `dead`
    commands: list[Row]
    # results that are in a store
    results: list[Row]
    variables: list[Row]


def document(
    execution_id: str,
    events: Iterable[Event],
    workload: Mapping[str, Any] | None = None,
    names: Iterable[str] | None = None,
) -> Row:
    """The expected projections (those of `names`, by default all) with their checksums, and that of the whole state."""
    log = list(events)
    projections = expected_projections(execution_id, log, workload)
    selected = NAMES if names is None else tuple(names)
    return {
        "execution_id": execution_id,
        "event_count": len(log),
        "last_event_id": projections.execution["head"],
        "upcasters": UPCASTERS.digest(),
        "surfaces": {name: plain(getattr(projections, name)) for name in selected},
        "checksums": {
            **{name: checksum(getattr(projections, name)) for name in selected},
            "state": checksum(projections.state),
        },
    }


NAMES = ("execution", "steps", "stages", "frames", "loops", "commands", "results", "variables")


def expected_projections(
    execution_id: str, events: Iterable[Event], workload: Mapping[str, Any] | None = None
) -> ExpectedProjections:
    """The projections of `events`, a log or the beginning of one; `workload` as in `replay.fold`."""
    log = [UPCASTERS.current(event) for event in logical_order(events)]
    state = fold(execution_id, log, workload)
    return ExpectedProjections(
        state=state,
        execution=_execution(state, log),
        steps=_steps(state),
        stages=_stages(log),
        frames=_frames(log),
        loops=_loops(state),
        commands=_commands(state, log),
        results=results_of(log),
        variables=_variables(state),
    )


def _execution(state: State, log: list[Event]) -> Row:
    began = next((event for event in log if event.type == e.STARTED), None)
    origin = began.payload if began is not None else {}
    end = end_of(log)
    outcome = state.outcomes.get(state.last or "", {}) if state.ended else {}
    return {
        "execution_id": state.execution_id,
        "path": origin.get("path"),
        "version": origin.get("version"),
        "plan_hash": origin.get("plan"),
        "parent": state.parent,
        **({"restart_of": state.restart_of} if state.restart_of is not None else {}),
        "depth": state.depth,
        "status": STATUS[state.status],
        "head": max((event.seq for event in log), default=0),
        "ctx": state.ctx,
        **({e.CTX_REFS: state.ctx_refs} if state.ctx_refs else {}),
        "result": {name: outcome[name] for name in ("data", "ref") if name in outcome} or None,
        "error": state.error,
        "created_at": None if began is None else began.at,
        "ended_at": None if end is None else end.at,
    }


def end_of(log: Iterable[Event]) -> Event | None:
    """The event of a log in logical order that ended the execution. An execution in quarantine may have continued
    since, or have been cancelled there."""
    end: Event | None = None
    for event in log:
        left = end is not None and e.QUARANTINED in end.payload and event.type in (e.RETRIED, e.CANCELLED)
        if end is None or left:
            end = event if event.type in ENDS else None
    return end


def _steps(state: State) -> list[Row]:
    """Each step's latest run: its outcome if it has ended, otherwise its current status."""
    names = dict.fromkeys((*state.outcomes, *state.generations, *state.waiting))
    under_way = {token.step: token for token in state.tokens.values()}
    rows = []
    for name in sorted(names):
        token, outcome = under_way.get(name), state.outcomes.get(name, {})
        status = token.status if token else "waiting" if name in state.waiting else outcome.get("status", "lost")
        row: Row = {"step": name, "generation": state.generations.get(name, 0), "status": status}
        if token is None and name not in state.waiting:
            row.update({key: outcome[key] for key in ("data", "ref", "error") if key in outcome})
        rows.append(row)
    return rows


def _stages(log: list[Event]) -> list[Row]:
    rows: dict[tuple[Any, Any], Row] = {}
    for event in log:
        key = (event.step, event.generation)
        if event.type == e.LOOP_OPENED:
            rows[key] = {**_of(event), "count": event.payload["count"], "status": "open"}
        elif event.type == e.LOOP_DONE and key in rows:
            rows[key]["status"] = event.payload["status"]
        elif event.type == e.LOOP_DONE and "stats" in event.payload:
            # of which another execution has done items, and that ended before it opened
            total = event.payload["stats"]["total"]
            rows[key] = {**_of(event), "count": total, "status": event.payload["status"]}
    return _sorted(rows.values())


def _frames(log: list[Event]) -> list[Row]:
    counts = ("start", "end", "ok", "failed")
    rows = [{**_of(event), **{name: event.payload[name] for name in counts}} for event in log if event.type in e.FRAMES]
    return _sorted(rows)


def _loops(state: State) -> list[Row]:
    """The loops that are under way."""
    rows = []
    for key, loop in sorted(state.loops.items()):
        step, generation = split_token_key(key)
        rows.append({"step": step, "generation": generation, **plain(loop)})
    return rows


def _commands(state: State, log: list[Event]) -> list[Row]:
    rows: list[Row] = []
    # when timers are due after a pause
    later: dict[str, int] = {}
    # in quarantine the state keeps commands and timers that have no rows any more
    for event in () if state.ended else log:
        payload = event.payload
        if event.type == e.ISSUED and event.command_id in state.commands:
            kind, attempt = payload["kind"], payload["attempt"]
            rows.append({**_command(event, event.command_id, kind, attempt, "open", None), **_limits(event)})
        elif event.type == e.TIMER_SET and state.has_timer(payload["timer"]):
            rows.append(_command(event, payload["timer"], "timer", payload.get("attempt", 1), "timer", payload["due"]))
        elif event.type == e.RESUMED:
            later.update(payload.get("timers", {}))
    for row in rows:
        if "due" in row:
            row["due"] = later.get(row["command_id"], row["due"])
    return _sorted([*rows, *_dead(log)])


def _dead(log: list[Event]) -> list[Row]:
    issued = {event.command_id: event for event in log if event.type == e.ISSUED}
    rows = []
    for event in log:
        error = event.payload.get("error") if event.type in ENDINGS else None
        order = issued.get(event.command_id)
        if (
            isinstance(error, Mapping)
            and DEAD_LETTERS in spellings(str(error.get("code")))
            and error.get("kind") == "engine"
            and order
        ):
            kind, attempt = order.payload["kind"], order.payload["attempt"]
            rows.append(_command(order, order.command_id, kind, attempt, "dead", None))
    return rows


def _command(event: Event, name: str | None, kind: str, attempt: int, status: str, due: int | None) -> Row:
    row = {**_of(event), "command_id": name, "kind": kind, "attempt": attempt, "status": status}
    return row if due is None else {**row, "due": due}


def _limits(event: Event) -> Row:
    """Of the command itself; those of its execution count only until that has begun, which the log does not tell."""
    limits = {name: limit for name, limit in event.payload.get(e.LIMITS, {}).items() if name != "execution"}
    return {"limits": limits} if limits else {}


def results_of(log: Iterable[Event]) -> list[Row]:
    """What the reports among these events have put into a result store."""
    rows: dict[str, Row] = {}
    for step, payload in _reports(log):
        for ref in e.references_in(payload):
            meta = ref.get("meta", {})
            row = {
                "key": ref["key"],
                "ref": ref["ref"],
                "step": e.step_of(step, ref),
                "store": ref["store"],
                "bytes": meta.get("bytes", 0),
                "sha256": meta.get("sha256", ""),
                "content_type": meta.get("content_type", "application/json"),
                "scope": ref.get("scope", "execution"),
                "expires_at": ref.get("expires_at"),
            }
            rows.setdefault(row["key"], row)
    return [rows[key] for key in sorted(rows)]


def _reports(log: Iterable[Event]) -> Iterator[tuple[str | None, Mapping[str, Any]]]:
    """Step and payload of each report, including one that could not be decided."""
    for event in log:
        kept = event.payload.get(e.QUARANTINED, {})
        if event.type in e.REPORTS:
            yield event.step, event.payload
        elif kept.get("type") in e.REPORTS:
            yield kept["step"], kept["payload"]


def _variables(state: State) -> list[Row]:
    return [
        {
            "var_name": name,
            "var_type": it.type,
            "var_value": it.value,
            "source_step": it.source_step,
            "created_at": it.created_at,
            "expires_at": it.expires_at,
            "scope": "execution",
        }
        for name, it in sorted(state.variables.items())
    ]


def _of(event: Event) -> Row:
    return {"step": event.step, "generation": event.generation, "seq": event.seq}


def _sorted(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row["seq"])
