"""`executor.spec.budget`: what an execution may spend, and whether it can afford one more command.

Reported commands are spent. An issued command is expected to cost the average of its step's reported commands, and
nothing if there are none yet. The prices are in the log from the start, so that a newer table changes no decision. A
sub-playbook has a budget of its own, if any.
"""

from __future__ import annotations

from .events import Event
from .prices import Prices
from .state import Spent, State, split_token_key

NOTHING: Spent = (0, 0.0, 0.0)


def record_spent(state: State, event: Event) -> None:
    """Count a reported command, with its billed time and its price."""
    if state.budget is None or event.step is None:
        return
    prices = Prices(**state.budget["prices"])
    duration = (event.payload.get("meta") or {}).get("duration_ms")
    duration_ms = float(duration) if isinstance(duration, int | float) and not isinstance(duration, bool) else 0.0
    count, billed, cost = state.spent.get(event.step, NOTHING)
    state.spent[event.step] = (count + 1, billed + prices.billed_ms(duration_ms), cost + prices.command(duration_ms))


def exceeded_budget(state: State, step: str) -> str | None:
    """Why one more command of `step` would exceed the budget; None if it would not."""
    budget = state.budget
    if budget is None:
        return None
    outstanding = [split_token_key(command.key)[0] for command in state.commands.values()] + [step]
    invocations = len(outstanding) + sum(count for count, _, _ in state.spent.values())
    if (limit := budget.get("max_invocations")) is not None and invocations > limit:
        return f"it would be invocation {invocations}; the limit is {limit}"
    for index, setting, unit, scale in ((1, "max_billed_seconds", "s", 1000.0), (2, "max_cost_usd", "USD", 1.0)):
        if (limit := budget.get(setting)) is None:
            continue
        spent = sum(entry[index] for entry in state.spent.values()) / scale
        expected = sum(_mean(state, name, index) for name in outstanding) / scale
        if spent + expected > limit:
            return (
                f"{spent:.6g} {unit} are used, {expected:.6g} {unit} more are expected, {limit:g} {unit} is the limit"
            )
    return None


def _mean(state: State, step: str, index: int) -> float:
    entry = state.spent.get(step, NOTHING)
    return entry[index] / entry[0] if entry[0] else 0.0
