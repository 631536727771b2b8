"""The prices of cloud providers: one file for each provider and date. Once released, a file never changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from typing import Any

from ..engine.prices import Prices
from ..playbook.grammar import DEFAULT_PRICES, PRICES
from ..playbook.plan import Budget

__all__ = ["DEFAULT_PRICES", "PRICES", "BadPrices", "budget_of", "load", "parse"]


class BadPrices(ValueError):
    """A table lacks a field, has an invalid price, or has an unknown field."""


@cache
def load(name: str = DEFAULT_PRICES) -> Prices:
    """A table of this release; raises KeyError if there is none of that name."""
    if name not in PRICES:
        raise KeyError(name)
    return parse(json.loads((files(__package__) / f"{name}.json").read_text()))


def parse(table: Any) -> Prices:
    """A table from elsewhere, of the same fields; raises BadPrices."""
    if not isinstance(table, Mapping):
        raise BadPrices("a price table must be an object")
    fields = Prices.__dataclass_fields__
    if unknown := sorted(str(name) for name in table.keys() - fields.keys()):
        raise BadPrices(f"unknown: {', '.join(unknown)}")
    if missing := sorted(fields.keys() - table.keys()):
        raise BadPrices(f"missing: {', '.join(missing)}")
    values: dict[str, Any] = {}
    for name in fields:
        value = table[name]
        if name in TEXTS:
            values[name] = str(value)
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
            raise BadPrices(f"{name}: {value!r} is not a price")
        else:
            values[name] = value
    return Prices(**values)


def budget_of(budget: Budget) -> dict[str, Any]:
    """The budget as the log holds it: the limits that are set, and the current prices."""
    limits = {
        name: value
        for name in ("max_invocations", "max_billed_seconds", "max_cost_usd")
        if (value := getattr(budget, name)) is not None
    }
    return {**limits, "prices": asdict(load(budget.prices))}


TEXTS = frozenset({"name", "provider", "region", "date", "currency", "note"})
