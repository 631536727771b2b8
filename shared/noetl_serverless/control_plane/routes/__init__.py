"""All operations, the most frequent first: the router tries them in this order."""

from __future__ import annotations

from . import (
    analysis,
    archives,
    catalog,
    commands,
    controls,
    credentials,
    events,
    execute,
    executions,
    google,
    keychain,
    quarantine,
    query,
    replay,
    restart,
    results,
    runs,
    runtimes,
    schedules,
    triggers,
)

OPERATIONS = (
    *commands.OPERATIONS,
    *execute.OPERATIONS,
    *events.OPERATIONS,
    *executions.OPERATIONS,
    *controls.OPERATIONS,
    *analysis.OPERATIONS,
    *runs.OPERATIONS,
    *runtimes.OPERATIONS,
    *quarantine.OPERATIONS,
    *replay.OPERATIONS,
    *restart.OPERATIONS,
    *results.OPERATIONS,
    *credentials.OPERATIONS,
    *google.OPERATIONS,
    *keychain.OPERATIONS,
    *catalog.OPERATIONS,
    *schedules.OPERATIONS,
    *triggers.OPERATIONS,
    *archives.OPERATIONS,
    *query.OPERATIONS,
)
