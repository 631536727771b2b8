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
    results,
    runs,
    schedules,
    triggers,
)

OPERATIONS = (
    *commands.OPERATIONS,
    *execute.OPERATIONS,
    *events.OPERATIONS,
    *executions.OPERATIONS,
    *runs.OPERATIONS,
    *quarantine.OPERATIONS,
    *replay.OPERATIONS,
    *results.OPERATIONS,
    *credentials.OPERATIONS,
    *keychain.OPERATIONS,
    *catalog.OPERATIONS,
    *schedules.OPERATIONS,
    *triggers.OPERATIONS,
    *archives.OPERATIONS,
    *query.OPERATIONS,
)
