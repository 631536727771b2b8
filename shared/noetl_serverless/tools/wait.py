"""kind: wait. Requests a wait; the engine continues when its time has come, or its signal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from ..limits import DELAY_SECONDS, LATEST_MS
from ..playbook.numbers import seconds
from ..protocol import SignalName, WaitRequest
from .config import ToolConfig
from .port import ToolCall, ToolContext, ToolFailure, ToolOutcome

ONE_OF: Final = ("until", "for", "signal", "approval")
_NEEDED: Final = f"a wait needs one of {', '.join(ONE_OF)}"
_INSTANT: Final = "give an instant such as 2027-01-31T09:00:00+01:00"


def _instant(value: Any) -> Any:
    """A text, or what a template gives; of a number it is not known what it counts, and from when."""
    if isinstance(value, int | float):
        raise ValueError(f"{_INSTANT}, not a number")
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(_INSTANT) from None


def _with_offset(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("the instant has no offset from UTC; add one, such as Z or +01:00")
    return value


def _in_range(value: datetime) -> datetime:
    if value.timestamp() * 1000 > LATEST_MS:
        raise ValueError("the instant lies after the year 8999; a wait for a signal has no end, either")
    return value


def _seconds(value: Any) -> Any:
    # true is no number of seconds
    return seconds(value) if isinstance(value, str | bool) else value


# a number of seconds, or a text with units
_TIME: Final = WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]})


class WaitConfig(ToolConfig):
    """One of `until`, `for`, `signal` and `approval`. No worker is held meanwhile. Result: the data of the signal."""

    until: (
        Annotated[datetime, BeforeValidator(_instant), AfterValidator(_with_offset), AfterValidator(_in_range)] | None
    ) = Field(
        default=None,
        description="An instant with its offset from UTC (RFC 3339); one in the past is over at once.",
    )
    duration: Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=DELAY_SECONDS), _TIME] | None = Field(
        default=None, alias="for", description="How long to wait, in seconds or with a unit: 90, 15m, 2h, 3d."
    )
    signal: SignalName | None = Field(
        default=None,
        description=(
            "Name of a signal that is sent to this execution. One that came before is kept, and ends the wait at once; "
            "each signal ends one wait."
        ),
    )
    approval: SignalName | None = Field(
        default=None,
        description=(
            "Name of a signal whose data is a decision: {approved: true or false, comment}. Without approval the task "
            "fails with wait.rejected."
        ),
    )

    within: Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=DELAY_SECONDS), _TIME] | None = Field(
        default=None,
        description=(
            "How long to wait for a signal or an approval, in seconds or with a unit; the task then fails with "
            "wait.timeout. Default: as long as the execution lasts."
        ),
    )

    @classmethod
    def missing(cls, config: Mapping[str, Any]) -> Iterable[str]:
        if not _given(config):
            nulls = [name for name in ONE_OF if name in config]
            is_null = f": '{nulls[0]}' is null" if nulls else ""
            yield f"{_NEEDED}{is_null}"

    @classmethod
    def conflicting(cls, config: Mapping[str, Any]) -> Iterable[str]:
        given = _given(config)
        if len(given) > 1:
            yield f"{_NEEDED}, not {' and '.join(given)}"
        elif "within" in config and given[0] in ("until", "for"):
            yield f"'within' is for a signal or an approval; '{given[0]}' says how long it waits"


def _given(config: Mapping[str, Any]) -> list[str]:
    return [name for name in ONE_OF if config.get(name) is not None]


class Wait:
    config: ClassVar[type[WaitConfig]] = WaitConfig

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        try:
            config = WaitConfig.of(call)
        except ToolFailure as failure:
            return failure.outcome()
        name = config.signal or config.approval
        if name is None:
            due = None if config.until is None else max(0, round(config.until.timestamp() * 1000))
            return ToolOutcome("ok", wait=WaitRequest(due=due, delay=config.duration))
        request = WaitRequest(signal=name, approval=config.approval is not None, timeout=config.within)
        return ToolOutcome("ok", wait=request)

    async def close(self) -> None:
        return None
