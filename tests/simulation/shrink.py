"""A failing seed made small: kinds of faults left out, then single strikes, as long as the same rule breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .faults import RATES, Limits
from .seeds import Verdict, run_seed

Run = Callable[[int, Limits], Verdict]
MAX_RUNS = 400


def shrink(verdict: Verdict, run: Run = run_seed) -> tuple[Verdict, Limits]:
    """The run with the fewest strikes found that breaks the rule that `verdict` says is broken."""
    assert verdict.fault is not None
    rule, best, limits = verdict.fault.rule, verdict, Limits()
    runs = 0

    def better(candidate: Limits) -> bool:
        nonlocal best, limits, runs
        if runs >= MAX_RUNS:
            return False
        runs += 1
        found = run(verdict.seed, candidate)
        if found.fault is None or found.fault.rule != rule or found.strikes > best.strikes:
            return False
        best, limits = found, candidate
        return True

    better(replace(limits, in_order=True))
    for starts in (1, 2):
        if better(replace(limits, starts=starts)):
            break
    for kind in RATES:
        if best.seen.get(kind):
            better(replace(limits, without=limits.without | {kind}))
    _drop_strikes(lambda: best.strikes, lambda skip: better(replace(limits, skip=limits.skip | skip)))
    return best, limits


def _drop_strikes(count: Callable[[], int], drop: Callable[[frozenset[int]], bool]) -> None:
    """Halves, quarters and so on, of the strikes from the last to the first."""
    size = max(1, count() // 2)
    while size:
        end = count()
        while end > 0:
            drop(frozenset(range(max(1, end - size + 1), end + 1)))
            end -= size
        size //= 2
