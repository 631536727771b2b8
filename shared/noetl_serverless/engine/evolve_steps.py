"""What the events of steps and their commands change in the state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import events as e
from .budget import record_spent
from .events import Event
from .state import Command, State, Suspended, Token, split_token_key, token_key


def begin(state: State, step: str, generation: int, phase: Any) -> None:
    state.waiting.pop(step, None)
    state.generations[step] = generation
    state.tokens[token_key(step, generation)] = Token(step, generation, phase)


def issued(state: State, event: Event) -> None:
    assert event.step is not None and event.generation is not None and event.command_id is not None
    payload = event.payload
    kind = payload["kind"]
    key = token_key(event.step, event.generation)
    frame = tuple(payload["frame"]) if payload.get("frame") else None
    if kind == "frame":
        _take_frame(state, key, frame)  # type: ignore[arg-type]
    elif key in state.tokens:
        state.tokens[key] = replace(state.tokens[key], phase="running")
    else:
        begin(state, event.step, event.generation, "opening" if kind == "open" else "running")
    for source, name in ((state.timers, payload.get("timer")), (state.children, payload.get("child"))):
        if name is not None:
            source.pop(name, None)
    state.commands[event.command_id] = Command(key, kind, payload["attempt"], frame)


def _take_frame(state: State, key: str, frame: tuple[int, int, int, int]) -> None:
    loop = state.loops[key]
    index, start, end, _ = frame
    if index < loop.frames:
        return  # a suspended frame that is resumed
    if loop.returned and loop.returned[0][0] == start:
        rest = ((end, loop.returned[0][1]),) if end < loop.returned[0][1] else ()
        state.loops[key] = replace(loop, frames=index + 1, returned=rest + loop.returned[1:])
    else:
        state.loops[key] = replace(loop, frames=index + 1, next=end)


def finished(state: State, event: Event) -> None:
    command = state.commands.pop(event.command_id or "", None)
    if command is None:
        return
    record_spent(state, event)
    assign(state, event)
    if command.kind == "step" and event.step is not None and not is_stale(state, event):
        state.outcomes[event.step] = outcome_of(event)


def outcome_of(event: Event) -> dict[str, Any]:
    """The envelope that steps and arcs see, without what the log keeps only for readers."""
    payload = event.payload
    status = "error" if event.type == e.CALL_ERROR or payload.get("status") == "error" else "ok"
    outcome: dict[str, Any] = {"status": status}
    for name in ("data", "ref", "error"):
        if payload.get(name) is not None:
            outcome[name] = payload[name]
    return outcome


def assign(state: State, event: Event) -> None:
    """Apply what tasks have set. Of the items of a parallel loop the one with the highest index wins, whatever order
    they are reported in. Any other report wins over what was reported before it: of a sequential loop, whatever its
    SET_BY says, of no loop, or in a log of an earlier release, without SET_BY."""
    payload = event.payload
    values, refs = payload.get("set", {}), payload.get(e.SET_REFS, {})
    key = token_key(event.step or "", event.generation or 0)
    loop = state.loops.get(key)
    if (items := payload.get(e.SET_BY)) and not (loop is not None and loop.sequential):
        earlier = state.writers.get(key, {})
        last = {name: index for name, index in items.items() if index >= earlier.get(name, 0)}
        values = {name: value for name, value in values.items() if name in last}
        refs = {name: ref for name, ref in refs.items() if name in last}
        state.writers[key] = {**earlier, **last}
    state.assign(values, refs, event.at, event.step)


def deferred(state: State, event: Event) -> None:
    # the decision that follows sets the timer
    if event.command_id not in state.commands:
        return
    record_spent(state, event)
    assign(state, event)


def timer_set(state: State, event: Event) -> None:
    if state.paused is not None:
        state.paused = state.paused.with_timer(event.payload["timer"], event.payload["due"], event.at)
    if event.payload["timer"] in state.waits:
        return
    if event.command_id is None:
        key = token_key(event.step or "", event.generation or 0)
        suspended = Suspended(key=key, kind="deadline", attempt=0, frame=None, resume=None)
    else:
        suspended = suspend(state, event, "delayed")
    state.timers[event.payload["timer"]] = suspended


def timer_fired(state: State, event: Event) -> None:
    """The decision that follows ends what other timers belong to, and them with it."""
    if event.payload["timer"] == e.DEADLINE:
        state.timers.pop(e.DEADLINE, None)


def child_started(state: State, event: Event) -> None:
    state.children[event.payload["execution_id"]] = suspend(state, event, "parked")


def child_ended(state: State, event: Event) -> None:
    suspended = state.children.get(event.payload["execution_id"])
    if suspended is None or event.payload.get("resumes", True):
        return
    del state.children[event.payload["execution_id"]]
    if not is_stale(state, event):
        state.outcomes[split_token_key(suspended.key)[0]] = outcome_of(event)


def suspend(state: State, event: Event, phase: Any) -> Suspended:
    command = state.commands.pop(event.command_id or "")
    if command.kind != "frame":
        state.tokens[command.key] = replace(state.tokens[command.key], phase=phase)
    return Suspended(
        key=command.key,
        kind=command.kind,
        attempt=command.attempt,
        frame=command.frame,
        resume=event.payload.get("resume"),
        return_step=event.payload.get("return_step"),
    )


def step_skipped(state: State, event: Event) -> None:
    assert event.step is not None
    state.waiting.pop(event.step, None)
    state.outcomes[event.step] = {"status": "skipped"}
    if event.generation is not None:
        state.generations[event.step] = event.generation
        state.reused.pop(token_key(event.step, event.generation), None)


def is_stale(state: State, event: Event) -> bool:
    """Whether a later run of its step has already ended: of two runs under way, the older one may end last."""
    latest = state.generations.get(event.step or "", 0)
    return (event.generation or 0) < latest and token_key(event.step or "", latest) not in state.tokens
