"""What names mean inside a template: outcomes of steps, the envelope of what just ended, and the scopes around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .template import ABSENT, Nothing, OutOfReach, View

Status = Literal["ok", "error", "skipped"]
NOTHING = Nothing()
EVENTS: Mapping[str, frozenset[str]] = {
    "call.done": frozenset({"call.done", "step.done"}),
    "call.error": frozenset({"call.error", "step.failed"}),
    "loop.done": frozenset({"loop.done", "call.done", "step.done"}),
    "loop.failed": frozenset({"loop.failed", "call.error", "step.failed"}),
    "step.skipped": frozenset({"step.skipped"}),
}
RESERVED = frozenset(
    {"workload", "ctx", "iter", "step", "loop", "event", "output", "error", "execution_id", "results", "keychain"}
    | {"_prev", "_task", "_attempt"}
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step, a task or an item ended. `extracted`: what can be read of data by reference without fetching it; None
    if the data are at hand. `set`: what rules wrote into ctx."""

    status: Status
    data: Any = None
    error: Mapping[str, Any] | None = None
    set: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    extracted: Mapping[str, Any] | None = None
    # of a loop: its data are {results, stats}
    of_loop: bool = False


class Counted(list[Any]):
    """A list of which only the length is at hand."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        raise OutOfReach("it is stored by reference")

    def __iter__(self) -> Iterator[Any]:
        raise OutOfReach("it is stored by reference")


class EventName(str):
    """Equal to each name that the language has for the event."""

    def __eq__(self, other: object) -> bool:
        return other in EVENTS[str.__str__(self)]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return str.__hash__(self)


class _Data(View):
    def __init__(self, outcome: Outcome, fetches: bool) -> None:
        self._outcome = outcome
        self._fetches = fetches

    def field(self, name: str) -> Any:
        extracted = self._outcome.extracted
        if extracted is not None and name in extracted:
            return extracted[name]
        data = _Data.whole(self)
        return data[name] if isinstance(data, Mapping) and name in data else ABSENT

    def whole(self) -> Any:
        if self._outcome.extracted is not None and not self._fetches:
            raise OutOfReach("it is stored by reference")
        return self._outcome.data


class StepResult(_Data):
    """A finished step: status, error, result, data, and the fields of its result. A loop is the list of its results,
    and its fields are results and stats."""

    def field(self, name: str) -> Any:
        if name == "status":
            return self._outcome.status
        if name == "error":
            return self._outcome.error or NOTHING
        if name == "result":
            return super().whole()
        found = super().field(name)
        return super().whole() if found is ABSENT and name == "data" else found

    def whole(self) -> Any:
        data = super().whole()
        return data["results"] if self._outcome.of_loop and data is not None else data


class Envelope(_Data):
    """`output`: of what just ended. A part that the tool did not give is null, and so is all in it."""

    def field(self, name: str) -> Any:
        if name == "status":
            return self._outcome.status
        if name == "data":
            if self._outcome.extracted is not None:
                return _Data(self._outcome, self._fetches)
            return NOTHING if self._outcome.data is None and self._outcome.status == "error" else self._outcome.data
        if name == "error":
            return self._outcome.error or NOTHING
        if name == "ref":
            return None if self._outcome.extracted is None else ABSENT
        if name in ("meta", "http", "pg", "py"):
            return self._outcome.extra.get(name) or NOTHING
        return ABSENT

    def whole(self) -> Any:
        return {"status": self._outcome.status, "data": super().whole(), "error": self._outcome.error}


def parted(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is set, in ctx and as variables, which have `vars.` before their names."""
    parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for name, value in values.items():
        parts[name.startswith("vars.")][name.removeprefix("vars.")] = value
    return parts


@dataclass(frozen=True, slots=True)
class Scope:
    """What an execution is as a template sees it, at one moment."""

    execution_id: str
    workload: Mapping[str, Any]
    ctx: Mapping[str, Any]
    outcomes: Mapping[str, Outcome]
    # entry -> its fields, as they are seen in what comes back
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)

    def names(self, *, fetches: bool, **more: Any) -> dict[str, Any]:
        """The nearer hides the farther: `more`, the iteration, steps, ctx, workload, and all of these the variables."""
        steps = {name: StepResult(outcome, fetches) for name, outcome in self.outcomes.items()}
        layers = {**self.workload, **self.ctx, **steps, **(more.get("iter") or {}), **(more.pop("labels", None) or {})}
        older: dict[str, Any] = {
            "vars": self.variables,
            "job": dict.fromkeys(("uuid", "id", "execution_id"), self.execution_id),
        }
        if (output := more.get("output")) is not None:
            older["result"] = output.field("data")
        free = {**older, **{name: value for name, value in layers.items() if name not in RESERVED}}
        own = {"workload": self.workload, "ctx": self.ctx, "execution_id": self.execution_id, "keychain": self.secrets}
        return {**free, **own, **{name: value for name, value in more.items() if value is not None}}

    def after(self, outcome: Outcome, *, fetches: bool, **more: Any) -> dict[str, Any]:
        """With the envelope of what just ended."""
        error = outcome.error or NOTHING
        return self.names(fetches=fetches, output=Envelope(outcome, fetches), error=error, **more)
