from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from ...engine.state import State
from ...inspection.limit_text import used_up
from ...inspection.runs import run_of
from ...protocol import StorableText
from ...store.executions import OutstandingCommands, ReportedCommand
from . import AnswerModel, RequestModel

# sub-playbooks that are listed for one run of a step
MAX_CHILDREN = 10

Status = Literal["queued", "running", "paused", "delayed", "parked", "waiting"]


class ListRuns(RequestModel):
    after: int = Field(default=0, ge=0, description="List only runs with a higher seq.")
    limit: int = Field(default=100, ge=1, le=200)
    step: StorableText | None = None
    failed: bool = Field(default=False, description="List only runs in which an attempt failed or a lease was lost.")


class FailedAttempt(AnswerModel):
    attempt: int
    task: str | None
    index: int | None = Field(description="Index of the loop item.")
    error: dict[str, Any] | None
    started_at: datetime | None
    ended_at: datetime | None
    worker: str | None

    @classmethod
    def of(cls, entry: dict[str, Any]) -> FailedAttempt:
        names = ("task", "index", "error", "worker")
        times = {name: _instant(entry.get(name)) for name in ("started_at", "ended_at")}
        return cls(attempt=entry.get("attempt", 1), **{name: entry.get(name) for name in names}, **times)


class LostLease(AnswerModel):
    worker: str | None
    delivery: int
    claimed_at: datetime | None
    lease_until: datetime | None
    given_back_at: datetime | None = Field(
        description="Time at which a stopping worker released the lease; null if the lease expired."
    )

    @classmethod
    def of(cls, entry: dict[str, Any]) -> LostLease:
        times = {name: _instant(entry.get(name)) for name in ("claimed_at", "lease_until", "given_back_at")}
        return cls(worker=entry.get("worker"), delivery=entry.get("delivery", 1), **times)


class RunEntry(AnswerModel):
    """How one command ran in the worker that reported it."""

    seq: int = Field(description="Seq of the event that reports the run.")
    event_type: str
    step: str | None
    generation: int | None
    command_id: str | None
    first_item: int | None = Field(description="First item of the frame, for a loop.")
    end_item: int | None = Field(description="Last item of the frame plus one.")
    worker: str | None
    issued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime
    queued_ms: int | None = Field(description="Time from issue to start, including time in quarantine.")
    run_ms: float | None = Field(description="Time that it ran, which is the billed time.")
    waited_ms: float = Field(description="Time that it waited in the worker, for its next attempt or its turn.")
    attempts: list[FailedAttempt] = Field(description="Failed attempts: the first and the last few.")
    attempts_dropped: int = Field(description="Number of failed attempts that are not listed.")
    lost: list[LostLease] = Field(description="Earlier leases of the command that expired or were released.")

    @classmethod
    def of(cls, command: ReportedCommand) -> RunEntry:
        issued = command.issued_at
        run = run_of(command.meta, _ms(command.at), None if issued is None else _ms(issued))
        return cls(
            seq=command.seq,
            event_type=command.type,
            step=command.step,
            generation=command.generation,
            command_id=command.command_id,
            first_item=command.first_item,
            end_item=command.end_item,
            worker=run.worker,
            issued_at=issued,
            started_at=_instant(run.started_at),
            ended_at=_time(run.ended_at),
            queued_ms=run.queued_ms,
            run_ms=run.run_ms,
            waited_ms=run.waited_ms,
            attempts=[FailedAttempt.of(entry) for entry in run.attempts],
            attempts_dropped=run.attempts_dropped,
            lost=[LostLease.of(entry) for entry in run.lost],
        )


class LimitUse(AnswerModel):
    """A limit of the whole deployment that keeps commands waiting."""

    unit: Literal["command", "execution"] = Field(description="What it counts.")
    kind: Literal["concurrency", "rate"]
    key: str
    limit: int
    used: int = Field(description="How many run, or have begun within `per`.")
    per: float | None = Field(default=None, description="Window of a rate, in seconds.")
    next_start: datetime | None = Field(default=None, description="When a rate that is used up lets another begin.")


