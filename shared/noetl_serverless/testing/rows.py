"""The rows of the event store in memory, each as it comes back from the database."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from .. import limits
from ..engine import events as e
from ..engine.events import Event
from ..engine.evolve import apply
from ..engine.replay import logical_order
from ..engine.upcast import STATE_VERSION, STATES
from ..protocol import CommandKey
from ..records import ExecutionCommit, Inbox, LoadedExecution, QuarantinedExecution, RelatedRestart
from ..store.loaded_execution import placeholder_state
from ..store.projections import Rows

# how many lost leases of a command are kept
MAX_LOST_LEASES = 10


@dataclass(kw_only=True, slots=True)
class ExecutionRow:
    loaded: LoadedExecution
    workload: dict[str, Any]
    parent_id: str | None
    idempotency_key: str | None
    request_hash: str | None
    # in ms
    created_at: int
    status: str
    head: int
    folded: int
    finished: int
    # as JSON, so that it is never shared
    state: bytes = b""
    # the version of the state
    form: int = STATE_VERSION
    result: Any = None
    error: Any = None
    ended_at: int | None = None
    is_paused: bool = False
    # the execution that it goes on with
    restart_of: str | None = None
    events: list[Event] = field(default_factory=list)
    # step, generation; the frames also by their first item
    stages: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    frames: dict[tuple[str, int, int], dict[str, Any]] = field(default_factory=dict)
    inbox: dict[int, Event] = field(default_factory=dict)
    # by name
    variables: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class CommandRow:
    """A command. Without a lease `lease_until` is 0."""

    row: dict[str, Any]
    issued_at: float
    status: str
    worker: str | None = None
    fence: int = 0
    lease_until: float = 0.0
    deliveries: int = 0
    claimed_at: float = 0.0
    lost: list[dict[str, Any]] = field(default_factory=list)
    # the limits of its execution, until that has begun
    admission: dict[str, Any] | None = None

    @property
    def limits(self) -> dict[str, Any] | None:
        return self.row.get("limits")

    @property
    def waiting_status(self) -> str:
        """What it is while nobody holds it."""
        return "limited" if self.limits or self.admission else "pending"


@dataclass(kw_only=True, slots=True)
class PreparedCommit:
    """A commit that is to be written, with everything in its stored form."""

    commit: ExecutionCommit
    row: dict[str, Any]
    rows: Rows
    events: list[Event]
    refs: list[dict[str, Any]]
    # (execution id, fact) for other executions
    appends: list[tuple[str, Event]]
    quarantined: dict[str, Any] | None
    variables: dict[str, Any] | None

    @property
    def id(self) -> str:
        return self.commit.execution.execution_id


def loaded(row: ExecutionRow) -> LoadedExecution:
    """With the state of the log's head. `read_error` is set if the state or an event cannot be read."""
    id, error = row.loaded.execution_id, None
    kept, newer = orjson.loads(row.state), row.events[row.folded :]
    try:
        state = STATES.restore(kept, row.form, row.workload)
        for event in logical_order(newer):
            apply(state, event)
    except Exception as unreadable:
        state, error = placeholder_state(id, row.head, row.workload, kept, newer), unreadable
    return replace(row.loaded, state=state, head=row.head, snapshot=row.folded, read_error=error)


def quarantined(row: Mapping[str, Any], execution: ExecutionRow) -> QuarantinedExecution:
    """`row`: of the table of quarantined executions; `execution`: the one that it is about."""
    return QuarantinedExecution(
        execution_id=execution.loaded.execution_id,
        path=execution.loaded.path,
        version=execution.loaded.version,
        seq=row["seq"],
        at=datetime.fromtimestamp(row["at"] / 1000, UTC),
        error=row["error"],
        fact_count=len(row["facts"]),
        facts=row["facts"],
    )


def manifest_parts(events: Iterable[Event], step: str, generation: int) -> list[dict[str, Any]]:
    """The results of a loop by frame, as its manifest lists them: `start`, `end`, and `data` or `ref`."""
    names = ("start", "end", "data", "ref")
    return [
        {name: event.payload[name] for name in names if name in event.payload}
        for event in events
        if event.type in e.FRAMES and (event.step, event.generation) == (step, generation)
    ]


