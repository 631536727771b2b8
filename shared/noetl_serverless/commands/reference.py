"""References that workers report: their form, and the executions that they point into.

What a reference names is read for users, put into capsules and deleted when it has expired.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ..errors import InvalidRequest
from ..uri import ResultUri

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|\+00:00)")


# the database stores ids in 63 bits
_IDS = 1 << 63


def _uri(text: str) -> str:
    if not _is_id(ResultUri.parse(text).execution_id):
        raise ValueError("the URI has no id of an execution")
    return text


def _is_id(text: str) -> bool:
    return re.fullmatch("[0-9]{1,19}", text) is not None and int(text) < _IDS


def _key(text: str) -> str:
    """`<execution>/...`, as `results.reference.storage_key` makes it."""
    parts = text.split("/")
    if not _is_id(parts[0]) or len(parts) < 2 or not set(parts).isdisjoint(("", ".", "..")):
        raise ValueError("not a key of an execution")
    return text


def _instant(text: str) -> str:
    if not _INSTANT.fullmatch(text):
        raise ValueError("not a time in UTC")
    datetime.fromisoformat(text)
    return text


Text = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]


class _Meta(BaseModel):
    model_config = ConfigDict(strict=True)

    bytes: int = Field(default=0, ge=0, lt=1 << 63)
    sha256: str = Field(default="", pattern=r"^[0-9a-f]{0,64}$")
    content_type: Text = "application/json"


class _Reference(BaseModel):
    model_config = ConfigDict(strict=True)

    kind: Literal["result_ref", "temp_ref", "manifest", "accumulated"] = "result_ref"
    ref: Annotated[str, AfterValidator(_uri)]
    store: Text
    # a manifest has none
    key: Annotated[Text, AfterValidator(_key)] = ""
    scope: Literal["step", "execution", "workflow", "permanent"] = "execution"
    expires_at: Annotated[str, AfterValidator(_instant)] | None = None
    meta: _Meta = _Meta()
    extracted: dict[str, Any] = {}


def executions_of(ref: Mapping[str, Any]) -> set[str]:
    """The executions that a reference points into; raises InvalidRequest if it is not a valid reference."""
    try:
        found = _Reference.model_validate(ref)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequest(
            f"`ref` is not a valid reference: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None
    named = [ResultUri.parse(found.ref).execution_id, found.key.partition("/")[0]]
    return {execution_id for execution_id in named if execution_id}
