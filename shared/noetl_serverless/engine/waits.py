"""Waits: a step, or an item of a loop, that has given its worker back until a time, a signal, or an approval.

A signal without a wait is kept until one takes it. Each ends one wait: the first that began of those for its name. An
approval takes a decision only; what else was sent by its name stays kept.
"""

from __future__ import annotations

from typing import Any, Final

from . import events as e
from .decision import Decision
from .state import Signal, Wait, split_token_key

OF_SIGNAL: Final = ("signal", "approval", "timeout")
OF_ENDING: Final = ("status", "data", "error")
REJECTED: Final = "wait.rejected"


def begin(decision: Decision, request: dict[str, Any]) -> None:
    """`request`: {"due": ms}, {"delay": s}, or {"signal": name, "approval"?: true, "timeout"?: s}."""
    fact = decision.fact
    name = f"{fact.command_id}!{fact.seq}"
    due, seconds = request.get("due"), request.get("delay", request.get("timeout"))
    if due is None and seconds is not None:
        due = fact.at + round(seconds * 1000)
    payload: dict[str, Any] = {key: request[key] for key in OF_SIGNAL if key in request}
    if "due" in request:
        payload["fixed"] = True
    if "signal" in payload and _is_sent_by_url(decision, payload["signal"]):
        payload["callback"] = True
    payload |= {"wait": name, "resume": fact.payload.get("resume"), "resumes": decision.resumes()}
    command: dict[str, Any] = {"step": fact.step, "generation": fact.generation, "command": fact.command_id}
    decision.emit(e.WAIT_STARTED, payload, **command)
    if (kept := _kept(decision, name)) is not None:
        _end_by(decision, name, kept)
    elif due is not None and due <= fact.at and "signal" not in request:
        # no timer fires sooner than with the next tick of its clock
        _end(decision, name, {"status": "ok"})
    elif due is not None:
        decision.emit(e.TIMER_SET, {"timer": name, "due": due}, **command)


def _is_sent_by_url(decision: Decision, signal: str) -> bool:
    from ..playbook.callbacks import sends

    return sends(decision.plan, signal, decision.state.workload, decision.state.execution_id)


def signal_received(decision: Decision) -> None:
    """The state keeps the signal; if there is a wait for it, this ends."""
    wanted = decision.fact.payload["signal"]
    for name, wait in decision.state.waits.items():
        if wait.signal == wanted and (kept := _kept(decision, name)) is not None:
            _end_by(decision, name, kept)
            return


def _kept(decision: Decision, name: str) -> Signal | None:
    """The first signal that this wait takes, and that no other has taken."""
    wait = decision.state.waits[name]
    return next((signal for signal in decision.state.signals if wait.takes(signal)), None)


def time_out(decision: Decision, name: str) -> None:
    """The time of a wait has come: its end or, if it is for a signal, its failure."""
    wait = decision.state.waits[name]
    if wait.signal is None:
        _end(decision, name, {"status": "ok"})
        return
    what = "the approval" if wait.approval else "the signal"
    message = f"{what} '{wait.signal}' did not come in time: see within of the wait"
    _end(decision, name, {"status": "error", "error": _error(decision, wait, "wait.timeout", message)})


def _end_by(decision: Decision, name: str, signal: Signal) -> None:
    wait = decision.state.waits[name]
    ending: dict[str, Any] = {"status": "ok", "signal": signal.name}
    if signal.data is not None:
        ending["data"] = signal.data
    if wait.approval and signal.by is not None:
        # who decided is known here
        ending["data"] = {**signal.data, "by": signal.by}
    if wait.approval and (message := rejection(signal.name, signal.data)) is not None:
        ending |= {"status": "error", "error": _error(decision, wait, REJECTED, message)}
    _end(decision, name, ending)


def rejection(name: str, data: Any) -> str | None:
    """What to say of an answer to an approval that does not approve; None if it does."""
    given = data if isinstance(data, dict) else {}
    if given.get("approved") is True:
        return None
    comment = given.get("comment")
    return f"'{name}' was not approved" + (f": {comment}" if comment else "")


def _end(decision: Decision, name: str, ending: dict[str, Any]) -> None:
    wait = decision.state.waits[name]
    step, generation = split_token_key(wait.key)
    decision.emit(e.WAIT_ENDED, {"wait": name, **ending}, step=step, generation=generation)
    outcome: dict[str, Any] = {key: ending[key] for key in OF_ENDING if key in ending}
    if wait.resumes:
        decision.resume(wait, {**(wait.resume or {}), "child": outcome})
    else:
        event = e.CALL_DONE if ending["status"] == "ok" else e.CALL_ERROR
        decision.finish(decision.plan.steps[step], generation, {**outcome, "meta": {}}, event)


def _error(decision: Decision, wait: Wait, code: str, message: str) -> dict[str, Any]:
    """A worker that resumes adds the place by itself."""
    error = {"kind": "wait", "code": code, "message": message, "retryable": False}
    step = decision.plan.steps[split_token_key(wait.key)[0]]
    return error if wait.resumes else {**error, "at": step.tasks[0].place.line}
