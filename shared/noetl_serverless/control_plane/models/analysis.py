from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from . import AnswerModel, RequestModel
from .executions import EventEntry


class Analyze(RequestModel):
    max_events: int = Field(default=2000, ge=1, le=10_000, description="Events that are looked at, from the first on.")
    event_sample_size: int = Field(default=20, ge=0, le=200, description="Events that the answer shows, the latest.")
    include_playbook_content: bool = Field(default=False, description="Show the text of the playbook, too.")


class StepSummary(AnswerModel):
    step: str
    commands: int
    failed_attempts: int
    lost_leases: int
    run_ms: float = Field(description="Time that its commands ran.")
    queued_ms: int = Field(description="Longest time that one of them waited for a worker.")


class Summary(AnswerModel):
    execution_id: str
    path: str
    version: int | None
    status: Literal["RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
    start_time: datetime
    end_time: datetime | None
    duration_seconds: float | None
    duration_human: str | None
    progress: int
    error: Any
    events: int = Field(description="Number of events of its log.")
    events_analyzed: int
    complete: bool = Field(description="Whether all events were looked at.")
    steps: list[StepSummary]


class FindingEntry(AnswerModel):
    severity: Literal["error", "warning", "info"]
    code: str = Field(description="Code of an error, or what the finding is about: attempts, queued, slow, ...")
    step: str | None
    message: str


class AnalyzedPlaybook(AnswerModel):
    path: str
    version: int | None
    catalog_id: str | None
    steps: list[str]
    content: str | None = Field(description="Its text, if it was requested.")
    content_truncated: bool


class Analysis(AnswerModel):
    summary: Summary
    findings: list[FindingEntry] = Field(description="The worst first.")
    recommendations: list[str]
    cloud: dict[str, Any] = Field(
        description="What the analyzed events have used, and what that costs at the list prices of a cloud: an upper "
        "bound, as `noetls cost` computes it."
    )
    playbook: AnalyzedPlaybook
    event_sample: list[EventEntry] = Field(description="Latest events, newest first.")
    ai_prompt: str = Field(description="All of this as a text to give to a language model; none is called.")
