"""A worker's report as a fact of the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .. import limits
from ..engine import events as e
from ..engine.error import bounded
from ..engine.events import Event
from ..engine.limits import size_of
from ..engine.state import Command, split_token_key
from ..engine.variables import PREFIX
from ..errors import InvalidRequest
from ..playbook.values import InvalidValue, stored
from ..protocol import ChildRequest, Outcome, WaitRequest
from .reference import executions_of

KINDS = {"done": e.CALL_DONE, "error": e.CALL_ERROR, "deferred": e.CALL_DEFERRED, "parked": e.CALL_PARKED}

# replaces a payload that is by reference: a release that does not know references would start the child without a
# payload, and refuses this one, because `ctx` is not an object
PAYLOAD_PLACEHOLDER: Final = {"ctx": "by reference"}


def fact_of(outcome: Outcome, command: Command, at: int, worker: str) -> Event:
    """The fact, without a seq; raises InvalidRequest for an outcome that does not fit its command, cannot be stored or
    is too large."""
    step, generation = split_token_key(command.key)
    payload = _content(outcome, command)
    payload.update(_set(outcome))
    if outcome.parts:
        payload[e.PARTS] = _parts(outcome)
    if command.frame is not None:
        payload.update(_set_by(outcome, command.frame, payload))
    if outcome.extra:
        payload["extra"] = _part("extra", outcome.extra, limits.EXTRA_BYTES)
    meta = _part("meta", outcome.meta, limits.META_BYTES)
    payload["meta"] = {**meta, "worker": worker, "fence": outcome.fence}
    kind = KINDS[outcome.status]
    if command.kind == "frame" and kind in (e.CALL_DONE, e.CALL_ERROR):
        kind = e.FRAME_COMMITTED
    return Event(
        kind,
        at,
        step=step,
        generation=generation,
        command_id=outcome.command_id,
        payload=payload,
    )


def references(fact: Event) -> list[dict[str, Any]]:
    """The rows of `result_ref` for the results that the fact refers to, which have just been stored."""
    return list({ref["key"]: _row(fact, ref) for ref in e.references_in(fact.payload)}.values())


def _row(fact: Event, ref: Mapping[str, Any]) -> dict[str, Any]:
    meta = ref.get("meta", {})
    return {
        "ref": ref["ref"],
        "step": e.step_of(fact.step, ref),
        "store": ref["store"],
        "key": ref["key"],
        "bytes": meta.get("bytes", 0),
        "sha256": meta.get("sha256", ""),
        "content_type": meta.get("content_type", "application/json"),
        "scope": ref.get("scope", "execution"),
        "expires_at": ref.get("expires_at"),
    }


def _content(outcome: Outcome, command: Command) -> dict[str, Any]:
    match outcome.status:
        case "deferred":
            if outcome.delay is None:
                raise InvalidRequest("a deferred outcome needs `delay`, in seconds")
            if not 0 <= outcome.delay <= limits.DELAY_SECONDS:
                raise InvalidRequest(f"`delay` must be between 0 and {limits.DELAY_SECONDS} seconds")
            return {"delay": outcome.delay, **_resume(outcome)}
        case "parked":
            if outcome.wait is not None and outcome.child is None:
                return {"wait": _wait(outcome.wait), **_resume(outcome)}
            if outcome.child is None or outcome.wait is not None:
                raise InvalidRequest("a parked outcome needs either `child` or `wait`")
            return {"child": _child(outcome.child), **_resume(outcome)}
    payload = _data(outcome)
    if outcome.status == "error":
        payload["error"] = _error(outcome.error or {"kind": "tool", "code": "tool.failed", "message": "failed"})
    if command.kind == "frame":
        payload.update(_frame(outcome, command, payload))
    elif command.kind == "open" and outcome.status == "done":
        if outcome.count is None:
            raise InvalidRequest("the outcome of an `open` command needs `count`")
        payload["count"] = outcome.count
    return payload


def _child(request: ChildRequest) -> dict[str, Any]:
    child = request.model_dump(exclude={"payload_ref", *(("timeout",) if request.timeout is None else ())})
    if request.payload_ref is None:
        # a worker of the previous release sends it whole
        child["payload"] = _part("child.payload", child["payload"], limits.WORKLOAD_BYTES)
        return child
    if request.payload:
        raise InvalidRequest("`child` must have either `payload` or `payload_ref`")
    return {
        **child,
        "payload": PAYLOAD_PLACEHOLDER,
        "payload_ref": _part("child.payload_ref", request.payload_ref, limits.INLINE_BYTES),
    }


def _wait(request: WaitRequest) -> dict[str, Any]:
    given = [name for name in ("due", "delay", "signal") if getattr(request, name) is not None]
    if len(given) != 1:
        raise InvalidRequest("`wait` needs one of `due`, `delay` and `signal`")
    if max(request.delay or 0, request.timeout or 0) > limits.DELAY_SECONDS:
        raise InvalidRequest(f"a wait may take at most {limits.DELAY_SECONDS} seconds")
    return request.model_dump(exclude_defaults=True)


def _data(outcome: Outcome) -> dict[str, Any]:
    if outcome.ref is not None:
        executions_of(outcome.ref)
        return {"ref": _part("ref", outcome.ref, limits.INLINE_BYTES)}
    if outcome.data is None:
        return {}
    data = _stored("data", outcome.data)
    return {"data": data, "bytes": _sized("a result", data, limits.INLINE_BYTES)}


def _stored(part: str, value: Any) -> Any:
    """Raises InvalidRequest for what is outside the domain of values."""
    try:
        return stored(value)
    except InvalidValue as error:
        error.path.insert(0, part)
        raise InvalidRequest(f"the outcome cannot be stored: {error}") from None


def _part(part: str, value: Any, limit: int) -> Any:
    kept = _stored(part, value)
    _sized(f"`{part}`", kept, limit)
    return kept


def _sized(what: str, value: Any, limit: int) -> int:
    """In bytes of JSON; raises InvalidRequest above the limit."""
    size = size_of(value)
    if size > limit:
        raise InvalidRequest(
            f"{what} of {size} bytes is above the inline limit of {limit}: store it and report a reference"
        )
    return size


def _set(outcome: Outcome) -> dict[str, Any]:
    """`set` and `set_refs`, without those that are empty."""
    if not outcome.set and not outcome.set_refs:
        return {}
    kept: dict[str, Any] = _stored("set", outcome.set)
    refs: dict[str, Any] = _stored(e.SET_REFS, outcome.set_refs)
    if duplicates := kept.keys() & refs.keys():
        raise InvalidRequest(f"`set.{min(duplicates)}` is given both as a value and by reference")
    for name, ref in refs.items():
        if name.startswith(PREFIX):
            raise InvalidRequest(f"`set_refs.{name}`: a variable cannot be set by reference")
        executions_of(ref)
    both = {**kept, **refs}
    for name, value in both.items():
        _sized(f"`set.{name}`", value, limits.SET_VALUE_BYTES)
    _sized("`set`", both, limits.SET_BYTES)
    return {name: part for name, part in (("set", kept), (e.SET_REFS, refs)) if part}


def _parts(outcome: Outcome) -> list[dict[str, Any]]:
    for ref in outcome.parts:
        if executions_of(ref) != {outcome.execution_id} or e.PART_OF not in ref:
            raise InvalidRequest("`parts` must name parts of what this execution has accumulated")
    parts: list[dict[str, Any]] = _part(e.PARTS, outcome.parts, limits.INLINE_BYTES)
    return parts


def _set_by(outcome: Outcome, frame: tuple[int, int, int, int], payload: Mapping[str, Any]) -> dict[str, Any]:
    """`set_by`. Of a worker that does not say, all was set by the last item that it reports of."""
    names = [name for part in ("set", e.SET_REFS) for name in payload.get(part, ())]
    _, start, end, _ = frame
    if outcome.set_by is None:
        end = outcome.frame.end if outcome.frame is not None else end
        return {e.SET_BY: dict.fromkeys(names, max(start, end - 1))} if names else {}
    if not outcome.set_by:
        return {}
    if outcome.set_by.keys() != set(names) or not all(start <= index < end for index in outcome.set_by.values()):
        raise InvalidRequest(f"`set_by` must give an item from {start} to {end - 1} for each key that is set")
    return {e.SET_BY: outcome.set_by}


def _resume(outcome: Outcome) -> dict[str, Any]:
    return {} if outcome.resume is None else {"resume": _part("resume", outcome.resume, limits.RESUME_BYTES)}


def _error(error: dict[str, Any]) -> dict[str, Any]:
    return bounded(_stored("error", error))


def _frame(outcome: Outcome, command: Command, payload: dict[str, Any]) -> dict[str, Any]:
    assert command.frame is not None
    _, start, end, _ = command.frame
    frame = outcome.frame
    if frame is None:
        # no outcome of the items was reported, as when the command becomes a dead letter: every item failed
        return {"start": start, "end": end, "ok": 0, "failed": end - start, "data": [None] * (end - start)}
    covered = frame.start == start and start <= frame.end <= end and frame.ok + frame.failed == frame.end - start
    if not covered or not all(start <= int(index) < frame.end for index in frame.errors):
        raise InvalidRequest(f"the frame's outcome does not cover its items {start} to {end}")
    counts: dict[str, Any] = {"start": start, "end": frame.end, "ok": frame.ok, "failed": frame.failed}
    if "bytes" in payload:
        # each item with its comma, without the brackets, so that the sum over a loop does not depend on its frames
        counts["bytes"] = payload["bytes"] - 1
    if frame.drained:
        counts["drained"] = True
    if frame.item_ms:
        counts["item_ms"] = round(frame.item_ms, 3)
    if frame.digest is not None and outcome.ref is not None:
        counts["digest"] = frame.digest
    if frame.errors:
        counts["errors"] = {index: _error(error) for index, error in frame.errors.items()}
        _sized("`frame.errors`", counts["errors"], limits.INLINE_BYTES * 2)
        index = min(frame.errors, key=int)
        counts.setdefault("error", {**counts["errors"][index], "index": int(index)})
    if frame.failed and "error" not in counts and "error" not in payload:
        counts["error"] = {"kind": "loop", "code": "loop.item_failed", "message": "an item failed"}
    return counts
