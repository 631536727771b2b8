"""idle: a stack with nothing to do."""

from __future__ import annotations

import asyncio

from ..result import Result
from ..stack import Bench

SECONDS = 60.0
# statements of a session that is not ours: each is a transaction of its own, as all in the engine are
COUNT = """
SELECT xact_commit + xact_rollback, pg_database_size(datname) FROM pg_stat_database WHERE datname = current_database()
"""


async def idle(bench: Bench) -> list[Result]:
    """`value`: percent of one core, all processes of the stack together."""
    seconds = float(bench.options.get("seconds") or SECONDS)
    # let the drains end, and the statistics of what came before arrive
    await asyncio.sleep(5)
    transactions, size = bench.database.run(COUNT)[0]
    before, wal = bench.meter.read(), bench.wal()
    await asyncio.sleep(seconds)
    usage, wal = bench.meter.since(before), bench.wal() - wal
    # sessions tell the statistics of theirs once a second at most
    after, size_after = bench.database.run(COUNT)[0]
    extra = {
        "seconds": seconds,
        "cpu_ms": usage.cpu_ms,
        "transactions_per_s": (int(after) - int(transactions) - 3) / seconds,
        "database_grew_bytes": int(size_after) - int(size),
        "wal_bytes": wal,
        "peak_mb": usage.peak_mb,
        "others_cores": usage.others,
    }
    return [Result("idle", 100 * usage.total_ms / 1000 / usage.seconds, "% of a core", None, extra)]
