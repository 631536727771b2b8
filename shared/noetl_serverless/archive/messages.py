"""The messages between the worker that writes a batch and the control plane. Ids are decimal strings."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..protocol import ExecutionId, StorableText, WorkerId


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClaimBatch(Message):
    worker_id: WorkerId
    # seconds
    lease: float = Field(default=120.0, gt=0, le=3600)


class Batch(Message):
    """A batch whose files this attempt is to write."""

    archive_id: str
    attempt: int
    month: date
    first_id: str
    last_id: str
    executions: int
    events: int


class ClaimedBatch(Message):
    batch: Batch | None


class ExecutionsPage(Message):
    """In order, each the JSON of {"execution": row, "results": rows, "commands": rows}; an empty page is the end."""

    rows: list[tuple[str, str]]


# execution id, seq, cause, type, step, generation, command, instant in microseconds since 1970, payload as JSON
EventRow = tuple[str, int, int | None, str, str | None, int | None, str | None, int, str]


class EventsPage(Message):
    """Events in order of (execution, seq); an empty page is the end."""

    rows: list[EventRow]


class Extend(Message):
    attempt: int
    lease: float = Field(default=120.0, gt=0, le=3600)


class Extended(Message):
    held: bool


class File(Message):
    key: StorableText
    bytes: int
    sha256: StorableText
    rows: int


class Found(Message):
    """What the files hold of one execution: `blocks` [[first seq, offset, length]] of the log file."""

    execution_id: ExecutionId
    events: int
    blocks: list[tuple[int, int, int]]


class Register(Message):
    attempt: int
    files: dict[StorableText, File]
    executions: list[Found]


class Registered(Message):
    status: Literal["registered", "stale", "incomplete"]


class Fail(Message):
    attempt: int
    error: StorableText = Field(max_length=2000)


class Failed(Message):
    status: Literal["noted"] = "noted"


Row = dict[str, Any]
