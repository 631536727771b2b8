"""What the metrics stand at."""

from __future__ import annotations

from typing import Any

from noetl_serverless.telemetry.metrics import Metric


def counted(metric: Metric) -> float:
    """Of a counter or a gauge."""
    of_prometheus: Any = metric
    return float(of_prometheus._value.get())


def summed(metric: Metric) -> float:
    """All that was observed."""
    of_prometheus: Any = metric
    return float(of_prometheus._sum.get())
