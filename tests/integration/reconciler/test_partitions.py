"""The partitions of the event table are made ahead, by whichever reconciler comes by."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.integration.control_plane.conftest import database  # noqa: F401

from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.reconciler.reconciler import Reconciler
from noetl_serverless.store.catalog import PostgresCatalog
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.schedules import Schedules

MADE = "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'noetl.event'::regclass"
# as the database has it, whose clock it is that counts
THIS_AND_NEXT = """
SELECT 'event_' || to_char((now() AT TIME ZONE 'UTC') + make_interval(months => n), 'YYYY_MM')
FROM generate_series(0, 1) n ORDER BY n"""


async def names(database: Database, sql: str) -> set[str]:  # noqa: F811
    return {name for (name,) in await database.run(sql)}


async def test_a_pass_makes_the_partitions_of_this_month_and_the_next(database: Database) -> None:  # noqa: F811
    wanted = await names(database, THIS_AND_NEXT)
    for name in wanted:
        await database.run(f"DROP TABLE noetl.{name}")
    log, notifications = PostgresEventStore(database), Notifications(None, None)
    orchestrator = Orchestrator(log, Plans(PostgresCatalog(database)), notifications)
    await Reconciler(log, orchestrator, Schedules(database), notifications, max_deliveries=5).reconcile()
    assert await names(database, MADE) >= wanted


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC), {"event_2027_12", "event_2028_01"}),
        (datetime(2028, 1, 31, tzinfo=UTC), {"event_2028_01", "event_2028_02"}),
        (datetime(2028, 2, 29, 12, tzinfo=UTC), {"event_2028_02", "event_2028_03"}),
    ],
)
async def test_months_end_where_the_calendar_ends_them(
    database: Database,  # noqa: F811
    at: datetime,
    expected: set[str],
) -> None:
    before = await names(database, MADE)
    await database.run("SELECT noetl.create_partitions(:at)", at=at)
    made = await names(database, MADE) - before
    assert made >= expected
    # once more changes nothing
    await database.run("SELECT noetl.create_partitions(:at)", at=at)
    assert await names(database, MADE) - before == made
