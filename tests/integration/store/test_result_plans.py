"""What the collection of results reads does not grow with the results that are there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.store.plans import EXPLAIN, pages_of

from noetl_serverless.store.connection import Connection
from noetl_serverless.store.queries import load

SQL = load("maintenance")
# of each execution one result, in turn with a time of its own, of scope step, and another's
RESULTS = """
    INSERT INTO noetl.result_ref (execution_id, key, ref, store, bytes, sha256, content_type, scope, expires_at)
    SELECT id, CASE id % 3 WHEN 2 THEN id + 1 ELSE id END || '/step/a.json', 'noetl://x', 'disk', 1, '', 'a/json',
        CASE id % 3 WHEN 1 THEN 'step' ELSE 'execution' END,
        CASE id % 3 WHEN 0 THEN now() + interval '1 day' * (id - 15000) END
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) id"""
EXECUTIONS = """
    INSERT INTO noetl.execution (
        execution_id, catalog_id, path, version, plan_hash, parent_execution_id, depth, status, head, folded, state,
        finished, workload, created_at, ended_at)
    SELECT id, 1, 'p', 1, 'h', CASE id % 2 WHEN 0 THEN id - 1 END, 0, 'COMPLETED', 1, 1, '{}', 0, '{}', now(),
        CAST('2026-01-01Z' AS timestamptz) + interval '1 s' * (id - (1 - id % 2) * 100000)
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) id"""


def pages(connection: Connection, name: str, **given: Any) -> int:
    """Read by it; what it changes is undone."""
    connection.run("BEGIN")
    [[plan]] = connection.run(EXPLAIN + SQL[name], **given)
    connection.run("ROLLBACK")
    return pages_of(plan)


@pytest.mark.parametrize("analysed", [False, True], ids=["never analysed", "analysed while empty"])
def test_each_statement_reads_what_it_returns(connection: Connection, analysed: bool) -> None:
    for table in ("execution", "result_ref"):
        connection.run(f"ALTER TABLE noetl.{table} SET (autovacuum_enabled = false)")
    for table in ("execution", "result_ref", "archived", "event") if analysed else ():
        connection.run(f"VACUUM ANALYZE noetl.{table}")
    ids = [20_000, 20_001, 20_002]
    keys = [f"{id}/step/a.json" for id in (10_002, *ids, 99_999)]
    ended = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=20_000)
    statements: dict[str, dict[str, Any]] = {
        "ended": {"at": ended, "id": 20_000, "cutoff": ended + timedelta(days=1), "limit": 5},
        "families": {"ids": [20_001, 20_003], "ends": [ended + timedelta(seconds=1), ended + timedelta(seconds=3)]},
        "expired_results": {"store": "disk", "grace": 60.0, "limit": 5},
        "deleted_results": {"store": "disk", "grace": 60.0, "limit": 5},
        "scoped_results": {"store": "disk", "ids": ids, "scopes": ["step", "execution"], "limit": 10},
        "step_results": {"store": "disk", "ids": ids, "limit": 10},
        "named_results": {"store": "disk", "keys": keys, "grace": 60.0, "ignored": []},
        "keep_results": {"ids": ids, "kept": "permanent", "scopes": ["step", "execution"]},
        "unknown_executions": {"ids": [*ids, 99_999]},
        "delete_result_rows": {"keys": json.dumps([{"execution_id": 20_000, "key": keys[2]}])},
    }
    for name, given in statements.items():
        # this session's plans are made here, and kept
        for _ in range(12):
            connection.run(SQL[name], **given)
    connection.run(EXECUTIONS, first=10_001, last=30_000)
    connection.run(RESULTS, first=10_001, last=30_000)
    expired = connection.run(SQL["expired_results"], **statements["expired_results"])
    assert [row[0] for row in expired] == [10_002, 10_005, 10_008, 10_011, 10_014]
    named = {row[0] for row in connection.run(SQL["named_results"], **statements["named_results"])}
    # that of 10,002 has expired, but another execution's row names it, too
    assert named == {f"{id}/step/a.json" for id in (10_002, 20_001, 20_002)}
    family = connection.run(SQL["families"], **statements["families"])
    assert family == [[20_001], [20_002], [20_003], [20_004]]
    assert connection.run(SQL["unknown_executions"], **statements["unknown_executions"]) == [[99_999]]
    read = {name: pages(connection, name, **given) for name, given in statements.items()}
    # for each row the pages of an index down to it, and what the catalog is asked for now and then
    assert max(read.values()) < 120, read
