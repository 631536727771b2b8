"""Regular expressions that are matched in a time linear in the text.

They are those of RE2: without lookahead, lookbehind and backreferences; classes such as \\d and \\w are of ASCII.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

MAX_PATTERN: Final = 1000
# instructions of the compiled form, which bound the time for each character
MAX_PROGRAM: Final = 4000
OPTIONS: Final = {"max_mem": 1 << 20, "log_errors": False, "never_capture": True}
# characters times instructions that take as long as one unit of work
PER_UNIT: Final = 2000


@lru_cache(maxsize=512)
def compiled(pattern: str) -> Any:
    """The expression; raises ValueError that says what is wrong with it."""
    # a C library that only playbooks with patterns need
    import re2

    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"it has {len(pattern):,} characters, more than {MAX_PATTERN:,}")
    options = re2.Options()
    for name, value in OPTIONS.items():
        setattr(options, name, value)
    try:
        expression = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "it cannot be read"
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None
    if expression.programsize > MAX_PROGRAM:
        raise ValueError("its repetitions are too large when written out")
    return expression


def work_of(pattern: str, text: str) -> int:
    """The units of work of looking for `pattern` in `text`."""
    return 2 + len(text) * int(compiled(pattern).programsize) // PER_UNIT


def matches(pattern: str, text: str) -> bool:
    """Whether `pattern` occurs in `text`. `pattern` is one that `compiled` accepts."""
    return compiled(pattern).search(text) is not None
