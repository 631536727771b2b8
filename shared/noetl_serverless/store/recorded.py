"""An event as it is read. In its own module, since readers of archived events need no database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event of a log."""

    execution_id: int
    seq: int
    cause: int | None
    type: str
    step: str | None
    generation: int | None
    command_id: str | None
    at: datetime
    payload: dict[str, Any]
    # the size of a payload that was left out: `payload` is then empty
    payload_bytes: int | None = None
