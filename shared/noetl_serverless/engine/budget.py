"""`executor.spec.budget`: what an execution may spend, and whether it can afford one more command.

Reported commands are spent. An issued command is expected to cost the average of its step's reported commands, and
nothing if there are none yet. The prices are in the log from the start, so that a newer table changes no decision. A
sub-playbook has a budget of its own, if any.
"""

from __future__ import annotations

from .events import Event
from .prices import Prices
from .state import Spent, State

NOTHING: Spent = (0, 0.0, 0.0)


def with_spent(state: State, event: Event) -> None:
    """Count a reported command, with its billed time and its price."""
    if state.budget is None or event.step is None:
        return
    prices = Prices(**state.budget["prices"])
    duration = (event.payload.get("meta") or {}).get("duration_ms")
    took = float(duration) if isinstance(duration, int | float) and not isinstance(duration, bool) else 0.0
    count, billed, money = state.spent.get(event.step, NOTHING)
    state.spent[event.step] = (count + 1, billed + prices.billed_ms(took), money + prices.command(took))


def exceeded_budget(state: State, step: str) -> str | None:
    """Why one more command of `step` would exceed the budget; None if it would not."""
    budget = state.budget
    if budget is None:
        return None
    out = [command.key.rpartition("#")[0] for command in state.commands.values()] + [step]
    invocations = len(out) + sum(count for count, _, _ in state.spent.values())
    if (most := budget.get("max_invocations")) is not None and invocations > most:
        return f"it would be invocation {invocations}; the limit is {most}"
    for place, limit, unit, scale in ((1, "max_billed_seconds", "s", 1000.0), (2, "max_cost_usd", "USD", 1.0)):
        if (most := budget.get(limit)) is None:
            continue
        spent = sum(entry[place] for entry in state.spent.values()) / scale
        expected = sum(_mean(state, name, place) for name in out) / scale
        if spent + expected > most:
            return f"{spent:.6g} {unit} are used, {expected:.6g} {unit} more are expected, {most:g} {unit} is the limit"
    return None


def _mean(state: State, step: str, place: int) -> float:
    entry = state.spent.get(step, NOTHING)
    return entry[place] / entry[0] if entry[0] else 0.0
