"""Faults planted in what users and senders may do to executions, each of which the simulation must find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from noetl_serverless.engine import compensation, decide, evolve, waits
from noetl_serverless.engine import events as e
from noetl_serverless.inspection.restart import _Restarting
from noetl_serverless.orchestrator import commits, pauses
from noetl_serverless.orchestrator.triggers import TriggerStarts
from noetl_serverless.protocol import CommandKey
from noetl_serverless.store.triggers import DueEvent
from noetl_serverless.testing.commands import CommandTable
from noetl_serverless.testing.limits import UNLIMITED, Limits
from noetl_serverless.testing.rows import CommandRow, pending_pointer

Mutant = Callable[[], Any]


# -- waits and signals


def lose_a_signal_that_comes_before_its_wait() -> Any:
    begin = waits.begin

    def deaf(decision: Any, request: Any) -> None:
        with patch.object(waits, "_kept", lambda decision, name: None):
            begin(decision, request)

    return patch.object(waits, "begin", deaf)


def let_a_signal_end_each_wait_for_it() -> Any:
    ended = evolve.APPLY[e.WAIT_ENDED]

    def keeping(state: Any, event: Any) -> None:
        kept = state.signals
        ended(state, event)
        state.signals = kept

    return patch.dict(evolve.APPLY, {e.WAIT_ENDED: keeping})


def take_a_signal_as_often_as_it_is_sent() -> Any:
    reason = vars(decide)["reason_to_ignore"]

    def lenient(state: Any, fact: Any) -> Any:
        return None if fact.type == e.SIGNAL_RECEIVED else reason(state, fact)

    @contextmanager
    def everywhere() -> Iterator[None]:
        places = ("engine.decide", "orchestrator.transition", "orchestrator.controls")
        patches = [patch(f"noetl_serverless.{place}.reason_to_ignore", lenient) for place in places]
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for each in patches:
                each.stop()

    return everywhere()


# -- pauses


def leave_what_is_paused_to_be_claimed() -> Any:
    return patch.object(CommandTable, "pause", lambda self, id: None)


def hand_out_what_comes_back_in_a_pause() -> Any:
    def give_back(self: CommandTable, row: CommandRow) -> list[tuple[str, CommandKey]]:
        row.worker, row.lease_until, row.status = None, 0.0, row.waiting_status
        return [pending_pointer(row.row)]

    return patch.object(CommandTable, "_give_back", give_back)


def let_the_time_of_a_pause_count() -> Any:
    def as_before(state: Any, at: int) -> dict[str, int]:
        return {name: due for name, (due, _) in state.paused.timers.items() if state.has_timer(name)}

    return patch.object(pauses, "later_due_times", as_before)


def take_several_pauses_in_one_commit() -> Any:
    return patch.object(commits, "_pauses", lambda transition: False)


# -- compensation


def undo_in_the_order_in_which_it_was_done() -> Any:
    started = evolve.APPLY[e.COMPENSATION_STARTED]

    def forward(state: Any, event: Any) -> None:
        started(state, event)
        state.compensable = state.compensable[::-1]

    return patch.dict(evolve.APPLY, {e.COMPENSATION_STARTED: forward})


def undo_what_was_not_done() -> Any:
    return patch.object(compensation, "_has_effect", lambda output: True)


def forget_the_run_that_has_just_ended() -> Any:
    return patch.object(compensation, "_just_ended", lambda decision: [])


def undo_the_latest_run_alone() -> Any:
    compensated = vars(evolve)["_compensated"]

    def enough(state: Any, how: Any) -> None:
        compensated(state, how)
        state.compensable = ()

    return patch.object(evolve, "_compensated", enough)


# -- limits


def count_nothing() -> Any:
    return patch.object(Limits, "room", lambda self, row: (UNLIMITED, UNLIMITED))


def keep_the_slots_of_what_has_ended() -> Any:
    return patch.object(Limits, "leave", lambda self, execution_id: None)


# -- restarts and triggers


def begin_again_at_the_entry() -> Any:
    return patch.object(_Restarting, "_chosen", lambda self: [self.plan.entry])


def start_each_attempt_under_its_own_key() -> Any:
    def key(self: DueEvent) -> str:
        return f"trigger:{self.trigger_id}:{self.event_id}:{self.attempts}"

    return patch.object(DueEvent, "idempotency_key", property(key))


def never_attempt_an_event_again() -> Any:
    async def nothing(self: TriggerStarts, limit: int) -> int:
        return 0

    return patch.object(TriggerStarts, "start_due", nothing)


# the beginning of the name of the recipe that shows it
CONTROL_MUTANTS: dict[Mutant, str] = {
    lose_a_signal_that_comes_before_its_wait: "signals",
    let_a_signal_end_each_wait_for_it: "signals",
    take_a_signal_as_often_as_it_is_sent: "signals",
    leave_what_is_paused_to_be_claimed: "signals",
    hand_out_what_comes_back_in_a_pause: "what_is_done",
    let_the_time_of_a_pause_count: "times",
    take_several_pauses_in_one_commit: "",
    undo_in_the_order_in_which_it_was_done: "what_is_done_is",
    undo_what_was_not_done: "what_is_done_is",
    forget_the_run_that_has_just_ended: "what_is_done_is",
    undo_the_latest_run_alone: "what_is_done_is",
    count_nothing: "",
    keep_the_slots_of_what_has_ended: "",
    begin_again_at_the_entry: "a_step_is_mended",
    start_each_attempt_under_its_own_key: "webhooks",
    never_attempt_an_event_again: "webhooks",
}