class UnderWay(AnswerModel):
    """A run of a step that has not ended. A loop has many commands; its `status` is the first of running, paused,
    queued, delayed and parked that any of them has."""

    step: str
    generation: int | None
    status: Status = Field(
        description="queued: its command waits for a worker; running: a worker has leased it, and it runs or waits in "
        "the worker for its turn, for a Python process or for its next attempt (runs shows which, once it has "
        "reported); paused: it would be queued or delayed, but its execution is paused; delayed: it continues at "
        "due_at; parked: it waits for its sub-playbook, a signal or an approval, with or without a time limit; "
        "waiting: it waits at its join for other steps."
    )
    queued: int = Field(description="Number of commands that wait for a worker.")
    running: int
    delayed: int
    parked: int
    queued_since: datetime | None = Field(description="Time since which the first of them has been waiting.")
    running_since: datetime | None = Field(
        description="Time at which a worker leased it; the earliest if there are several."
    )
    queued_ms: int | None = Field(
        description="Time that it was queued before a worker leased it; the longest if there are several."
    )
    due_at: datetime | None = Field(
        description="Time at which it continues, or at which a wait for a signal fails; the first if there are several."
    )
    worker: str | None = Field(description="A worker that has leased it.")
    deliveries: int = Field(description="Number of deliveries to workers; the highest if there are several.")
    children: list[str] = Field(description=f"Executions that it waits for, the first {MAX_CHILDREN}.")
    signals: list[str] = Field(description=f"Signals and approvals that it waits for, the first {MAX_CHILDREN}.")
    limits: list[LimitUse] = Field(
        description="Limits that keep queued commands waiting: those that are used up; all, if none is by now."
    )


def under_way(state: State, outstanding: list[OutstandingCommands]) -> list[UnderWay]:
    """The runs that are under way in `state`, with the status of their commands; none if the execution has ended."""
    if state.ended:
        return []
    commands = {f"{row.step}#{row.generation}": row for row in outstanding}
    children: dict[str, list[str]] = {}
    for child, suspended in state.children.items():
        children.setdefault(suspended.key, []).append(child)
    signals: dict[str, list[str]] = {}
    for wait in state.waits.values():
        if wait.signal is not None:
            signals.setdefault(wait.key, []).append(wait.signal)
    entries = [
        # a run without a command has just been reported, and is about to continue
        _under_way(
            token.step,
            token.generation,
            commands.get(key),
            children.get(key, []),
            signals.get(key, []),
            "running",
            is_paused=state.paused is not None,
        )
        for key, token in state.tokens.items()
    ]
    return entries + [_under_way(step, None, None, [], [], "waiting") for step in state.waiting]


def parked_timers(state: State) -> list[str]:
    """The timers that delay nothing: until then, a step waits for a signal."""
    return [name for name, wait in state.waits.items() if wait.signal is not None]


def _under_way(
    step: str,
    generation: int | None,
    outstanding: OutstandingCommands | None,
    children: list[str],
    signals: list[str],
    default_status: Status,
    *,
    is_paused: bool = False,
) -> UnderWay:
    counts = {
        name: 0 if outstanding is None else getattr(outstanding, name) for name in ("running", "queued", "delayed")
    }
    counts["parked"] = len(children) + len(signals)
    status = next((name for name, count in counts.items() if count), default_status)
    if is_paused and status in ("queued", "delayed"):
        status = "paused"
    names = ("queued_since", "running_since", "queued_ms", "due_at", "worker")
    return UnderWay.model_validate(
        {
            "step": step,
            "generation": generation,
            "status": status,
            **counts,
            **{name: getattr(outstanding, name, None) for name in names},
            "deliveries": 0 if outstanding is None else outstanding.deliveries,
            "children": children[:MAX_CHILDREN],
            "signals": signals[:MAX_CHILDREN],
            "limits": used_up((outstanding.limits if outstanding is not None else None) or ()),
        }
    )


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _instant(ms: Any) -> datetime | None:
    return _time(ms) if isinstance(ms, int) else None
