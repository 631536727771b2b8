"""All operations, the most frequent first: the router tries them in this order."""

from __future__ import annotations

from . import (
    archives,
    catalog,
    commands,
    credentials,
    events,
    execute,
    executions,
    keychain,
    quarantine,
    query,
    replay,
    restart,
    results,
    runs,
    schedules,
)

OPERATIONS = (
    *commands.OPERATIONS,
    *execute.OPERATIONS,
    *events.OPERATIONS,
    *executions.OPERATIONS,
    *runs.OPERATIONS,
    *quarantine.OPERATIONS,
    *replay.OPERATIONS,
    *restart.OPERATIONS,
    *results.OPERATIONS,
    *credentials.OPERATIONS,
    *keychain.OPERATIONS,
    *catalog.OPERATIONS,
    *schedules.OPERATIONS,
    *archives.OPERATIONS,
    *query.OPERATIONS,
)
