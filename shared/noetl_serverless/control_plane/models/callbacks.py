"""Callback URLs: what they are about, and answers to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from ...protocol import StorableText
from . import AnswerModel, RequestModel


class NameCallback(RequestModel):
    token: StorableText = Field(max_length=8000, repr=False, description="The last part of the URL.")


class AnswerCallback(NameCallback):
    data: Any = Field(
        default=None, description="Data of the signal. For an approval: {approved: true or false, comment}."
    )


class CallbackAnswer(AnswerModel):
    execution_id: str
    signal: str
    approval: bool = Field(description="Whether the answer is a decision.")
    status: Literal["accepted", "duplicate"] = Field(
        description="duplicate: the same answer came before, and this one changed nothing."
    )
    answer: Any = Field(description="What has been answered.")
    answered_at: datetime | None


class CallbackDetails(AnswerModel):
    execution_id: str
    path: str = Field(description="Of the playbook.")
    version: int | None
    description: str | None = Field(description="`description` of the playbook's metadata.")
    step_descriptions: list[str] = Field(description="`desc` of the steps that wait for it.")
    signal: str
    approval: bool = Field(description="Whether the answer is a decision.")
    expires_at: datetime = Field(
        description="Until when it may be answered: the end of the URL or, if that is earlier, of the wait."
    )
    paused: bool = Field(description="Whether the execution is paused; an answer is then kept.")
    status: Literal["open", "answered"]
    answer: Any = Field(description="What has been answered, if it has been by this URL.")
    answered_at: datetime | None
