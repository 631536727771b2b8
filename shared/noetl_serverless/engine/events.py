"""The events of the log. A *fact* records what happened outside; a *decision* records what follows from it.

A decision names its fact in `cause`. Facts may be appended by many writers at once, undecided. Each is then decided by
itself, in the order of `seq`, so events are folded in the order of (cause or seq, seq): see `replay.logical_order`.

A fact that nothing waited for when it was to be decided is in the log with the reason under `ignored`, and changes
nothing. A fact that could not be decided is in the `playbook.failed` that it led to, under `quarantined`; that event
has no cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

STARTED = "playbook.initialized"
CALL_DONE = "call.done"
CALL_ERROR = "call.error"
CALL_DEFERRED = "call.deferred"
CALL_PARKED = "call.parked"
FRAME_COMMITTED = "frame.committed"
TIMER_FIRED = "timer.fired"
CHILD_ENDED = "child.ended"
# nothing of it is claimed, and none of its timers fires, until it goes on
PAUSED = "execution.paused"
RESUMED = "execution.resumed"
# data for a wait of the execution, by the name of a signal
SIGNAL_RECEIVED = "signal.received"
# by a user; what steps set is in their routes and reports
VARIABLES_SET = "variables.set"
VARIABLES_DELETED = "variables.deleted"
CANCELLED = "execution.cancelled"
# the execution that it is a part of has failed, or the time of its step there is over: what it has done is undone
PARENT_FAILED = "parent.failed"
# it leaves quarantine and continues as it was
RETRIED = "execution.retried"
# it leaves quarantine and stays as it ended
DROPPED = "execution.dropped"
# a step that another execution has done, whose outcome this one takes over
REUSED = "step.reused"
# a loop that another execution has begun: {"count", "data" | "ref": its collection, "of"}. It goes on with it when it
# begins again. What of its items is done follows, by ranges of them, each as in a FRAME_COMMITTED
LOOP_REUSED = "loop.reused"
FRAME_REUSED = "frame.reused"
# all that is taken over has been; what is left to do begins
RESTARTED = "execution.restarted"

# a worker's report of a command, of which each command has one
REPORTS = frozenset({CALL_DONE, CALL_ERROR, CALL_DEFERRED, CALL_PARKED, FRAME_COMMITTED})
FACTS = REPORTS | {
    *(STARTED, TIMER_FIRED, CHILD_ENDED, SIGNAL_RECEIVED, PAUSED, RESUMED, CANCELLED, PARENT_FAILED, RETRIED, DROPPED),
    *(REUSED, LOOP_REUSED, FRAME_REUSED, RESTARTED, VARIABLES_SET, VARIABLES_DELETED),
}
# the results of a range of a loop's items
FRAMES = frozenset({FRAME_COMMITTED, FRAME_REUSED})

ISSUED = "command.issued"
STEP_EXIT = "step.exit"
STEP_SKIPPED = "step.skipped"
STEP_TIMED_OUT = "step.timed_out"
LOOP_OPENED = "loop.opened"
LOOP_DONE = "loop.done"
TIMER_SET = "timer.set"
CHILD_STARTED = "child.started"
WAIT_STARTED = "wait.started"
WAIT_ENDED = "wait.ended"
# the execution is to fail, and what its steps have done is undone first
COMPENSATION_STARTED = "compensation.started"
STEP_STOPPED = "step.stopped"
COMPLETED = "playbook.completed"
FAILED = "playbook.failed"

DECISIONS = frozenset(
    {
        *(ISSUED, STEP_EXIT, STEP_SKIPPED, STEP_TIMED_OUT, LOOP_OPENED, LOOP_DONE),
        *(TIMER_SET, CHILD_STARTED, WAIT_STARTED, WAIT_ENDED, COMPENSATION_STARTED, STEP_STOPPED, COMPLETED, FAILED),
    }
)

# events of which the release before knows nothing: it must not fold them
NEWER = frozenset(
    {
        *(SIGNAL_RECEIVED, WAIT_STARTED, WAIT_ENDED, PAUSED, RESUMED, PARENT_FAILED),
        *(COMPENSATION_STARTED, STEP_STOPPED, VARIABLES_SET, VARIABLES_DELETED),
    }
)

# beside `set` in a report or a route, and beside `ctx` in a scope: name -> reference to the value. Each name is in one
# of the two
SET_REFS = "set_refs"
# in the payload of a report: references to the parts of what a task accumulates, which only their collection reads
PARTS = "parts"
# in such a reference: the name under which it is accumulated
PART_OF = "part_of"
CTX_REFS = "ctx_refs"
# of a command that is issued: what limits it, see `limiting`
LIMITS = "limits"
# beside `set` in a report of a frame of a parallel loop: name -> index of the item that has set it, the last of the
# frame that did
SET_BY = "set_by"
# in the `resume` data of a frame of a parallel loop: what the items that wait have set
OWN_SET = "set"
# the name of the timer that ends the execution, which belongs to no command; see also `step_deadline`
DEADLINE = "deadline"
# in the payload of STARTED: relation -> id of the execution that it comes from. Nothing is decided by it
ORIGIN = "origin"
PARENT, RERUN_OF = "parent_execution_id", "rerun_of"
# in the payload of STARTED, for an execution that goes on from a step of another: {"execution_id", "path", "version",
# "from": [step], "seq": the last event of that execution}. It is followed by what is reused, and one RESTARTED
RESTART = "restart"
# in the payload of RESTARTED: the steps of which something is taken over that is undone if the execution fails
UNDOES = "undoes"
# in the payload of CANCELLED: nobody has asked for it, so that what has been done is undone, if it can be
UNDO = "undo"
# keys of a payload: see the module's docstring
IGNORED = "ignored"
QUARANTINED = "quarantined"
# the error code of an execution that could not be decided
UNDECIDABLE = "engine.undecidable"


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the log. `at` is milliseconds since 1970 UTC; `seq` counts from 1 within the execution."""

    type: str
    at: int
    _: KW_ONLY
    seq: int = 0
    # the seq of the fact that a decision answers; None for a fact
    cause: int | None = None
    step: str | None = None
    generation: int | None = None
    command_id: str | None = None
    payload: dict[str, Any] = field(default_factory=dict)

    def numbered(self, seq: int) -> Event:
        """The event with its seq in the log."""
        return Event(
            self.type,
            self.at,
            seq=seq,
            cause=self.cause,
            step=self.step,
            generation=self.generation,
            command_id=self.command_id,
            payload=self.payload,
        )


def step_deadline(key: str) -> str:
    """The name of the timer that ends the run of a step, by the key of its token; it belongs to no command."""
    return f"{key}!{DEADLINE}"


def is_deadline(event_type: str, payload: Mapping[str, Any]) -> bool:
    """Whether an event is about a timer that ends an execution or a step, which delays nothing."""
    timer = str(payload.get("timer", "")) if event_type in (TIMER_SET, TIMER_FIRED) else ""
    return timer == DEADLINE or timer.endswith(f"!{DEADLINE}")


def stops_item(event: Event) -> bool:
    """Whether an item of a loop has stopped, and not a whole run of a step."""
    return event.type == STEP_STOPPED and (event.command_id is not None or "child" in event.payload)


def step_of(step: str | None, ref: Mapping[str, Any]) -> str | None:
    """The step that a reference is the result of; None if it is only a part of that."""
    return None if PART_OF in ref else step


def references_in(report: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The references of a report's payload to a result store."""
    for ref in (report.get("ref"), *(report.get(SET_REFS) or {}).values(), *(report.get(PARTS) or ())):
        if isinstance(ref, Mapping) and "key" in ref:
            yield ref
