"""Requests and answers about the versions of a path."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from . import AnswerModel, PlaybookPath, RequestModel
from .catalog import CatalogEntry, Version


class OfPath(RequestModel):
    path: PlaybookPath = Field(min_length=1)
    version: Version | None = Field(default=None, description="By default, all versions of the path.")


class Changed(AnswerModel):
    status: Literal["success"] = "success"
    message: str
    path: str
    versions: list[int] = Field(description="Those that were changed, in order; none if all were so already.")


class ListVersions(RequestModel):
    path: PlaybookPath = Field(min_length=1)
    include_deleted: bool = Field(default=False, description="List deleted versions, too.")
    limit: int = Field(default=100, ge=1, le=1000)
    before: Version | None = Field(default=None, description="List only versions with lower numbers.")


class CatalogVersions(AnswerModel):
    entries: list[CatalogEntry] = Field(description="The newest first, without their texts.")
    next: int | None = Field(default=None, description="Value of `before` for the next page; null on the last page.")


class CompareVersions(RequestModel):
    path: PlaybookPath = Field(min_length=1)
    base: Version = Field(description="The version that is compared with.")
    version: Version | None = Field(default=None, description="The version that is compared; by default, the newest.")


class PartChange(AnswerModel):
    """A value that differs; "(absent)" where there is none."""

    where: str
    before: Any
    after: Any


class StepChange(AnswerModel):
    step: str
    change: Literal["added", "removed", "changed"]
    parts: list[PartChange] = Field(default_factory=list, description="What of the step differs, if it was changed.")


class VersionDifference(AnswerModel):
    path: str
    kind: str
    base: int
    version: int
    text: str = Field(description="Difference of the texts in the unified format; empty if there is none.")
    steps: list[StepChange] | None = Field(
        description="For playbooks: the steps that differ. Null if one of the versions is of another kind, or does not "
        "compile with this release."
    )