def related_restarts(
    executions: Mapping[str, ExecutionRow], quarantine: Container[str], execution_id: str
) -> list[RelatedRestart]:
    while (row := executions.get(execution_id)) is not None and row.restart_of is not None:
        execution_id = row.restart_of
    tree = [execution_id]
    for before in tree:
        tree += [id for id, row in executions.items() if row.restart_of == before]
    return [_related(id, executions.get(id), id in quarantine) for id in sorted(tree, key=int)]


def _related(id: str, row: ExecutionRow | None, is_quarantined: bool) -> RelatedRestart:
    if row is None:
        return RelatedRestart(id, version=None, status=None, is_open=is_quarantined, has_undone=None, undoes=None)
    has_undone = row.status != "COMPLETED" and any(event.type == e.COMPENSATION_STARTED for event in row.events)
    restarted = next((event.payload for event in row.events if event.type == e.RESTARTED), {})
    return RelatedRestart(
        id,
        version=row.loaded.version,
        status=row.status,
        is_open=row.status == "RUNNING" or is_quarantined,
        has_undone=has_undone,
        undoes=restarted.get(e.UNDOES, []),
    )


def running_restarts(executions: Mapping[str, ExecutionRow], related: Iterable[RelatedRestart]) -> dict[str, str]:
    found: dict[str, str] = {}
    for it in related:
        runs = it.status == "RUNNING"
        if not runs or it.has_undone:
            below = _running_below(executions, it.execution_id)
            found.update(dict.fromkeys([it.execution_id, *below] if runs else below, it.execution_id))
    return {id: found[id] for id in sorted(found, key=int)}


def _running_below(executions: Mapping[str, ExecutionRow], execution_id: str) -> list[str]:
    """Also what goes on with its descendants."""
    below = [id for id, row in executions.items() if row.parent_id == execution_id]
    for each in below:
        below += [id for id, row in executions.items() if each in (row.parent_id, row.restart_of)]
    return [id for id in below if executions[id].status == "RUNNING"]


def running_descendants(executions: Mapping[str, ExecutionRow], execution_id: str) -> list[str]:
    found: list[str] = []
    level = {execution_id}
    while level := {id for id, row in executions.items() if row.parent_id in level}:
        found += sorted(level, key=int)
    return [id for id in found if executions[id].status == "RUNNING"]


def running_children(executions: Mapping[str, ExecutionRow], parent_id: str) -> list[str]:
    return [id for id, row in executions.items() if row.parent_id == parent_id and row.status == "RUNNING"]


def inbox_page(inbox: Mapping[int, Event]) -> Inbox:
    """As `noetl.waiting` does in PostgreSQL."""
    facts: list[tuple[int, Event]] = []
    size = 0
    for place, fact in inbox.items():
        if len(facts) == limits.INBOX_FACTS or size >= limits.INBOX_BYTES:
            return Inbox(facts, more=True)
        facts.append((place, fact))
        size += len(orjson.dumps(fact.payload))
    return Inbox(facts)


def with_lost_lease(row: CommandRow, at: float | None) -> list[dict[str, Any]]:
    """The lost leases of a command, including the current one. `at`: when it was released; None if it expired."""
    holder = {
        "worker": row.worker,
        "delivery": row.deliveries,
        "claimed_at": int(row.claimed_at * 1000),
        "lease_until": int(row.lease_until * 1000),
    }
    return [*row.lost, holder if at is None else {**holder, "given_back_at": int(at * 1000)}][-MAX_LOST_LEASES:]


def stored_form(value: Any) -> Any:
    """A copy in stored form: not shared with anything, and as it comes back from JSON."""
    return orjson.loads(orjson.dumps(value))


def stored_event(event: Event) -> Event:
    return replace(event, payload=stored_form(event.payload))


def frame_key(row: dict[str, Any]) -> tuple[str, int, int]:
    return row["step"], row["generation"], row["start"]


def pending_pointer(row: dict[str, Any]) -> tuple[str, CommandKey]:
    return row["pool"], CommandKey(execution_id=row["id"], command_id=row["command"])
