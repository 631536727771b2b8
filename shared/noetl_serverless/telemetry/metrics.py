"""The metrics of this process, for Prometheus.

prometheus-client comes with the extras `local` and `gcp`. Nothing scrapes a Lambda function, so its package leaves the
client out for a shorter cold start, and nothing is counted there.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import ModuleType
from typing import Any, Protocol, cast

from ..errors import NotFound


class Metric(Protocol):
    def labels(self, *values: object) -> Metric: ...
    def inc(self, amount: float = 1) -> None: ...
    def set(self, value: float) -> None: ...
    def observe(self, amount: float) -> None: ...
    def time(self) -> AbstractContextManager[object]: ...


class _Uncounted:
    def labels(self, *values: object) -> Metric:
        return self

    def inc(self, amount: float = 1) -> None:
        return None

    def set(self, value: float) -> None:
        return None

    def observe(self, amount: float) -> None:
        return None

    def time(self) -> AbstractContextManager[object]:
        return nullcontext()


def _installed() -> ModuleType | None:
    try:
        # by its name: the packager puts whatever an import statement names into every package
        return importlib.import_module("prometheus_client")
    except ImportError:
        return None


_PROMETHEUS = _installed()
_REGISTRY: Any = _PROMETHEUS.CollectorRegistry() if _PROMETHEUS is not None else None
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


def _metric(kind: str, name: str, help: str, labels: Sequence[str], **more: Any) -> Metric:
    if _PROMETHEUS is None:
        return _Uncounted()
    metric: Any = getattr(_PROMETHEUS, kind)(name, help, labels, registry=_REGISTRY, **more)
    if labels:
        # the client makes texts of the labels and takes a lock, each time
        metric.labels = cache(metric.labels)
    return cast(Metric, metric)


def _counter(name: str, help: str, labels: Sequence[str] = ()) -> Metric:
    return _metric("Counter", name, help, labels)


def _gauge(name: str, help: str, labels: Sequence[str] = ()) -> Metric:
    return _metric("Gauge", name, help, labels)


def _histogram(name: str, help: str, labels: Sequence[str] = ()) -> Metric:
    return _metric("Histogram", name, help, labels, buckets=_SECONDS)


commands_claimed = _counter("noetl_commands_claimed_total", "Commands handed to workers.", ["kind"])
outcomes = _counter("noetl_outcomes_total", "Outcomes that workers reported: accepted, stale or refused.", ["result"])
commits = _counter(
    "noetl_commits_total",
    "Decisions about executions: committed, or repeated because another writer was first.",
    ["result"],
)
collisions = _counter(
    "noetl_database_collisions_total",
    "Transactions that PostgreSQL aborted (deadlock or serialization failure); each was retried.",
)
quarantined = _counter(
    "noetl_quarantined_total", "Executions that the engine could not continue and put into quarantine.", ["code"]
)
isolated_failures = _counter(
    "noetl_isolated_failures_total",
    "Items that failed while the others continued, by operation: follow, expire, advance, fire_timer, ...",
    ["action"],
)
commit_seconds = _histogram("noetl_commit_seconds", "Duration of one commit in the database.")
tool_seconds = _histogram("noetl_tool_seconds", "Duration of one tool call.", ["kind", "status"])
commands_in_flight = _gauge("noetl_commands_in_flight", "Commands that this worker is running.")
notifications = _counter(
    "noetl_notifications_total",
    "Notifications of waiting work, by the bus or by invoking functions: sent, or dropped while the bus was down.",
    ["channel", "result"],
)
reconciler_passes = _counter("noetl_reconciler_passes_total", "Passes of the reconciler.", ["result"])
reconciler_actions = _counter(
    "noetl_reconciler_actions_total",
    "Actions of the reconciler: expired, dead_letters, inboxes, timers, schedules, notified_pools, ...",
    ["action"],
)
shared_memory_bytes = _gauge("noetl_shared_memory_bytes", "Bytes of tables that steps share in memory.")
result_reads = _counter(
    "noetl_result_reads_total",
    "Tables that were read: from shared memory, or from a store, and why not from shared memory.",
    ["from", "reason"],
)
results_deleted = _counter(
    "noetl_results_deleted_total", "Objects that were deleted from result stores because nothing needs them any more."
)
result_store_failures = _counter(
    "noetl_result_store_failures_total",
    "Times that nothing more could be deleted from a result store, which is then left alone for a minute.",
    ["store"],
)
reconciler_seconds = _histogram("noetl_reconciler_pass_seconds", "Duration of one pass of the reconciler.")
http_seconds = _histogram(
    "noetl_http_request_seconds",
    "Time from request to the end of the response.",
    ["route", "method", "status"],
)


def render() -> tuple[bytes, str]:
    """All metrics in the text format, and its media type. Raises NotFound where nothing is counted."""
    if _PROMETHEUS is None:
        raise NotFound("metrics are not available: prometheus-client is not installed")
    return _PROMETHEUS.generate_latest(_REGISTRY), _PROMETHEUS.CONTENT_TYPE_LATEST
