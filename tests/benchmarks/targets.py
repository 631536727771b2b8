"""What each workload is to reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """`of`: "value", "ratio", or a name in `extra`; `least`: more is better."""

    of: str
    limit: float
    unit: str
    least: bool = False

    def found(self, line: Mapping[str, Any]) -> float | None:
        value = line[self.of] if self.of in ("value", "ratio") else line["extra"].get(self.of)
        return None if value is None else float(value)

    def missed_by(self, value: float) -> float | None:
        """As a share of the limit; None if it is reached."""
        over = (self.limit - value if self.least else value - self.limit) / self.limit if self.limit else value
        return over if over > 0 else None

    def description(self) -> str:
        what = "" if self.of == "value" else f"{self.of} "
        return f"{what}{'≥' if self.least else '≤'} {self.limit:g} {self.unit}".rstrip()


_COLD = (Target("value", 350, "ms"),)

TARGETS: dict[str, tuple[Target, ...]] = {
    "chain100": (Target("value", 1.9, "ms"), Target("ratio", 6, "")),
    "chain100_pipelined": (Target("value", 0.6, "ms"), Target("ratio", 2, "")),
    "concurrent": (
        Target("value", 1500, "steps/s", least=True),
        Target("ratio", 0.25, "", least=True),
        Target("p95_s", 0.8, "s"),
    ),
    "fanout10000": (Target("value", 4, "s"),),
    "fanout100k": (Target("value", 45, "s"), Target("largest_mb", 600, "MB"), Target("per_item_ratio", 1.15, "")),
    "history": (Target("value", 1.9, "ms"), Target("last_first", 1.1, ""), Target("state_bytes", 65536, "bytes")),
    "history_pipelined": (
        Target("value", 0.7, "ms"),
        Target("last_first", 1.1, ""),
        Target("state_bytes", 65536, "bytes"),
    ),
    "payload": (Target("ratio", 2, ""),),
    **{
        f"tables_{megabytes}mb": (Target("ratio", 1.5, ""), Target("read_ms", 3, "ms")) for megabytes in (10, 100, 1000)
    },
    "results_s3": (Target("ratio", 1.3, ""),),
    "results_gcs": (Target("ratio", 1.3, ""),),
    "start": (Target("value", 7.5, "ms"), Target("p95", 10, "ms")),
    "fibo_light": (Target("value", 0.08, "s"),),
    "fibo_heavy": (Target("ratio", 1.05, ""),),
    "storm": (Target("conflicts", 0.05, ""), Target("over_one_worker", 1.0, "", least=True)),
    "crowd": (Target("over_few", 0.8, "", least=True), Target("slow_passes", 0, "")),
    "idle": (
        Target("value", 1, "%"),
        Target("transactions_per_s", 5, "1/s"),
        Target("database_grew_bytes", 0, "bytes"),
    ),
    "lambda_direct": (Target("ratio", 0.5, ""),),
    "log_size": (Target("value", 2560, "bytes"), Target("rows", 1024, "bytes")),
    "cold_start.gateway": _COLD,
    "cold_start.control_plane": _COLD,
    "cold_start.reconciler": _COLD,
    "cold_start.worker": _COLD,
}
