"""What the events of waits and signals change in the state."""

from __future__ import annotations

from ..limits import ANSWERED_APPROVALS, SIGNAL_IDS
from .events import Event
from .evolve_steps import is_stale, outcome_of, suspend
from .state import CALLBACK, Signal, State, Wait, split_token_key, takes


def wait_started(state: State, event: Event) -> None:
    payload = event.payload
    suspended = suspend(state, event, "parked")
    state.waits[payload["wait"]] = Wait(
        key=suspended.key,
        kind=suspended.kind,
        attempt=suspended.attempt,
        frame=suspended.frame,
        resume=suspended.resume,
        signal=payload.get("signal"),
        approval=payload.get("approval", False),
        callback=payload.get("callback", False),
        fixed=payload.get("fixed", False),
        resumes=payload["resumes"],
    )


def signal_received(state: State, event: Event) -> None:
    """It is kept until a wait takes it."""
    payload = event.payload
    state.signals = (*state.signals, Signal(payload["signal"], payload.get("data"), payload.get("by")))
    id: str | None = payload.get("id")
    by = payload.get("by") or {}
    if id is None:
        return
    if by.get("kind") == CALLBACK:
        state.callback_ids = {**state.callback_ids, by["name"]: id}
    else:
        state.signal_ids = (*state.signal_ids[1 - SIGNAL_IDS :], id)


def wait_ended(state: State, event: Event) -> None:
    payload = event.payload
    wait = state.waits.pop(payload["wait"])
    take_signal(state, event, wait.approval)
    count_ended(state, wait)
    if wait.approval and (name := payload.get("signal")) is not None:
        note_answer(state, name, event)
    if not wait.resumes and not is_stale(state, event):
        state.outcomes[split_token_key(wait.key)[0]] = outcome_of(event)


def count_ended(state: State, *waits: Wait) -> None:
    """Callback URLs for them are over, however they have ended."""
    for wait in waits:
        if wait.callback and wait.signal is not None:
            state.ended_waits = {**state.ended_waits, wait.signal: state.ended_waits.get(wait.signal, 0) + 1}


def take_signal(state: State, event: Event, approval: bool) -> None:
    """The signal that has ended a wait, if one has, ends no other. `approval`: whether the wait was for one; then no
    decision is left that was sent before: it would decide on what nobody has seen."""
    if (name := event.payload.get("signal")) is None:
        return
    if approval:
        state.signals = tuple(signal for signal in state.signals if not takes(name, approval, signal))
    else:
        taken = next(index for index, signal in enumerate(state.signals) if takes(name, approval, signal))
        state.signals = state.signals[:taken] + state.signals[taken + 1 :]


def note_answer(state: State, name: str, event: Event) -> None:
    """When an approval was decided, and by whom, if that is known; of the last names only, since templates may give
    as many as they like."""
    by = event.payload["data"].get("by") or {}
    answer = {"at": event.at, **({"by": {"kind": by.get("kind"), "name": by.get("name")}} if by else {})}
    earlier = [(other, of) for other, of in state.answered.items() if other != name]
    state.answered = dict((*earlier[1 - ANSWERED_APPROVALS :], (name, answer)))
