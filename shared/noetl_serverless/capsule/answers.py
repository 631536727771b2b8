"""The answers of the tools in a recorded execution, and the signals that have ended its waits, for a rerun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engine import events as e
from ..engine.events import Event
from ..engine.replay import logical_order
from ..playbook.views import COLLECTED
from ..testing.tools import CallPlace
from ..tools.port import ToolOutcome
from .recording import Recording
from .results import value_of

# keys that the engine has added to the error of a tool
ENGINE_KEYS = frozenset({"at", "failed_task", "attempts", "index", "step"})
# kinds of errors that come from rules, although the tool succeeded
RULE_ERROR_KINDS = frozenset({"rule"})

_LARGER = "rerun takes a file, too, into which noetls export --max-bytes puts larger ones"
_LEFT_OUT = {
    "too_large": f"it is too large for one; {_LARGER}",
    "gone": "it is not in its result store any more",
    "changed": "changed: its result store has other bytes than those that were written",
    "secret": "a secret is in it that cannot be masked there, or its content cannot be read",
}
# of files that do not say
_UNKNOWN = f"it is too large for one, or was deleted; {_LARGER}"


class NotRecorded(LookupError):
    """The recording has no answer; the message has the reason."""


@dataclass
class Answers:
    """The answers of one execution."""

    recording: Recording
    # (step, generation, item or None) -> what the command reported for it
    _recorded: dict[tuple[str, int, int | None], Mapping[str, Any]] = field(default_factory=dict)
    # signal -> the waits for it, in the order in which they began, and how each of these has ended
    _waits: dict[str, list[str]] = field(default_factory=dict)
    _endings: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    # by itself, so that no wait was left
    ended: bool = False

    def __post_init__(self) -> None:
        opening = {
            event.command_id
            for event in self.recording.events
            if event.type == e.ISSUED and event.payload["kind"] == "open"
        }
        for event in logical_order(self.recording.events):
            if event.type in (e.CALL_DONE, e.CALL_ERROR) and event.command_id not in opening:
                self._recorded[event.step or "", event.generation or 0, None] = event.payload
            elif event.type == e.FRAME_COMMITTED:
                self._take_frame(event)
            elif event.type == e.WAIT_STARTED and event.payload.get("signal") is not None:
                self._waits.setdefault(event.payload["signal"], []).append(event.payload["wait"])
            elif event.type == e.WAIT_ENDED:
                self._endings[event.payload["wait"]] = event.payload
            elif event.type in (e.COMPLETED, e.FAILED):
                self.ended = True

    def signal(self, name: str, number: int) -> Mapping[str, Any] | None:
        """What has ended wait `number` of those for the signal, if it was one: its `data`, if any."""
        waits = self._waits.get(name, ())
        ending = self._endings.get(waits[number], {}) if number < len(waits) else {}
        return ending if "signal" in ending else None

    def answer(self, call: CallPlace) -> ToolOutcome:
        """Raises NotRecorded."""
        recorded = self._recorded.get((call.step, call.generation, call.item))
        if recorded is None:
            raise NotRecorded("this call was not made in the recording, or had not ended")
        data, error, extra = self._data(recorded), recorded.get("error"), recorded.get("extra") or {}
        if isinstance(data, Mapping) and self._is_pipeline(call.step):
            return _of_task(call, data, error, extra)
        if error is None or error.get("kind") in RULE_ERROR_KINDS:
            return ToolOutcome("ok", data, extra=dict(extra))
        return ToolOutcome("error", data, _tool_error(error), dict(extra))

    def _is_pipeline(self, step: str) -> bool:
        plan_step = self.recording.plan.steps.get(step)
        return plan_step is not None and plan_step.is_pipeline

    def _take_frame(self, event: Event) -> None:
        payload, start = event.payload, event.payload["start"]
        ref = payload.get("ref")
        for index in range(start, payload["end"]):
            error = (payload.get("errors") or {}).get(str(index))
            item: dict[str, Any] = {"frame": (ref, index - start)} if ref is not None else {}
            if ref is None:
                item["data"] = (payload.get("data") or [])[index - start]
            if error is not None:
                item["error"] = error
            self._recorded[event.step or "", event.generation or 0, index] = item

    def _data(self, recorded: Mapping[str, Any]) -> Any:
        if "frame" in recorded:
            ref, index = recorded["frame"]
            return self._stored(ref)[index]
        ref = recorded.get("ref")
        return _copy(recorded.get("data")) if ref is None else self._stored(ref)

    def _stored(self, ref: Mapping[str, Any]) -> Any:
        result = self.recording.results.get(str(ref.get("key")))
        if result is None or result.content is None:
            size = "" if result is None else f", of {result.size} bytes"
            why = "gone" if result is None else result.left_out or ""
            raise NotRecorded(
                f"its answer, {ref.get('ref')}{size}, was left out of the recording: {_LEFT_OUT.get(why, _UNKNOWN)}"
            )
        try:
            content = value_of(result)
        except ValueError as error:
            raise NotRecorded(f"its answer, {ref.get('ref')}, cannot be read as it was recorded: {error}") from None
        # what was accumulated is no part of any task's answer
        return content["rest"] if COLLECTED in ref else content


def _of_task(
    call: CallPlace, data: Mapping[str, Any], error: Mapping[str, Any] | None, extra: Mapping[str, Any]
) -> ToolOutcome:
    """One task's part of the result of a pipeline."""
    results = data.get("results")
    if not isinstance(results, Mapping) or call.task not in results:
        raise NotRecorded(f"the recording has no answer for the task '{call.task}'")
    result = _copy(results[call.task])
    failed = error is not None and error.get("failed_task") == call.task and error.get("kind") not in RULE_ERROR_KINDS
    if failed and error is not None:
        return ToolOutcome("error", result, _tool_error(error), dict(extra))
    return ToolOutcome("ok", result)


def _tool_error(error: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in error.items() if key not in ENGINE_KEYS}


def _copy(value: Any) -> Any:
    """With the same tables, which nobody changes."""
    match value:
        case Mapping():
            return {name: _copy(item) for name, item in value.items()}
        case list():
            return [_copy(item) for item in value]
    return value
