"""`ResultRef`: a small reference that takes the place of a large result."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ConfigDict, Field

from ..errors import InvalidRequest
from ..uri import ResultUri as ResultUri

MAX_SCALAR_BYTES = 256
MAX_EXTRACT_BYTES = 4 * 1024
MAX_SELECTED_BYTES = 16 * 1024
MAX_PREVIEW_BYTES = 1024

_PATH = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]|\['([^']+)'\]|\[\"([^\"]+)\"\]")


class Meta(BaseModel):
    model_config = ConfigDict(extra="allow")

    content_type: str = "application/json"
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: str
    row_count: int | None = None


class ResultRef(BaseModel):
    """Where a result is stored, how large it is, and the few of its fields that need no fetch."""

    model_config = ConfigDict(extra="allow")

    kind: Literal["result_ref", "temp_ref"] = "result_ref"
    ref: str
    store: str
    key: str
    scope: Literal["step", "execution", "workflow", "permanent"] = "execution"
    expires_at: str | None = None
    meta: Meta
    preview: Any = None
    extracted: dict[str, Any] = Field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        body = self.model_dump(mode="json")
        if self.meta.row_count is None:
            del body["meta"]["row_count"]
        return body


# what older releases of NoETL call it; its kind is temp_ref
TempRef = ResultRef


def storage_key(execution_id: str, step: str, digest: str, ending: str = "json") -> str:
    """`<execution>/<step>/<digest>.json`: all results of an execution are below one prefix."""
    name = quote(step, safe="").replace(".", "%2E")
    if len(name) > 120:
        # most file systems limit a file name to 255 bytes
        name = f"{name[:80]}-{hashlib.sha256(step.encode()).hexdigest()[:32]}"
    return f"{execution_id}/{name}/{digest}.{ending}"


def extract(data: Any, select: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """The fields that a template may read without a fetch: small top-level scalars, and those that `select` names.

    `select`: (JSON path, name). A path without a value yields no field. Raises InvalidRequest if the selected fields
    are larger than 16 KiB, because they are written to the log.
    """
    fields: dict[str, Any] = {}
    if isinstance(data, Mapping):
        budget = MAX_EXTRACT_BYTES
        for name, value in data.items():
            if not isinstance(name, str) or not isinstance(value, str | int | float | bool | None):
                continue
            size = len(orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_SUBCLASS, default=str))
            cost = size + len(name)
            if size <= MAX_SCALAR_BYTES and cost <= budget:
                fields[name] = value
                budget -= cost
    chosen = {name: found for path, name in select if (found := at_path(data, path)) is not MISSING}
    if len(orjson.dumps(chosen, default=str)) > MAX_SELECTED_BYTES:
        names = ", ".join(chosen)
        raise InvalidRequest(
            f"output.select: the values of {names} have more than {MAX_SELECTED_BYTES} bytes together: select parts of "
            "them; a rule of the tool can set a large value in ctx"
        )
    return fields | chosen


MISSING: Any = object()


def at_path(data: Any, path: str) -> Any:
    """The value at `$.a.b[0]`, `MISSING` if there is none; ValueError if this is not such a path."""
    for key in parse_path(path):
        if isinstance(key, int) and isinstance(data, Sequence) and not isinstance(data, str | bytes):
            if key >= len(data):
                return MISSING
            data = data[key]
        elif isinstance(key, str) and isinstance(data, Mapping) and key in data:
            data = data[key]
        else:
            return MISSING
    return data


def parse_path(path: str) -> list[str | int]:
    rest = path if path.startswith("$") else f"$.{path}"
    keys: list[str | int] = []
    position = 1
    while position < len(rest):
        match = _PATH.match(rest, position)
        if match is None:
            raise ValueError(f"not a JSON path: {path!r}; expected a path such as $.a.b[0]")
        name, index, quoted, double = match.groups()
        keys.append(int(index) if index is not None else next(x for x in (name, quoted, double) if x is not None))
        position = match.end()
    return keys


def preview(content: bytes) -> str:
    """The first characters of a JSON document, at most 1 KiB of them."""
    if len(content) <= MAX_PREVIEW_BYTES:
        return content.decode()
    return content[: MAX_PREVIEW_BYTES - 3].decode(errors="ignore") + "…"
