"""Exceptions that end a command early, with its exit status: 1 for a failure, 2 for wrong use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXIT_FAILED = 1
EXIT_USAGE = 2


class Failure(Exception):
    """`problem` is the failure in the format of RFC 9457, for --json."""

    status = EXIT_FAILED
    code = "cli.failed"
    title = "The command failed"

    def __init__(self, detail: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.problem = dict(problem) if problem else self._own_problem()

    def _own_problem(self) -> dict[str, Any]:
        return {
            "type": f"urn:noetl:problem:{self.code}",
            "title": self.title,
            "detail": self.detail,
            "code": self.code,
        }


class WrongUse(Failure):
    status = EXIT_USAGE
    code = "cli.usage"
    title = "The command was used wrongly"


class NoStack(WrongUse):
    code = "cli.no_stack"
    title = "No stack is running"


class Refused(Failure):
    """The control plane answered with a problem."""

    def __init__(self, http_status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or f"HTTP {http_status}"), problem)
        self.http_status = http_status
        # an error that the caller can correct is wrong use; an error of the service is a failure
        self.status = EXIT_USAGE if http_status < 500 else EXIT_FAILED
