"""An event as it is read: by itself, for those who have it from elsewhere need no database."""

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
    # of a payload that was not read, and is empty here
    payload_bytes: int | None = None
