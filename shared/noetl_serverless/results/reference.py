"""`ResultRef`: a small reference that takes the place of a large result."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from ..uri import ResultUri as ResultUri

MAX_PREVIEW_BYTES = 1024
Scope = Literal["step", "execution", "workflow", "permanent"]


class Meta(BaseModel):
    model_config = ConfigDict(extra="allow")

    content_type: str = "application/json"
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: str
    row_count: int | None = None
    # of a table: of the names and types of its columns
    schema_digest: str | None = None
    # of the stored object; `bytes` and `sha256` are those of the content
    compression: Literal["gzip", "zstd"] | None = None
    stored_bytes: int | None = None


class ResultRef(BaseModel):
    """Where a result is stored, how large it is, and the few of its fields that need no fetch."""

    model_config = ConfigDict(extra="allow")

    kind: Literal["result_ref", "temp_ref"] = "result_ref"
    ref: str
    store: str
    key: str
    scope: Scope = "execution"
    expires_at: str | None = None
    meta: Meta
    preview: Any = None
    extracted: dict[str, Any] = Field(default_factory=dict)
    # where the container that has written it may find it in shared memory
    ipc: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        body = self.model_dump(mode="json")
        if self.ipc is None:
            del body["ipc"]
        for name in ("row_count", "schema_digest", "compression", "stored_bytes"):
            if body["meta"][name] is None:
                del body["meta"][name]
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


def instant(at: datetime) -> str:
    """A time in UTC as references have it, to the millisecond."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def preview(content: bytes, limit: int = MAX_PREVIEW_BYTES) -> str:
    """The first characters of a text in UTF-8, in at most `limit` bytes."""
    if len(content) <= limit:
        return content.decode()
    dots = "…"
    return content[: max(0, limit - len(dots.encode()))].decode(errors="ignore") + dots[: limit // 3]
