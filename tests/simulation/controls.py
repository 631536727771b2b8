"""What users do to executions that they have started, and events that others send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Verb = Literal["pause", "resume", "signal"]


@dataclass(frozen=True, slots=True)
class Control:
    """`at`: seconds after the execution was started. Of two signals with one key, one is taken."""

    at: float
    verb: Verb
    signal: str = ""
    data: Any = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A signed webhook, sent several times at once; `starts`: whether it is to start an execution."""

    at: float
    trigger: str
    id: str
    data: Any
    times: int = 3
    starts: bool = True
