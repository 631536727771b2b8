"""What an execution did according to its log, one entry for each run of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..engine.state import token_key
from .quarantine_periods import EXIT_EVENTS

STATUS = {e.COMPLETED: "completed", e.FAILED: "failed", e.CANCELLED: "cancelled"}


@dataclass(slots=True)
class StepRun:
    """One run of a step. `scope` is the part of ctx and of earlier outcomes that its tools were given."""

    step: str
    generation: int
    after: list[str] = field(default_factory=list)
    scope: dict[str, Any] = field(default_factory=dict)
    loop: dict[str, Any] | None = None
    skipped: bool = False
    route: dict[str, Any] | None = None
    # of a step that another execution has done: {execution_id, seq} of the event that gave it its outcome
    reused: dict[str, Any] | None = None

    @property
    def set(self) -> dict[str, Any]:
        """What it set when it ended."""
        return whole(self.route or {}, "set", e.SET_REFS)

    @property
    def ctx(self) -> dict[str, Any]:
        return whole(self.scope, "ctx", e.CTX_REFS)

    @property
    def arcs(self) -> list[str]:
        return list((self.route or {}).get("arcs", ()))


@dataclass(slots=True)
class Trace:
    """Runs by `step#generation`, in the order in which they began."""

    runs: dict[str, StepRun] = field(default_factory=dict)
    # running, completed, failed, cancelled
    status: str = "running"
    error: dict[str, Any] | None = None
    result_step: str | None = None
    warnings: list[dict[str, Any]] = field(default_factory=list)
    # of an execution that could not be decided: the fact that was to be decided, as its last event holds it
    quarantined: dict[str, Any] | None = None
    # {at, by}: when it was dropped from quarantine, in ms, and by whom
    dropped: dict[str, Any] | None = None
    # {since, reason?, by?} while it is paused: since when, in ms, why, and by whom
    paused: dict[str, Any] | None = None


def whole(part: Mapping[str, Any], values: str, refs: str) -> dict[str, Any]:
    """The values and the references of `part` in one mapping; each reference is represented by its SHA-256."""
    references = {name: {"sha256": ref.get("meta", {}).get("sha256")} for name, ref in part.get(refs, {}).items()}
    return {**part.get(values, {}), **references}


def trace(log: Iterable[Event]) -> Trace:
    """The trace of events in logical order."""
    found = Trace()
    arrivals: dict[str, list[str]] = {}
    for event in log:
        if found.status != "running" and not (found.quarantined and event.type in EXIT_EVENTS):
            # what comes too late changes nothing
            continue
        for route in event.payload.get("routes", ()):
            _route(found, arrivals, route)
        _event(found, arrivals, event)
    return found


def _route(found: Trace, arrivals: dict[str, list[str]], route: dict[str, Any]) -> None:
    key = token_key(route["step"], route["generation"])
    run = found.runs.setdefault(key, StepRun(route["step"], route["generation"]))
    run.route = route
    for target in run.arcs:
        arrivals.setdefault(target, []).append(key)


def _event(found: Trace, arrivals: dict[str, list[str]], event: Event) -> None:
    payload = event.payload
    match event.type:
        case e.REUSED if event.generation is not None:
            run = _begin(found, arrivals, event)
            run.reused, run.skipped = payload["of"], payload["outcome"]["status"] == "skipped"
        case e.RESTARTED:
            reused = {run.step: key for key, run in found.runs.items()}
            for target, sources in payload["waiting"].items():
                arrivals[target] = [reused[source] for source in sources if source in reused]
        case e.ISSUED if payload["kind"] != "frame":
            run = _begin(found, arrivals, event)
            run.scope = run.scope or payload.get("scope", {})
        case e.ISSUED:
            run = _begin(found, arrivals, event)
            if "ctx" not in run.scope:
                run.scope = {**run.scope, **payload.get("scope", {})}
        case e.LOOP_OPENED:
            run = _begin(found, arrivals, event)
            run.loop = {name: payload[name] for name in ("count", "data", "ref") if name in payload}
            run.scope = {**run.scope, **payload.get("scope", {})}
        case e.LOOP_DONE:
            _begin(found, arrivals, event)
        case e.STEP_SKIPPED if event.generation is not None:
            _begin(found, arrivals, event).skipped = True
        case e.STEP_SKIPPED:
            arrivals.pop(event.step or "", None)
        case e.COMPLETED | e.FAILED | e.CANCELLED:
            found.status = STATUS[event.type]
            found.paused = None
            found.error = payload.get("error")
            found.result_step = payload.get("result_step")
            found.warnings = payload.get("warnings", [])
            found.quarantined = payload.get(e.QUARANTINED)
        case e.RETRIED:
            found.status, found.error, found.quarantined = "running", None, None
        case e.PAUSED if e.IGNORED not in payload:
            known = {name: payload[name] for name in ("reason", "by") if payload.get(name)}
            found.paused = {"since": event.at, **known}
        case e.RESUMED if e.IGNORED not in payload:
            found.paused = None
        case e.DROPPED:
            found.quarantined, found.dropped = None, {"at": event.at, "by": payload.get("by")}


def _begin(found: Trace, arrivals: dict[str, list[str]], event: Event) -> StepRun:
    step, generation = event.step or "", event.generation or 0
    key = token_key(step, generation)
    if key not in found.runs:
        found.runs[key] = StepRun(step, generation, arrivals.pop(step, []))
    return found.runs[key]
