"""What the sources of secrets refused a moment ago: each item of a loop asking again could lock an account out."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

KEEP_SECONDS: Final = 5.0
MAX_KEPT: Final = 1000

# execution, keychain entry, digest of what its value is fetched from
RefusalKey = tuple[str, str, str]


class Refusals:
    """The refusals of one worker process, by execution: others may have a credential that was set since."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[RefusalKey, tuple[float, str]] = OrderedDict()

    def add(self, key: RefusalKey, message: str) -> None:
        """`message`: without secrets."""
        self._kept[key] = (self._clock() + KEEP_SECONDS, message)
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def message_of(self, key: RefusalKey) -> str | None:
        until, message = self._kept.get(key, (0.0, ""))
        return message if until > self._clock() else None
