"""The order in which events of all executions become visible: what a reader of all of them goes by."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from noetl_serverless.store.connection import Connection, connect
from noetl_serverless.store.migrate import migrate

WRITE = """
INSERT INTO noetl.event (execution_id, seq, type, at, payload) VALUES (:id, 1, 'playbook.initialized', now(), '{}')
"""
# all that is committed, up to the oldest transaction that still runs
READ = """
SELECT execution_id FROM noetl.event
WHERE transaction_id >= CAST(:after AS xid8) AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY transaction_id, execution_id, seq
"""


def read(reader: Connection, after: str) -> list[Any]:
    return [row[0] for row in reader.run(READ, after=after)]


def test_a_reader_by_transaction_misses_none_that_commits_late(postgres_url: str) -> None:
    migrate(postgres_url)
    with (
        closing(connect(postgres_url)) as slow,
        closing(connect(postgres_url)) as quick,
        closing(connect(postgres_url)) as reader,
    ):
        (start,) = reader.run("SELECT pg_current_xact_id()::text")[0]
        slow.run("BEGIN")
        slow.run(WRITE, id=1)
        quick.run(WRITE, id=2)
        assert read(reader, start) == [], "it went past a transaction that may still write before it"
        slow.run("COMMIT")
        assert read(reader, start) == [1, 2]
