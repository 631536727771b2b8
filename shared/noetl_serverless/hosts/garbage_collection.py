"""Less work for the garbage collector, in a process that serves requests."""

from __future__ import annotations

import gc

# new containers, less the freed ones, before the young are looked through. Those of a few hundred requests under way
# would be looked through many times at Python's own threshold, and moved among the old, although hardly any is left
# for the collector when its request ends
YOUNG = 20_000


def tune() -> None:
    """Call once the function is loaded and has started: what is there now is there to the end, and no collection looks
    at it again."""
    gc.freeze()
    _, middle, old = gc.get_threshold()
    gc.set_threshold(YOUNG, middle, old)
