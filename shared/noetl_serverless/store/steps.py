"""The common case of a commit as parameters of `noetl.advance`: each execution is opened, or closes one command, and
issues at most one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from ..engine import events as e
from ..engine.events import Event
from ..protocol import CommandKey
from ..records import Claimant, CommitResult, ExecutionCommit, Lease
from . import prepared
from .prepared import Prepared, Value
from .projections import result_of
from .shares import playbook_of

# events with rows of their own beside a command's: see `projections.project`
_WITH_ROWS = frozenset({e.TIMER_SET, e.LOOP_OPENED, e.LOOP_DONE, *e.FRAMES})
# SQLSTATE of `noetl.advance`: a fence is not valid, and nothing was written
INVALID_FENCE = "NO001"
ADVANCE = Prepared(
    "SELECT granted, lease_ends FROM noetl.advance($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, "
    "$16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35)",
    (str, str),
)


@dataclass(slots=True)
class Step:
    """`issued`: the event that issues the next command, to run in `pool`."""

    commit: ExecutionCommit
    issued: Event | None
    pool: str | None
    is_claimed: bool = False

    @property
    def execution_id(self) -> int:
        return int(self.commit.execution.execution_id)

    @property
    def version(self) -> int:
        """The version of the state."""
        return self.commit.execution.state.version

    @property
    def is_alone(self) -> bool:
        """Whether the execution waits for nothing but the command that is issued."""
        state = self.commit.execution.state
        return self.issued is not None and len(state.commands) == 1 and not state.is_suspended


def steps_of(
    commits: Sequence[ExecutionCommit], claimant: Claimant | None, default_pool: Callable[[str], str]
) -> list[Step] | None:
    """The commits as steps; None if one of them needs `noetl.commit`."""
    steps = []
    workers = {commit.worker for commit in commits if commit.closes}
    if claimant is not None:
        workers.add(claimant.worker)
    # of two starts with one key in one call, the first one given is to win
    if len(workers) > 1 or sum(commit.new_row is not None for commit in commits) > 1:
        return None
    # one statement writes states of one version
    if len({commit.execution.state.version for commit in commits}) > 1:
        return None
    for commit in commits:
        if not _is_plain(commit):
            return None
        issued: Event | None = None
        for event in commit.events:
            if event.type == e.ISSUED:
                if event.command_id in commit.execution.state.commands:
                    if issued is not None or e.LIMITS in event.payload:
                        return None
                    issued = event
            elif event.type in _WITH_ROWS:
                return None
        pool = None if issued is None else (commit.pool_of or default_pool)(issued.step or "")
        steps.append(Step(commit, issued, pool))
    free_slots = 0 if claimant is None else claimant.limit
    for step in steps:
        if claimant is not None and free_slots > 0 and step.pool == claimant.pool:
            step.is_claimed = True
            free_slots -= 1
    return steps or None


def _is_plain(commit: ExecutionCommit) -> bool:
    state = commit.execution.state
    ends = state.ended
    if commit.new_row is not None:
        is_linked = any(commit.new_row.get(name) is not None for name in ("parent_execution_id", "restart_of"))
        is_alone = not commit.closes and not is_linked and commit.writes_snapshot
    else:
        is_alone = len(commit.closes) == 1 and commit.worker is not None and (commit.writes_snapshot or not ends)
    return (
        is_alone
        and state.paused is None
        and commit.pause is None
        and ends == (commit.ended_at_ms is not None)
        and commit.quarantine is None
        and not (commit.refs or commit.consumed or commit.inbox_facts or commit.drops or commit.reissued)
        and not commit.frees
        and commit.variables is None
    )


def parameters(steps: Sequence[Step], worker: str | None, lease_seconds: float) -> list[Value]:
    """`steps`: in the order in which their rows are locked; `worker`: holds what they close, and gets what is claimed,
    for `lease_seconds`."""
    commits = [step.commit for step in steps]
    executions = [commit.execution for commit in commits]
    states = [execution.state for execution in executions]
    issued = [step.issued for step in steps]
    payloads = [None if event is None else event.payload for event in issued]
    results = [result_of(state) if state.ended else None for state in states]
    errors = [state.error if state.ended else None for state in states]
    events = [(number, event) for number, commit in enumerate(commits, 1) for event in commit.events]
    return [
        prepared.int8s([int(execution.execution_id) for execution in executions]),
        prepared.int4s([commit.expected_head for commit in commits]),
        prepared.texts([None if commit.new_row is None else orjson.dumps(commit.new_row) for commit in commits]),
        prepared.int4s([execution.head for execution in executions]),
        prepared.texts([state.status.upper() for state in states]),
        prepared.int4s([len(state.outcomes) for state in states]),
        prepared.texts([orjson.dumps(c.execution.state.snapshot()) if c.writes_snapshot else None for c in commits]),
        prepared.int2(states[0].version),
        prepared.texts([None if result is None else orjson.dumps(result) for result in results]),
        prepared.texts([None if error is None else orjson.dumps(error) for error in errors]),
        prepared.float8s([commit.ended_at_ms for commit in commits]),
        prepared.texts([commit.closes[0][0] if commit.closes else None for commit in commits]),
        prepared.int8s([commit.closes[0][1] if commit.closes else None for commit in commits]),
        prepared.text(worker),
        prepared.texts([None if event is None else event.command_id for event in issued]),
        prepared.texts([None if event is None else event.step for event in issued]),
        prepared.int4s([None if event is None else event.generation for event in issued]),
        prepared.texts([None if payload is None else payload["kind"] for payload in payloads]),
        prepared.int4s([None if payload is None else payload.get("attempt", 1) for payload in payloads]),
        prepared.texts([step.pool for step in steps]),
        prepared.int4s([playbook_of(execution.path) for execution in executions]),
        prepared.int4s([commit.weight for commit in commits]),
        prepared.int4s([None if event is None else event.seq for event in issued]),
        prepared.booleans([step.is_claimed for step in steps]),
        prepared.booleans([step.is_alone for step in steps]),
        prepared.float8(lease_seconds),
        prepared.int4s([number for number, _ in events]),
        prepared.int4s([event.seq for _, event in events]),
        prepared.int4s([event.cause for _, event in events]),
        prepared.texts([event.type for _, event in events]),
        prepared.texts([event.step for _, event in events]),
        prepared.int4s([event.generation for _, event in events]),
        prepared.texts([event.command_id for _, event in events]),
        prepared.float8s([event.at for _, event in events]),
        prepared.texts([orjson.dumps(event.payload) for _, event in events]),
    ]


def result(steps: Sequence[Step], fences: Sequence[str], lease_ends: str) -> CommitResult:
    """`fences`: what `noetl.advance` has returned for each step."""
    committed: set[str] = set()
    leases: list[Lease] = []
    pending: list[tuple[str, CommandKey]] = []
    for step, fence in zip(steps, fences, strict=True):
        if not fence:
            continue
        id = step.commit.execution.execution_id
        committed.add(id)
        event = step.issued
        if event is None:
            continue
        assert event.command_id is not None and event.step is not None and event.generation is not None
        if step.is_claimed:
            leases.append(
                Lease(
                    execution_id=id,
                    command_id=event.command_id,
                    fence=int(fence),
                    lease_until=lease_ends,
                    delivery=1,
                    seq=event.seq,
                    step=event.step,
                    generation=event.generation,
                    issued=event.payload,
                )
            )
        else:
            assert step.pool is not None
            pending.append((step.pool, CommandKey(execution_id=id, command_id=event.command_id)))
    return CommitResult(frozenset(committed), leases, pending, [])
