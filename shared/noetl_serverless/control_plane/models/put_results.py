"""Results that users put, read and delete."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from ...limits import SIGNED_URL_SECONDS
from ...protocol import StorableText
from ...store.results import ResultCount, StoredResult
from ...uri import MAX_URI_CHARACTERS, ResultUri
from . import AnswerModel, NoBool, RequestModel

MAX_NAME_CHARACTERS = 200
MAX_LIST_ROWS = 500

Codec = Literal["gzip", "zstd"]
Kind = Literal["result_ref", "temp_ref"]
Scope = Literal["step", "execution", "workflow", "permanent"]
# those of the original that keep results; `memory` and `inline` keep nothing that others could read
Store = Literal["auto", "object", "disk", "s3", "gcs", "kv", "postgres", "db"]
Name = Annotated[StorableText, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)]
Ref = Annotated[
    StorableText,
    Field(
        min_length=1,
        max_length=MAX_URI_CHARACTERS,
        description="URI of the result.",
        examples=["noetl://execution/310764862443520001/result/load/0a1b2c3d"],
    ),
]


class _Put(RequestModel):
    scope: Scope = Field(
        default="execution",
        description="Whose end it outlives, if any: it may be collected then. Not step, once the execution has ended.",
    )
    store: Store = Field(
        default="auto",
        description="Where it is kept. A store that it is too large for, or that this deployment does not have, is as "
        "good as auto; `disk`, `s3` and `gcs` all name the object store of the deployment.",
    )
    ttl: Annotated[float | StorableText | None, NoBool] = Field(
        default=None,
        description="Seconds, or a time such as `30m` or `1d`, after which it is gone; `forever`, the default: "
        "it stays as long as its scope says.",
        examples=["30m", "1d", "forever"],
    )
    source_step: Name | None = Field(
        default=None, description="Step that it is of, which lists and searches it; by default, its name."
    )
    compress: bool | Codec = Field(
        default=False, description="How it is stored, if it has more than 10 KiB; `true` is gzip."
    )


class PutResult(_Put):
    """What is put, as JSON."""

    name: Name
    data: Any = Field(description="The result, as JSON.")
    extracted: dict[str, Any] = Field(
        default={}, description="Fields that can be read without the result, of up to 16 KiB together."
    )
    correlation: dict[str, Any] = Field(
        default={}, description="Keys of the loop or the page that it is of, of up to 4 KiB together."
    )


class PutContent(_Put):
    """How the body is put as it is, where it is not JSON, or the query has a name."""

    name: Name | None = Field(default=None, description="With a name, the body is the result itself, of any type.")
    extracted: StorableText = Field(default="{}", max_length=4000, description="As in a body of JSON: an object.")
    correlation: StorableText = Field(default="{}", max_length=4000, description="As in a body of JSON: an object.")


class InlineResult(AnswerModel):
    """The result of a step that is so small that it is in the log, and nowhere else."""

    kind: Literal["inline"] = "inline"
    ref: None = None
    name: str = Field(description="The step.")
    step: str
    content_type: str = "application/json"
    bytes: int = Field(description="Size of the result, as JSON.")
    sha256: str = Field(description="SHA-256 of that.")
    data: Any = Field(description="The result itself.")


class ResultEntry(AnswerModel):
    kind: Kind
    ref: str
    name: str = Field(description="That it was put under; of a step's result, or a part of that, the step.")
    step: str | None
    store: str
    scope: Scope
    expires_at: datetime | None
    created_at: datetime
    content_type: str
    bytes: int = Field(description="Size of the content.")
    sha256: str = Field(description="SHA-256 of the content.")
    stored_bytes: int = Field(description="Size of the object in its store, which may be compressed.")
    compression: str | None = Field(description="How the object is compressed; the content is read without it.")
    put_by: dict[str, Any] | None = Field(description="Who put it; null for the result of a step.")
    extracted: dict[str, Any]
    correlation: dict[str, Any]
    preview: str | None = Field(description="The beginning of a text, or of the JSON that a table is.")
    row_count: int | None = Field(description="Of a table, or of a list of rows, that a step has given.")

    @classmethod
    def of(cls, result: StoredResult) -> Self:
        from ...results.content import compression_of

        meta = result.meta or {}
        names = ("ref", "store", "scope", "expires_at", "created_at", "content_type", "bytes", "sha256")
        return cls(
            **{name: getattr(result, name) for name in names},
            kind=kind_of(result.ref),
            name=result.title,
            step=result.of_step,
            stored_bytes=meta.get("stored_bytes") or result.bytes,
            compression=compression_of(result.key, result.meta),
            put_by=None if result.put_by is None else dict(result.put_by),
            extracted=meta.get("extracted") or {},
            correlation=meta.get("correlation") or {},
            preview=meta.get("preview"),
            row_count=meta.get("row_count"),
        )


def kind_of(ref: str) -> Kind:
    try:
        return "temp_ref" if ResultUri.parse(ref).kind == "tmp" else "result_ref"
    except ValueError:
        return "result_ref"


class ResultPut(ResultEntry):
    status: Literal["stored", "same"] = Field(
        description="same: the name has this content already; its scope, its expiry and its fields are now those of "
        "this request, unless an Idempotency-Key says that it is the same one again."
    )


class _Named(RequestModel):
    ref: Ref
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the content, for the rare case that two results have the same URI.",
    )


Table = Annotated[
    StorableText,
    Field(
        min_length=1,
        max_length=1000,
        description="Of a result with several tables, answer with this one: the name of a field, or such as `a.b.0`.",
    ),
]


class ResolveResult(_Named):
    table: Table | None = None


class DeleteResult(_Named):
    pass


class ResultUrlQuery(_Named):
    seconds: int = Field(default=900, ge=1, le=SIGNED_URL_SECONDS, description="How long the URL is valid.")


class ResultUrl(AnswerModel):
    url: str = Field(description="Whoever has it can read the object with GET, without a token.")
    expires_at: datetime
    content_type: str
    bytes: int = Field(description="Size of the content.")
    sha256: str = Field(description="SHA-256 of the content.")
    compression: str | None = Field(description="How the object is compressed that the URL gives.")


class GetStepResult(RequestModel):
    resolve: bool = Field(default=False, description="Answer with the content instead of its reference.")
    table: Table | None = None


class ListStoredResults(RequestModel):
    step: Name | None = Field(default=None, description="List only those of this step.")
    name: Name | None = Field(default=None, description="List only those of this name.")
    scope: Scope | None = Field(default=None, description="List only those with this scope.")
    after: StorableText = Field(default="", max_length=4000, description="Value of `next` of the page before.")
    limit: int = Field(default=100, ge=1, le=MAX_LIST_ROWS)


class ListedResults(AnswerModel):
    execution_id: str
    results: list[ResultEntry] = Field(
        description="By step, and each step's from the oldest to the newest. A page may have none though more follow."
    )
    next: str | None = Field(description="Value of `after` for the next page; null on the last page.")


class DeleteResults(RequestModel):
    scope: Scope | None = Field(
        default=None, description="Delete those with this scope; by default, all but the permanent ones."
    )
    after: StorableText = Field(default="", max_length=4000, description="Value of `next` of the answer before.")


class ResultsDeleted(AnswerModel):
    execution_id: str
    deleted_count: int
    next: str | None = Field(description="Value of `after` to delete the rest; null if there is none.")


class ResultStatsQuery(RequestModel):
    execution_id: Annotated[str, Field(pattern=r"^[0-9]{1,19}$")] | None = Field(
        default=None, description="Count only results of this execution."
    )


class ResultCounts(AnswerModel):
    results: int
    bytes: int = Field(description="Of the contents, before compression.")


class ResultStats(ResultCounts):
    by_store: dict[str, ResultCounts]
    by_scope: dict[str, ResultCounts]
    put: ResultCounts = Field(description="Those that users have put.")
    complete: bool = Field(description="Whether all were counted; if not, there are more.")

    @classmethod
    def of(cls, found: list[ResultCount], limit: int) -> Self:
        total = _sum(found, lambda count: "all").get("all", ResultCounts(results=0, bytes=0))
        return cls(
            results=total.results,
            bytes=total.bytes,
            by_store=_sum(found, lambda count: count.store),
            by_scope=_sum(found, lambda count: count.scope),
            put=_sum([count for count in found if count.put], lambda count: "put").get(
                "put", ResultCounts(results=0, bytes=0)
            ),
            complete=total.results < limit,
        )


def _sum(found: list[ResultCount], name: Callable[[ResultCount], str]) -> dict[str, ResultCounts]:
    sums: dict[str, ResultCounts] = {}
    for count in found:
        before = sums.get(name(count), ResultCounts(results=0, bytes=0))
        sums[name(count)] = ResultCounts(results=before.results + count.results, bytes=before.bytes + count.bytes)
    return sums
