"""Loops: how one begins, is filled with frames up to its width, and ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..limits import DEFAULT_IN_FLIGHT, FRAMES_BYTES, IN_FLIGHT, INLINE_BYTES, LOOP_ITEMS
from ..playbook.plan import Cursor, Loop, Step
from ..playbook.template import NeedsFetch, Template, TemplateError
from . import events as e
from .compensation import is_stopping
from .decision import Decision
from .evolve_loops import claimed, loop_outcome, unopened
from .frames import may_claim, next_claim, next_frame, next_items, width_of
from .ids import command_id
from .limits import size_of
from .state import Loop as Opened
from .state import State, token_key

# the error of a loop that ends because its execution fails
STOPPED = {"kind": "loop", "code": "step.stopped", "message": "the execution fails", "retryable": False}
# the name of the event that the arcs of a failed loop see
FAILED = "loop.failed"


def begin(decision: Decision, step: Step, loop: Loop, generation: int) -> None:
    """Open the loop, or have a worker render a collection that is large or needs a stored result. A loop that goes on
    with that of another execution has its collection."""
    if loop.cursor is not None:
        open_with(decision, step, generation, 0, {"cursor": _claims(loop.cursor)})
        return
    if (reused := decision.state.reused.get(token_key(step.name, generation))) is not None:
        open_with(decision, step, generation, reused["count"], reused["items"])
        return
    try:
        items = collection(loop.items.render(decision.scope()))
    except NeedsFetch:
        items = None
    except (TemplateError, TypeError) as error:
        end(decision, step, generation, _loop_error(error, loop.items, "loop.not_iterable"))
        return
    # a collection that is large as JSON is rendered and stored by a worker
    if items is None or len(items) > INLINE_BYTES or size_of(items) > INLINE_BYTES:
        decision.issue(step, generation, "open")
    else:
        open_with(decision, step, generation, len(items), {"data": items})


def open_with(decision: Decision, step: Step, generation: int, count: int, items: dict[str, Any]) -> None:
    """`items`: {"data": list} or {"ref": where they are stored}."""
    assert step.loop is not None
    try:
        if count > LOOP_ITEMS:
            raise ValueError(f"a loop can have at most {LOOP_ITEMS} items, not {count}")
        width = _width(decision, step.loop, count)
    except (TemplateError, TypeError, ValueError) as error:
        end(decision, step, generation, _loop_error(error, step.loop.max_in_flight, "loop.invalid"))
        return
    # what items have set that another execution has done is nothing that those beside them see
    reused = decision.state.reused.get(token_key(step.name, generation), {})
    scope = decision.bounded_slice_of(step, reused.get("before"))
    if scope is None:
        return
    decision.emit(
        e.LOOP_OPENED,
        {
            "count": count,
            "mode": step.loop.mode,
            "max_in_flight": width,
            "best_effort": step.loop.best_effort,
            "single": step.runs_items_singly,
            "scope": scope if _shares_ctx(step, step.loop, scope) else {"steps": scope["steps"]},
            **items,
        },
        step=step.name,
        generation=generation,
    )
    issue_frames(decision, step, generation)


def _shares_ctx(step: Step, loop: Loop, scope: dict[str, Any]) -> bool:
    """Whether all frames see ctx as it is now. In a parallel loop, items see nothing of what others set, which would be
    a matter of chance; in a sequential one each sees what those before it have set. Variables may change at any
    time."""
    if step.reads.get("vars") or "vars" in scope:
        return loop.mode != "sequential"
    return bool(scope["ctx"]) if step.ctx_is_stable else loop.mode != "sequential"


def _claims(cursor: Cursor) -> dict[str, int]:
    return {"rows": cursor.max_rows, "frames": cursor.max_frames}


def _width(decision: Decision, loop: Loop, count: int) -> int:
    """Raises ValueError if it is no number from 1 to IN_FLIGHT; of a loop without items, it may also be 0, as where it
    is the number of items."""
    given = loop.max_in_flight
    value = given.render(decision.scope()) if isinstance(given, Template) else given
    if value is None:
        return DEFAULT_IN_FLIGHT
    try:
        width: int | None = int(value)
    except (TypeError, ValueError, OverflowError):
        width = None
    if width is None or isinstance(value, bool) or (isinstance(value, float) and width != value):
        raise ValueError(f"max_in_flight must be an integer, not {value!r:.100}")
    if width > IN_FLIGHT or width < min(1, count):
        raise ValueError(f"max_in_flight must be from 1 to {IN_FLIGHT}, not {width!s:.100}")
    return max(1, min(width, loop.limit or width))


def issue_frames(decision: Decision, step: Step, generation: int) -> None:
    """Issue frames up to the loop's width; end the loop when its last frame has been reported."""
    key = token_key(step.name, generation)
    token = decision.state.tokens.get(key)
    ctx_is_shared = token is not None and token.phase == "sharing"
    loop, cursor = decision.state.loops[key], decision.state.cursors.get(key)
    goes_on = next_items(loop) is not None if cursor is None else may_claim(loop, cursor)
    stops = is_stopping(decision.state, step)
    if stops or not goes_on:
        # without looking at each open frame: there may be thousands, and this is asked when each of them is reported
        if next(_open_frames(decision.state, key), None) is None:
            end(decision, step, generation, STOPPED if stops else _loop_failure(decision.state, key))
        return
    open_frames = list(_open_frames(decision.state, key))
    in_flight = sum(map(width_of, open_frames))
    # the same for all frames that follow from one fact
    scope_and_size: tuple[dict[str, Any], int] | None = ({}, 0) if ctx_is_shared else None
    limits: dict[str, Any] | None = None
    may_retry, local = step.may_retry, step.loop is not None and step.loop.exec == "local"

    def following() -> tuple[int, int, int, int] | None:
        loop = decision.state.loops[key]
        if cursor is not None:
            return next_claim(loop, cursor, in_flight)
        return next_frame(loop, in_flight, may_retry=may_retry, local=local)

    while (frame := following()) is not None:
        if open_frames and decision.size.bytes > FRAMES_BYTES:
            # the next ones are issued when one has been reported
            break
        if not decision.affords(step.name):
            return
        scope_and_size = scope_and_size or _frame_scope(decision, step)
        if scope_and_size is None:
            return
        limits = decision.limits_of(step, step.name) if limits is None else limits
        if limits is None:
            return
        scope, size = scope_and_size
        decision.size.add_bytes(size, step.name)
        open_frames.append(frame)
        in_flight += width_of(frame)
        decision.emit(
            e.ISSUED,
            {
                "kind": "frame",
                "attempt": 1,
                "frame": list(frame),
                "scope": scope,
                **limits,
            },
            step=step.name,
            generation=generation,
            command=command_id(step.name, generation, frame[0]),
        )


