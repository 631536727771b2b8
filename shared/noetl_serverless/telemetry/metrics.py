"""The Prometheus metrics of this process, made once."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
REGISTRY = CollectorRegistry()

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

commands_claimed = Counter("noetl_commands_claimed_total", "Commands handed to workers.", ["kind"], registry=REGISTRY)
outcomes = Counter(
    "noetl_outcomes_total", "Outcomes that workers reported: accepted, stale or refused.", ["result"], registry=REGISTRY
)
commits = Counter(
    "noetl_commits_total",
    "Executions' decisions: committed, or lost to another writer and decided anew.",
    ["result"],
    registry=REGISTRY,
)
collisions = Counter(
    "noetl_database_collisions_total",
    "Transactions that PostgreSQL undid for another's sake (deadlock, serialization); each was done again.",
    registry=REGISTRY,
)
quarantined = Counter(
    "noetl_quarantined_total", "Executions that could not be decided about, and failed.", ["code"], registry=REGISTRY
)
isolated_failures = Counter(
    "noetl_isolated_failures_total",
    "Single items that failed while the rest went on, by what was done: follow, expire, advance, fire_timer, ...",
    ["action"],
    registry=REGISTRY,
)
commit_seconds = Histogram(
    "noetl_commit_seconds", "Time of one commit at the database.", buckets=_SECONDS, registry=REGISTRY
)
tool_seconds = Histogram(
    "noetl_tool_seconds", "Time of one tool call.", ["kind", "status"], buckets=_SECONDS, registry=REGISTRY
)
commands_in_flight = Gauge("noetl_commands_in_flight", "Commands this worker is running.", registry=REGISTRY)
notifications = Counter(
    "noetl_notifications_total",
    "Notifications that work waits, by the bus and by invoking functions: sent, or given up because the bus is away.",
    ["channel", "result"],
    registry=REGISTRY,
)
reconciler_passes = Counter("noetl_reconciler_passes_total", "Passes of the reconciler.", ["result"], registry=REGISTRY)
reconciler_actions = Counter(
    "noetl_reconciler_actions_total",
    "What the reconciler did: expired, dead_letters, inboxes, timers, schedules, notified_pools, ...",
    ["action"],
    registry=REGISTRY,
)
results_deleted = Counter(
    "noetl_results_deleted_total", "Results that were deleted because their time was over.", registry=REGISTRY
)
reconciler_seconds = Histogram(
    "noetl_reconciler_pass_seconds", "Time of one pass.", buckets=_SECONDS, registry=REGISTRY
)
http_seconds = Histogram(
    "noetl_http_request_seconds",
    "Time from request to the end of the response.",
    ["route", "method", "status"],
    buckets=_SECONDS,
    registry=REGISTRY,
)


def render() -> bytes:
    """All metrics in the text format; the media type is CONTENT_TYPE."""
    return generate_latest(REGISTRY)
