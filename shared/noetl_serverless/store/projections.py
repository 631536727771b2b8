"""The projection rows that an event makes: the same for a commit and for a retry out of quarantine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..engine.state import State
from ..engine.variables import Variable, Variables
from ..limits import WEIGHT
from ..records import Claimant, ExecutionCommit
from .shares import playbook_of


@dataclass(slots=True)
class Rows:
    """Rows by table, as `noetl.commit` takes them."""

    commands: list[dict[str, Any]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    frames: list[dict[str, Any]] = field(default_factory=list)


def project(
    execution_id: str,
    events: Iterable[Event],
    pool: Callable[[str], str],
    path: str = "",
    weight: int = WEIGHT,
    *,
    paused: bool = False,
) -> Rows:
    """The rows of `events`; `pool` names the pool that runs a step, `path` and `weight` are the playbook's. Those of
    commands and timers of a paused execution wait until it goes on."""
    rows = Rows()
    fairness = {"playbook": playbook_of(path), "weight": weight}
    # a loop over no items opens and ends in one commit, which can write a row only once
    opened: dict[tuple[str | None, int | None], dict[str, Any]] = {}
    for event in events:
        match event.type:
            case e.ISSUED:
                kind = event.payload["kind"]
                row = _command(execution_id, event, event.command_id, kind, pool, fairness, "pending", None)
                if e.LIMITS in event.payload:
                    row |= _limits(event)
                if paused:
                    row["status"] = "paused"
                rows.commands.append(row)
            case e.TIMER_SET:
                timer, due = event.payload["timer"], event.payload["due"]
                status = "paused" if paused else "timer"
                rows.commands.append(_command(execution_id, event, timer, "timer", pool, fairness, status, due))
            case e.LOOP_OPENED:
                stage = {**_loop(execution_id, event), "count": event.payload["count"], "status": "open"}
                opened[event.step, event.generation] = stage
                rows.stages.append(stage)
            case e.LOOP_DONE if (event.step, event.generation) in opened:
                opened[event.step, event.generation]["status"] = event.payload["status"]
            case e.LOOP_DONE if "stats" in event.payload:
                total = event.payload["stats"]["total"]
                rows.stages.append({**_loop(execution_id, event), "count": total, "status": event.payload["status"]})
            case e.FRAME_COMMITTED | e.FRAME_REUSED if e.IGNORED not in event.payload:
                payload = event.payload
                counts = {name: payload[name] for name in ("start", "end", "ok", "failed")}
                rows.frames.append({**_loop(execution_id, event), **counts})
    return rows


def _command(
    execution_id: str,
    event: Event,
    command: str | None,
    kind: str,
    pool: Callable[[str], str],
    fairness: Mapping[str, int],
    status: str,
    due: int | None,
) -> dict[str, Any]:
    return {
        "id": execution_id,
        "command": command,
        "step": event.step,
        "generation": event.generation,
        "kind": kind,
        "attempt": event.payload.get("attempt", 1),
        "pool": pool(event.step or ""),
        **fairness,
        "status": status,
        "seq": event.seq,
        "due": due,
    }


def _limits(event: Event) -> dict[str, Any]:
    """`limits`: of the command itself; `admission`: of the execution, until it has begun."""
    limits = dict(event.payload[e.LIMITS])
    admission = limits.pop("execution", None)
    return {"status": "limited", "limits": limits or None, "admission": admission}


def _loop(execution_id: str, event: Event) -> dict[str, Any]:
    return {"id": execution_id, "step": event.step, "generation": event.generation, "seq": event.seq}


def execution_row(commit: ExecutionCommit) -> dict[str, Any]:
    """The row of `execution` that a commit writes."""
    state = commit.execution.state
    row: dict[str, Any] = {
        "id": commit.execution.execution_id,
        "expect": commit.expected_head,
        "head": commit.execution.head,
        "status": state.status.upper(),
        "finished": len(state.outcomes),
    }
    if commit.writes_snapshot:
        row["state"] = state.snapshot()
        row["state_version"] = state.version
    if commit.new_row is not None:
        row["row"] = commit.new_row
    if state.ended:
        row["result"] = result_of(state)
        row["error"] = state.error
        row["ended"] = commit.ended_at_ms
    return row


def result_of(state: State) -> dict[str, Any] | None:
    """{"data"} or {"ref"}: the outcome of the last step of an execution that has ended."""
    outcome = state.outcomes.get(state.last or "", {})
    return {name: outcome[name] for name in ("data", "ref") if name in outcome} or None


def variable_changes(before: Variables, after: Variables) -> dict[str, Any] | None:
    """`ExecutionCommit.variables` of a commit between these; None if nothing has changed."""
    if after is before or not (after or before):
        return None
    rows = [variable_row(name, it) for name, it in after.items() if before.get(name) is not it]
    gone = [name for name in before if name not in after]
    return {"set": rows, "gone": gone} if rows or gone else None


def variable_row(name: str, variable: Variable) -> dict[str, Any]:
    """Instants are milliseconds since 1970."""
    return {
        "name": name,
        "type": variable.type,
        "value": variable.value,
        "source_step": variable.source_step,
        "created_at": variable.created_at,
        "expires_at": variable.expires_at,
    }


def still_open(commands: list[dict[str, Any]], state: State) -> list[dict[str, Any]]:
    """The commands that did not already end in the same commit."""
    return [row for row in commands if row["command"] in state.commands or state.has_timer(row["command"])]


def claim_issued(commands: list[dict[str, Any]], claimant: Claimant) -> None:
    free_slots = claimant.limit
    for row in commands:
        if free_slots > 0 and row["status"] == "pending" and row["pool"] == claimant.pool:
            row.update(status="claimed", worker=claimant.worker, lease=claimant.lease_seconds)
            free_slots -= 1
