"""A conformance file: a playbook as a user registers it, then `---`, then what is expected of it (see README.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FOLDER = Path(__file__).parent
# playbooks that others start, and tools that they call
CALLED = "called"
# what the language does not do yet
TO_COME = "to_come"
_SEPARATOR = "\n---\n"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExpectedFault(_Part):
    """What is said about a place of the playbook; `says` is a part of the message."""

    code: str
    line: int
    column: int
    says: str


class ExpectedError(_Part):
    """What an execution fails with: `line` is the task's or the template's, `says` a part of the message."""

    code: str
    step: str | None = None
    line: int | None = None
    says: str = ""


class Restarted(_Part):
    """From which step, by default from the one that failed, and with which changes of the workload."""

    step: str | None = Field(None, alias="from")
    payload: dict[str, Any] = {}


class Expected(_Part):
    """Either `refused`, or an execution: how it `ends`, its `events`, and values."""

    ends: Literal["completed", "failed", "cancelled"] | None = None
    refused: list[ExpectedFault] = []
    # of the linter, about a playbook that is accepted
    lint: list[ExpectedFault] = []

    # what it is started with
    payload: dict[str, Any] = {}
    # a step: once it has begun, the execution is cancelled, or the sub-playbook that the step has started
    cancelled_at: str = ""
    child_cancelled_at: str = ""
    # step -> {signal: data}: once its wait has begun, or the step if it has none, it is sent these signals
    signals_at: dict[str, dict[str, Any]] = {}
    # once it has failed, it is restarted: what is expected is what goes on with it
    restarted: Restarted | None = None
    # step -> {variable: value}: once its wait has begun, before the signals, users set these variables
    variables_at: dict[str, dict[str, Any]] = {}
    # of the last step; not compared if left out
    result: Any = None
    # expression, as in a template, -> its value at the end
    values: dict[str, Any] = {}
    error: ExpectedError | None = None
    # "code step" of an execution that completes
    warnings: list[str] = []
    # "type step", all of them in the order of the decisions
    events: list[str] = []
    # step -> its types; for steps that run at once
    events_by_step: dict[str, list[str]] = {}
    # "type step" -> how often
    counts: dict[str, int] = {}
    # seconds; a wait of more than five is a timer in the log
    longest_wait: float | None = None

    # why it does not pass yet, in to_come/ only
    waits_for: str = ""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if (self.ends is None) == (not self.refused):
            raise ValueError("either 'ends' or 'refused'")
        if self.ends is not None and bool(self.events) == bool(self.events_by_step):
            raise ValueError("either 'events' or 'events_by_step'")
        if (self.ends in ("failed", "cancelled")) != (self.error is not None):
            raise ValueError("'error' goes with ends: failed and ends: cancelled")
        return self


@dataclass(frozen=True)
class Case:
    path: Path

    @property
    def name(self) -> str:
        """`<group>/<behaviour>`."""
        return self.path.relative_to(FOLDER).with_suffix("").as_posix()

    @property
    def is_to_come(self) -> bool:
        return self.name.startswith(f"{TO_COME}/")

    @cached_property
    def _parts(self) -> tuple[str, str]:
        playbook, separator, expected = self.path.read_text().rpartition(_SEPARATOR)
        if not separator:
            raise ValueError(f"{self.path} has no line '---', behind which stands what is expected")
        return f"{playbook}\n", expected

    @property
    def playbook(self) -> str:
        """The text that is registered."""
        return self._parts[0]

    @cached_property
    def expected(self) -> Expected:
        try:
            return Expected.model_validate(yaml.safe_load(self._parts[1]))
        except (yaml.YAMLError, ValidationError) as error:
            raise ValueError(f"{self.path}: what is expected cannot be read: {error}") from None

    @property
    def catalog_path(self) -> str:
        return f"conformance/{self.name.removeprefix(f'{TO_COME}/')}"


def cases() -> list[Case]:
    return [Case(path) for path in _files() if path.parent.name != CALLED]


def called() -> list[str]:
    """The texts of the playbooks that others start, and of the tools that they call."""
    return [path.read_text() for path in _files() if path.parent.name == CALLED]


def _files() -> Iterator[Path]:
    yield from sorted(FOLDER.rglob("*.yaml"))
