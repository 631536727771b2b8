"""Less work for the garbage collector, in a process that serves requests."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# new containers, less the freed ones, before the young are looked through. Those of a few hundred requests under way
# would be looked through many times at Python's own threshold, and moved among the old, although hardly any is left
# for the collector when its request ends
YOUNG = 20_000


@contextmanager
def paused() -> Iterator[None]:
    """Around the loading of a function: hardly any of what modules make is garbage, and each start would look through
    it several times. If it succeeds, what has been loaded is never looked at again."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def tune() -> None:
    """Call once the function is loaded and has started: what is there now is there to the end, and no collection looks
    at it again."""
    gc.freeze()
    _, middle, old = gc.get_threshold()
    gc.set_threshold(YOUNG, middle, old)
