"""Results that are so small that they are in the log alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from .content import content_headers, not_modified, with_accumulated
from .models.put_results import InlineResult
from .operation import Call

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Inline:
    """`content`: the result of a step, as JSON."""

    step: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def entry(self) -> InlineResult:
        return InlineResult(
            name=self.step,
            step=self.step,
            bytes=len(self.content),
            sha256=self.sha256,
            data=orjson.loads(self.content),
        )

    async def value(self) -> Any:
        return orjson.loads(self.content)


async def inline_response(call: Call, found: Inline, table: str | None, accumulated: Sequence[str] = ()) -> Response:
    """`accumulated`: the fields that were. Raises NotAcceptable and InvalidRequest."""
    from .converted import Given, converted

    sha256 = found.sha256
    given = Given(
        ref=found.step,
        title=found.step,
        content_type=JSON,
        bytes=len(found.content),
        sha256=sha256,
        load=found.value,
        accumulated=accumulated,
    )
    answer = await converted(call.request, given, table, streams=call.services.streams_answers)
    if answer is not None:
        return answer
    value = await found.value()
    fields = [name for name in accumulated if isinstance(value, dict) and name in value]
    headers = with_accumulated(content_headers(sha256, JSON, found.step), fields)
    headers = {**headers, "accept-ranges": "none"}
    return not_modified(call.request, headers) or Response(found.content, headers=headers)