def _frame_scope(decision: Decision, step: Step) -> tuple[dict[str, Any], int] | None:
    """The part of ctx that a frame carries, and its bytes; None if all that it reads is too large and the execution has
    failed."""
    found = decision.checked_slice_of(step)
    if found is None:
        return None
    scope = {name: found[0][name] for name in ("ctx", e.CTX_REFS, "vars") if name in found[0]}
    return scope, size_of(scope)


def _open_frames(state: State, key: str) -> Iterator[tuple[int, int, int, int]]:
    for outstanding in (state.commands, state.timers, state.children, state.waits):
        for item in outstanding.values():
            if item.key == key and item.frame is not None:
                yield item.frame


def _loop_failure(state: State, key: str) -> dict[str, Any] | None:
    loop, cursor = state.loops[key], state.cursors.get(key)
    if loop.error is not None and not loop.best_effort:
        return _item_failure(loop if cursor is None else claimed(loop), loop.error)
    if cursor is None or cursor.drained:
        return None
    message = f"there are rows left to claim after {loop.frames} claims: see cursor.options.max_iterations"
    return {"kind": "loop", "code": "loop.not_drained", "message": message, "retryable": False}


def _item_failure(loop: Opened, error: dict[str, Any]) -> dict[str, Any]:
    first = error.get("message", "failed")
    what = f"{loop.failed} of {loop.count} items failed; the first" if loop.failed else "items could not be claimed"
    return {
        "kind": "loop",
        "code": "loop.item_failed" if loop.failed else "loop.claim_failed",
        "message": f"{what}: {first}",
        "retryable": False,
        "item": error,
    }


def end(decision: Decision, step: Step, generation: int, error: dict[str, Any] | None) -> None:
    """End the loop with `error`, or with success if there is none."""
    status = "error" if error else "ok"
    payload: dict[str, Any] = {"status": status, **({"error": error} if error else {})}
    key = token_key(step.name, generation)
    loop = decision.state.loops.get(key) or unopened(decision.state, key)
    if loop is not None and key in decision.state.cursors:
        loop = claimed(loop)
    if loop is not None:
        payload["stats"] = loop.stats
    decision.emit(e.LOOP_DONE, payload, step=step.name, generation=generation)
    # not the step's outcome in the state, which may be that of a later run
    outcome = loop_outcome(decision.state.execution_id, key, payload, loop)
    decision.finish(step, generation, {**outcome, "meta": {}}, FAILED if error else e.LOOP_DONE)


def done_before(decision: Decision, step: Step, generation: int) -> dict[str, Any]:
    """What is to be undone of a loop that another execution has begun and that does not go on: {"data" | "ref"}."""
    key = token_key(step.name, generation)
    loop = unopened(decision.state, key) if step.compensation is not None else None
    return {} if loop is None else loop_outcome(decision.state.execution_id, key, {"status": "skipped"}, loop)


def collection(value: Any) -> list[Any]:
    """A loop's items: a list as it is, no item for None, one item for an object; raises TypeError for anything else."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value
    raise TypeError(f"loop.in must give a list, not {type(value).__name__} ({str(value)[:80]!r})")


def _loop_error(error: Exception, source: Any, code: str) -> dict[str, Any]:
    if isinstance(error, TemplateError):
        return error.to_dict()
    template = source.source if isinstance(source, Template) else str(source)
    return {
        "kind": "loop",
        "code": code,
        "message": str(error),
        "template": template,
        "retryable": False,
    }
