"""How many requests of people without an account one process hands on at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Unavailable

# each may hold a body
MAX_AT_ONCE = 32


class AtOnce:
    """`what`: the requests, for the error."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._under_way = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Held while one is handed on. Unavailable if too many are."""
        if self._under_way >= MAX_AT_ONCE:
            raise Unavailable(f"Too many {self._what} come at once; send it again later")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
