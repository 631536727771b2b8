from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pg8000.exceptions import DatabaseError

from noetl_serverless.store.connection import Connection, connect
from noetl_serverless.store.migrate import LOCK_ID, migrate, migrations

NAMES = [name for name, _ in migrations()]
WAITERS = """
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32) + objid::bigint = :lock"""


def waiters(connection: Connection) -> int:
    return int(connection.run(WAITERS, lock=LOCK_ID)[0][0])


def test_each_migration_is_run_once_in_order(postgres_url: str) -> None:
    assert migrate(postgres_url) == NAMES
    assert migrate(postgres_url) == []


def test_only_one_migrates_at_a_time(postgres_url: str) -> None:
    holder, other = connect(postgres_url), connect(postgres_url)
    with ThreadPoolExecutor() as threads:
        holder.run("BEGIN")
        holder.run("SELECT pg_advisory_xact_lock(:lock)", lock=LOCK_ID)
        migrating = [threads.submit(migrate, postgres_url) for _ in range(2)]
        # until both wait, or one has not waited
        until = time.monotonic() + 60
        while waiters(other) < 2 and not any(one.done() for one in migrating) and time.monotonic() < until:
            threading.Event().wait(0.02)
        waiting = waiters(other)
        holder.run("COMMIT")
        assert waiting == 2, "a migration does not wait for the lock that another holds"
        assert sorted((one.result() for one in migrating), key=len) == [[], NAMES]
    holder.quit()
    other.quit()


def test_a_migration_that_fails_leaves_nothing(postgres_url: str) -> None:
    other = connect(postgres_url)
    other.run("CREATE SCHEMA noetl")
    # in the way of a later one
    other.run("CREATE TABLE noetl.archive (nothing integer)")
    with pytest.raises(DatabaseError, match="already exists"):
        migrate(postgres_url)
    assert other.run("SELECT to_regclass('noetl.event'), to_regclass('noetl.migration')") == [[None, None]]
    other.quit()
