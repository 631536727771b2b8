"""A price table: the prices of time, requests and storage."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices in `currency` of a request, a GB-second, a vCPU-second, a written object and a GB stored for a month; and
    the sizes of the functions that they apply to. Time is billed in steps of `granularity_ms`."""

    name: str
    provider: str
    region: str
    date: str
    currency: str
    note: str
    request: float
    gb_second: float
    vcpu_second: float
    granularity_ms: float
    worker_gb: float
    worker_vcpu: float
    control_gb: float
    control_vcpu: float
    control_ms: float
    object_put: float
    object_gb_month: float
    log_gb_month: float

    def billed_ms(self, duration_ms: float) -> float:
        step = self.granularity_ms or 1
        return max(1, math.ceil(duration_ms / step)) * step

    def command(self, duration_ms: float) -> float:
        """The price of one command: a worker for that long, and a request to the control plane."""
        worker = self._time(self.billed_ms(duration_ms), self.worker_gb, self.worker_vcpu)
        control = self._time(self.billed_ms(self.control_ms), self.control_gb, self.control_vcpu)
        return 2 * self.request + worker + control

    def _time(self, ms: float, gb: float, vcpu: float) -> float:
        return ms / 1000 * (gb * self.gb_second + vcpu * self.vcpu_second)
