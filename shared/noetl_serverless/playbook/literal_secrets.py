"""Secrets in the text of a playbook, told by the names of the keys under which they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from .document import walk
from .model import Playbook, Step
from .template import has_markers

# the last words of a key; `secret` and `credential` alone are more often the name of one
_KEY: Final = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|api_?key|secret_?key|access_?key|private_?key|client_?secret"
    r"|(?:access_|api_|auth_|bearer_|refresh_|session_)?token)\Z"
)
# of page tokens and the like
_NO_KEY: Final = re.compile(r"(?:^|_)(?:page|next|continuation|sync)_token\Z")
_HEADER: Final = re.compile(r"(?:^|_)(?:authorization|api_?key|(?:access_|api_|auth_)?token)\Z")
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[-\s]+")
# what stands for a value that the caller passes, and what only names one: a path, a variable
_PLACEHOLDER: Final = re.compile(
    r"(?:<.*>|\[.*\]|[$%].*|x+|\*+|\.+|-+|change_?me|your\W?.*|dummy|example.*|todo|none|null|.*/.*)\Z", re.IGNORECASE
)
_SCHEME: Final = re.compile(r"(?:Bearer|Basic|Token|ApiKey)\s+", re.IGNORECASE)
_MIN_CHARACTERS: Final = 6


def literal_secrets(playbook: Playbook) -> Iterator[tuple[str | int, ...]]:
    """The places of defaults of the workload, and of headers of tools, that are secrets by their keys."""
    for path, value in walk(playbook.workload, ("workload",)):
        key = str(path[-1]) if len(path) > 1 else ""
        if _matches(key, _KEY) and not _matches(key, _NO_KEY) and _is_literal(value):
            yield path
    for index, step in enumerate(playbook.workflow):
        for path, headers in _headers(step, ("workflow", index)):
            yield from _of_headers(headers, path)
    for index, task in enumerate(playbook.workbook):
        yield from _of_headers(task.tool.config.get("headers"), ("workbook", index, "tool", "headers"))


def _headers(step: Step, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    for place, tool in enumerate(step.tools):
        at = (*path, "tool", place) if isinstance(step.tool, list) else (*path, "tool")
        yield (*at, "headers"), tool.config.get("headers")


def _of_headers(headers: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if _matches(name, _HEADER) and isinstance(value, str) and _is_literal(_SCHEME.sub("", value.strip(), count=1)):
            yield (*path, name)


def _matches(key: str, pattern: re.Pattern[str]) -> bool:
    return pattern.search(_WORD.sub("_", key[:100]).lower()) is not None


def _is_literal(value: Any) -> bool:
    if not isinstance(value, str) or has_markers(value) or len(value) < _MIN_CHARACTERS:
        return False
    return not any(one.isspace() for one in value) and not _PLACEHOLDER.match(value)
