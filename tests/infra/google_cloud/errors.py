"""What an API refuses, in Google's form: `{"error": {"code", "message", "status"}}`."""

from __future__ import annotations

from typing import Any, ClassVar


class ApiError(Exception):
    """`code` is the HTTP status, `status` its name in google.rpc.Code, `number` that name's number."""

    code: ClassVar[int]
    status: ClassVar[str]
    number: ClassVar[int]

    @property
    def message(self) -> str:
        return str(self)

    def document(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message, "status": self.status}}


class InvalidArgument(ApiError):
    code, status, number = 400, "INVALID_ARGUMENT", 3


class FailedPrecondition(ApiError):
    code, status, number = 400, "FAILED_PRECONDITION", 9


class Unauthenticated(ApiError):
    code, status, number = 401, "UNAUTHENTICATED", 16


class PermissionDenied(ApiError):
    code, status, number = 403, "PERMISSION_DENIED", 7


class NotFound(ApiError):
    code, status, number = 404, "NOT_FOUND", 5


class AlreadyExists(ApiError):
    code, status, number = 409, "ALREADY_EXISTS", 6


class Aborted(ApiError):
    code, status, number = 409, "ABORTED", 10


class ConditionNotMet(ApiError):
    """Storage's own: what If-Match asks for is not so."""

    code, status, number = 412, "FAILED_PRECONDITION", 9


class Unimplemented(ApiError):
    """Google has it, the stand-in does not."""

    code, status, number = 501, "UNIMPLEMENTED", 12
