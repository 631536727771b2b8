"""Errors of compiling and rendering templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TemplateError(Exception):
    """A template that cannot be compiled or rendered.

    `line` and `column` are those of the playbook, counted from 1; `name` is the name that was missing, if one was.
    `code` is `template.too_large` if rendering would take too much time or memory.
    """

    def __init__(
        self,
        message: str,
        *,
        template: str | None = None,
        line: int | None = None,
        column: int | None = None,
        name: str | None = None,
        code: str = "template.error",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.template = template
        self.line = line
        self.column = column
        self.name = name
        self.code = code

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "template",
            "code": self.code,
            "message": self.message,
            "template": self.template,
            "line": self.line,
            "column": self.column,
            "name": self.name,
        }


class NeedsFetch(TemplateError):
    """The value is stored by reference, and routing never fetches. `ref`: the reference, if there is one."""

    def __init__(self, message: str, ref: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.ref = ref


class FetchFailed(Exception):
    """Carries the error of a fetch through the template engine, which must not mistake it for one of its own."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause
