"""Control over a running execution: pauses and signals."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from ...protocol import StorableText
from . import AnswerModel, RequestModel


class Pause(RequestModel):
    reason: StorableText = Field(default="", max_length=2000, description="Kept in the log.")


class Resume(RequestModel):
    """Nothing: a resumption has no reason."""


class Paused(AnswerModel):
    execution_id: str
    status: Literal["paused", "already_paused", "resumed", "not_paused"]


class SendSignal(RequestModel):
    data: Any = Field(
        default=None,
        description="Result of the wait that the signal ends. For an approval only {approved: true or false, comment}; "
        "the wait's result has also `by`, who sent it.",
    )
    decision: bool = Field(
        default=False,
        description="Whether the data is sent as a decision on an approval: it is refused where the name is that of a "
        "signal.",
    )


class SignalSent(AnswerModel):
    execution_id: str
    signal: str
    status: Literal["accepted", "duplicate"] = Field(
        description="duplicate: one with the same Idempotency-Key came before, and this one changed nothing."
    )
    kept: bool = Field(description="Nothing waits for it yet: it is kept for the first wait that does.")
    waiting_for: list[str] = Field(
        description="If it is kept: the signals and approvals that the execution waits for, the first few."
    )
    advice: str | None = Field(
        default=None, description="If it is kept, and no step of the playbook waits for a signal of this name: says so."
    )
