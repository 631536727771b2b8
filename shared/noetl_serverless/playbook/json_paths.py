"""JSON paths (RFC 9535), of which most name one place: `$.a.b[0]`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

_SIMPLE: Final = re.compile(r"\$(\.[A-Za-z_][\w-]*|\[(?:\d|-[1-9])\d{0,8}\]|\['[^'\\]+'\]|\[\"[^\"\\]+\"\])*")

_FIRST: Final = re.compile(r"\$(?:\.([A-Za-z_][\w-]*)|\[['\"]([^'\"\\]+)['\"]\])")


def is_simple(path: str) -> bool:
    """Whether the path consists of names and indexes alone."""
    return _SIMPLE.fullmatch(path) is not None


def first_name(path: str) -> str | None:
    """The field at which the path begins, if it begins with one."""
    found = _FIRST.match(path)
    return None if found is None else found[1] or found[2]


def check_path(path: str) -> str:
    """The path; ValueError says where it is none."""
    if not is_simple(path):
        all_at(path)
    return path


@cache
def all_at(path: str) -> tuple[Callable[[Any], list[Any]], bool]:
    """What finds the values at the path, and whether there can be only one; ValueError says where it is none."""
    # 60 ms, for paths that few have
    import jsonpath

    environment = jsonpath.JSONPathEnvironment(strict=True)
    # regular expressions of Python have no bound on their time
    for name in ("match", "search"):
        environment.function_extensions.pop(name, None)
    try:
        query = environment.compile(path)
    except jsonpath.JSONPathError as error:
        message = str(error).partition("\n")[0]
        raise ValueError(f"not a JSON path: {message}; expected a path such as $.a.b[0] or $.rows[*].id") from None
    assert isinstance(query, jsonpath.JSONPath)
    return query.findall, query.singular_query()
