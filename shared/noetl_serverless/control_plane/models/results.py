from __future__ import annotations

from pydantic import Field

from ...protocol import StorableText
from . import AnswerModel, RequestModel

# in base64 this still fits into the answer of a function
MAX_PART_BYTES = 3 * 1024 * 1024


class PartQuery(RequestModel):
    offset: int = Field(default=0, ge=0)
    limit: int = Field(default=MAX_PART_BYTES, ge=1, le=MAX_PART_BYTES)


class ResultDataQuery(PartQuery):
    key: StorableText = Field(
        min_length=1, max_length=1000, description="Key of the result, as in a reference or a recording."
    )


class ResultData(AnswerModel):
    key: str
    bytes: int = Field(description="Size of the whole result.")
    offset: int
    data: str = Field(description="This part of the data, in base64.")


class EventPayload(AnswerModel):
    seq: int
    bytes: int = Field(description="Size of the whole payload as JSON.")
    offset: int
    data: str = Field(description="This part of the data, in base64.")
