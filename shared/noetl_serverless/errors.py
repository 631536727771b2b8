"""Every error a caller can see, in the shape of RFC 9457 (application/problem+json).

A subclass fixes `status`, `code` and, for most instances, `title`; an instance adds `detail` (what is wrong and what to
do) and, for a faulty document, the places: a JSON pointer, and a line and a column, both counted from 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

MEDIA_TYPE = "application/problem+json"


def json_pointer(path: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of keys and indexes from the root."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def pointer_keys(pointer: str) -> list[str]:
    """The keys and indexes, as texts, of a JSON pointer."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a document, with its place."""

    message: str
    _: KW_ONLY
    pointer: str = ""
    line: int | None = None
    column: int | None = None
    code: str = "request.invalid"

    def to_dict(self) -> dict[str, Any]:
        return {
            key: value
            for key in ("code", "message", "pointer", "line", "column")
            if (value := getattr(self, key)) not in (None, "")
        }

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: " if self.line is not None else ""
        return f"{place}{self.message}"


@dataclass(frozen=True, slots=True)
class ValueFault(Fault):
    """A value that does not fit a schema; both are phrases, as in "an integer"."""

    _: KW_ONLY
    expected: str = ""
    given: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**Fault.to_dict(self), "expected": self.expected, "given": self.given}


class Problem(Exception):
    """An error that is reported to the caller."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "server.internal"
    title: str = "Internal error"

    def __init__(self, detail: str, *, faults: Sequence[Fault] = (), **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.extra = extra

    def to_dict(self, instance: str | None = None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "type": f"urn:noetl:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.extra,
        }
        if instance:
            body["instance"] = instance
        if self.faults:
            body["errors"] = [fault.to_dict() for fault in self.faults]
        return body


class InvalidRequest(Problem):
    status, code, title = 400, "request.invalid", "The request is not valid"


class InvalidInput(InvalidRequest):
    """The workload of a start does not fit the schema that the playbook declares; nothing is started. Each of `faults`
    is a ValueFault, with its pointer from the body of a request."""

    status, code, title = 422, "input.invalid", "The input does not fit the playbook's schema"


class InvalidPlaybook(Problem):
    status, code, title = 422, "playbook.invalid", "The playbook is not valid"


class Unauthenticated(Problem):
    status, code, title = 401, "auth.unauthenticated", "No valid token"


class Forbidden(Problem):
    status, code, title = 403, "auth.forbidden", "Not allowed"


class NotFound(Problem):
    status, code, title = 404, "resource.not_found", "Not found"


class NotAcceptable(Problem):
    """What is there cannot be had in a form that the request accepts. `available`: media types that can be had."""

    status, code, title = 406, "request.not_acceptable", "Not available in this form"


class UnsupportedMediaType(Problem):
    status, code, title = 415, "request.unsupported_type", "The body is of a type that is not accepted"


class Conflict(Problem):
    status, code, title = 409, "resource.conflict", "It conflicts with the current state"


class ResultOfLoop(Conflict):
    """What a step has given is not one value, but those of a loop's items. `loop_results`: the path of their list."""

    title = "The step is a loop, with many results"


class TooLarge(Problem):
    status, code, title = 413, "request.too_large", "The body is too large"


class TooSlow(Problem):
    status, code, title = 408, "request.too_slow", "The body has not come in time"


class AnswerTooLarge(Problem):
    """The requested answer would be larger than allowed."""

    status, code, title = 400, "answer.too_large", "The response is too large"


class Unsupported(Problem):
    """This deployment has no such capability."""

    status, code, title = 501, "server.unsupported", "Not available in this deployment"


class Unavailable(Problem):
    """A service that the request needs does not answer; the same request may succeed later."""

    status, code, title = 503, "server.unavailable", "Temporarily unavailable"


class Busy(Unavailable):
    """It concerns one execution only: other commits always came first, or only a newer release can continue it."""


class AccessDenied(Problem):
    """A store refuses what exists, or may exist, to the identity of this function."""

    status, code, title = 502, "result_store.denied", "The result store refuses access"


class ResultStoreUnavailable(Unavailable):
    """The result store does not return a stored value; only requests that need this value are affected."""
