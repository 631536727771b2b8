"""All operations, the most frequent first: the router tries them in this order."""

from __future__ import annotations

from . import (
    archives,
    catalog,
    commands,
    controls,
    credentials,
    events,
    execute,
    executions,
    keychain,
    quarantine,
    query,
    replay,
    results,
    runs,
    runtimes,
    schedules,
)

OPERATIONS = (
    *commands.OPERATIONS,
    *execute.OPERATIONS,
    *events.OPERATIONS,
    *executions.OPERATIONS,
    *controls.OPERATIONS,
    *runs.OPERATIONS,
    *runtimes.OPERATIONS,
    *quarantine.OPERATIONS,
    *replay.OPERATIONS,
    *results.OPERATIONS,
    *credentials.OPERATIONS,
    *keychain.OPERATIONS,
    *catalog.OPERATIONS,
    *schedules.OPERATIONS,
    *archives.OPERATIONS,
    *query.OPERATIONS,
)
