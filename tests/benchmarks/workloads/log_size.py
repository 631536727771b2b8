"""log_size: what a sequential trivial step leaves behind, in the WAL and in rows."""

from __future__ import annotations

from typing import Any

from .. import playbooks
from ..result import Result
from ..stack import Bench

LENGTH = 100
CHAINS = 10
ROWS = """
SELECT (SELECT sum(pg_column_size(e.*)) FROM noetl.event e WHERE execution_id = ANY (CAST(:ids AS bigint[]))),
    (SELECT count(*) FROM noetl.event e WHERE execution_id = ANY (CAST(:ids AS bigint[]))),
    (SELECT sum(pg_column_size(x.*)) FROM noetl.execution x WHERE execution_id = ANY (CAST(:ids AS bigint[])))
"""
TABLES = """
SELECT relname, pg_total_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = 'noetl' AND relkind = 'r'
"""


async def log_size(bench: Bench) -> list[Result]:
    """`value`: bytes of WAL per step, over 10 chains of 100 steps; `rows`: bytes of the rows that stay."""
    await bench.client.register(playbooks.chain("log_size", LENGTH))
    await bench.client.run("bench/log_size")
    tables, wal = _tables(bench), bench.wal()
    before = bench.database.run("SELECT wal_records, wal_fpi, wal_bytes FROM pg_stat_wal")[0]
    ends = [await bench.client.run("bench/log_size", pause=0.1) for _ in range(CHAINS)]
    wal = bench.wal() - wal
    after = bench.database.run("SELECT wal_records, wal_fpi, wal_bytes FROM pg_stat_wal")[0]
    steps = LENGTH * CHAINS
    rows = bench.database.run(ROWS, ids=[int(end.execution_id) for end in ends])[0]
    extra: dict[str, Any] = {
        "rows": (int(rows[0]) + int(rows[2])) / steps,
        "event_bytes": int(rows[0]) / int(rows[1]),
        "events_per_step": int(rows[1]) / steps,
        "execution_bytes": int(rows[2]) / CHAINS,
        "wal_records": (int(after[0]) - int(before[0])) / steps,
        "full_page_images": (int(after[1]) - int(before[1])) / steps,
        "relations": {name: (size - tables.get(name, 0)) / steps for name, size in _tables(bench).items() if size},
    }
    return [Result("log_size", wal / steps, "bytes of WAL/step", None, extra)]


def _tables(bench: Bench) -> dict[str, int]:
    """With their indexes."""
    return {str(name): int(size) for name, size in bench.database.run(TABLES)}
