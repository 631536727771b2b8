from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from pydantic import Field

from ...records import QuarantinedExecution
from . import AnswerModel, Id, RequestModel

# at most this many bytes of JSON are shown of each fact, and at most this many facts
PAYLOAD_BYTES = 4096
MAX_FACTS = 100


class ListQuarantine(RequestModel):
    after: Id = Field(default="0", description="List only executions with a higher id.")
    limit: int = Field(default=100, ge=1, le=100)


class QuarantineError(AnswerModel):
    code: str
    message: str
    place: str = Field(description="File, line and function of the engine that raised the error.")


class QuarantineEntry(AnswerModel):
    execution_id: str
    path: str
    version: int
    seq: int = Field(description="Seq of the event that ended the execution.")
    at: datetime
    error: QuarantineError
    fact_count: int = Field(description="Number of facts that are kept for a retry.")

    @classmethod
    def of(cls, row: QuarantinedExecution) -> QuarantineEntry:
        return cls(**entry_fields(row))


def entry_fields(row: QuarantinedExecution) -> dict[str, Any]:
    return {
        "execution_id": row.execution_id,
        "path": row.path,
        "version": row.version,
        "seq": row.seq,
        "at": row.at,
        "error": {name: row.error.get(name, "") for name in QuarantineError.model_fields},
        "fact_count": row.fact_count,
    }


class KeptFact(AnswerModel):
    type: str
    step: str | None
    generation: int | None
    command_id: str | None
    at: datetime
    payload: dict[str, Any] | None = Field(description=f"Payload; null if it has more than {PAYLOAD_BYTES} bytes.")
    payload_bytes: int
    beginning: str | None = Field(description="Beginning of the JSON text of a payload that is not shown.")

    @classmethod
    def of(cls, fact: dict[str, Any]) -> KeptFact:
        text = orjson.dumps(fact["payload"])
        fits = len(text) <= PAYLOAD_BYTES
        return cls(
            type=fact["type"],
            step=fact["step"],
            generation=fact["generation"],
            command_id=fact["command"],
            at=datetime.fromtimestamp(fact["at"] / 1000, UTC),
            payload=fact["payload"] if fits else None,
            payload_bytes=len(text),
            beginning=None if fits else text[:PAYLOAD_BYTES].decode(errors="ignore"),
        )


class QuarantineDetail(QuarantineEntry):
    facts: list[KeptFact] = Field(description=f"Facts that are kept for a retry, the first {MAX_FACTS}.")


class Retried(AnswerModel):
    execution_id: str
    status: Literal["RUNNING", "COMPLETED", "FAILED", "CANCELLED"] = Field(description="Current status.")
    quarantined: bool = Field(description="Whether it is in quarantine again.")


class Dropped(AnswerModel):
    status: Literal["dropped"] = "dropped"
    execution_id: str
