"""One line of the report."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Result:
    """`floor` in the unit of `value`; where more is better (a rate), `ratio` still is value / floor."""

    workload: str
    value: float | None
    unit: str
    floor: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        if self.value is None or not self.floor:
            return None
        return self.value / self.floor

    def to_dict(self) -> dict[str, Any]:
        return {
            "workload": self.workload,
            "value": rounded(self.value),
            "unit": self.unit,
            "floor": rounded(self.floor),
            "ratio": rounded(self.ratio),
            "extra": rounded(self.extra),
        }

    def line(self) -> str:
        return json.dumps(self.to_dict())


def rounded(value: Any) -> Any:
    """Floats to four digits that count, in whatever they stand."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return value


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1))]
