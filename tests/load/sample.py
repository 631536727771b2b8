"""What the stack holds at one moment: memory, connections, what waits, and what its tables take."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass

import nats
import nats.js.errors
import psutil
from nats.aio.client import Client
from tests.benchmarks.result import percentile
from tests.benchmarks.stack import Bench

from .growth import Bound

STREAM = "NOETL_COMMANDS"
MB = 2**20
# tables that hold what is under way, and so must not grow; and all, which grow with the events
PASSING = ("command", "inbox")
# below so many rows a table is not worth a vacuum
FEW = 1000
TABLES = """
    SELECT CASE WHEN s.relname LIKE 'event%' THEN 'event' ELSE s.relname END, sum(pg_relation_size(s.relid)),
        sum(pg_indexes_size(s.relid)), sum(s.n_live_tup), sum(s.n_dead_tup)
    FROM pg_stat_user_tables s WHERE s.schemaname = 'noetl' GROUP BY 1"""
# of executions that ended lately: how long they took
ENDED = """
    SELECT extract(epoch FROM ended_at - created_at)::float8 FROM noetl.execution
    WHERE ended_at > now() - make_interval(secs => :seconds)"""
COUNTS = """
    SELECT (SELECT count(*) FROM noetl.execution WHERE status = 'RUNNING'),
        (SELECT count(*) FROM noetl.outstanding WHERE status IN ('pending', 'claimed')),
        (SELECT count(*) FROM noetl.inbox),
        (SELECT coalesce(max(extract(epoch FROM now() - issued_at)), 0)::float8 FROM noetl.outstanding
         WHERE status = 'pending'),
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
        (SELECT coalesce(sum(n_tup_ins), 0)::bigint FROM pg_stat_user_tables
         WHERE schemaname = 'noetl' AND relname LIKE 'event%')"""

# what each figure may grow by, by the beginning of its name; memory in MB
BOUNDS = {
    # a third of the caches may fill late, and an allocator keeps what it once had
    "memory of": Bound(1.15, 24.0),
    # each of its processes keeps open what it has once read, up to max_files_per_process
    "files of postgres": Bound(1.0, 1000),
    "files of": Bound(1.2, 12),
    "connections": Bound(1.0, 2),
    "executions that run": Bound(1.5, 20),
    "commands that are out": Bound(1.5, 30),
    "facts that wait": Bound(1.5, 10),
    "pointers that wait": Bound(1.5, 50),
    "seconds that the oldest command waits": Bound(1.5, 0.5),
    "seconds of an execution": Bound(1.5, 0.3),
    "bytes of tables per event": Bound(1.1, 0),
    "bytes of indexes per event": Bound(1.1, 0),
    "MB of the table": Bound(1.5, 4),
    "dead rows per row": Bound(1.25, 0.1),
}


def bound_of(name: str) -> Bound:
    return next(bound for beginning, bound in BOUNDS.items() if name.startswith(beginning))


@dataclass(slots=True)
class Sampler:
    """`seconds`: how long between two samples."""

    bench: Bench
    nats: Client
    seconds: float

    async def sample(self) -> dict[str, float]:
        """Name -> value; the names are those of BOUNDS, and "events"."""
        return {**self._processes(), **self._database(), **await self._bus()}

    def _processes(self) -> dict[str, float]:
        """Memory that belongs to nobody else: PostgreSQL's shared buffers fill up, and are bounded by a setting."""
        memory: defaultdict[str, float] = defaultdict(float)
        files: defaultdict[str, float] = defaultdict(float)
        for part, process in self.bench.meter.processes():
            with contextlib.suppress(psutil.Error):
                memory[f"memory of {part}"] += process.memory_full_info().uss / MB
                files[f"files of {part}"] += process.num_fds()
        return {**memory, **files}

    def _database(self) -> dict[str, float]:
        ((running, out, facts, oldest, connections, events),) = self.bench.database.run(COUNTS)
        took = [row[0] for row in self.bench.database.run(ENDED, seconds=self.seconds)]
        found = {
            "events": events,
            "executions that run": running,
            "commands that are out": out,
            "facts that wait": facts,
            "seconds that the oldest command waits": oldest,
            "connections": connections,
        }
        if took:
            found["seconds of an execution (median)"] = percentile(took, 0.5)
            found["seconds of an execution (95 %)"] = percentile(took, 0.95)
        return found | self._tables(max(events, 1))

    def _tables(self, events: int) -> dict[str, float]:
        rows = self.bench.database.run(TABLES)
        found = {
            "bytes of tables per event": float(sum(row[1] for row in rows)) / events,
            "bytes of indexes per event": float(sum(row[2] for row in rows)) / events,
        }
        for name, size, indexes, live, dead in rows:
            if name in PASSING:
                found[f"MB of the table {name} and its indexes"] = float(size + indexes) / MB
            elif live > FEW:
                found[f"dead rows per row of {name}"] = float(dead) / max(1.0, float(live))
        return found

    async def _bus(self) -> dict[str, float]:
        try:
            consumers = await self.nats.jetstream().consumers_info(STREAM)
        except nats.js.errors.NotFoundError:
            return {"pointers that wait": 0}
        return {"pointers that wait": sum((one.num_pending or 0) + (one.num_ack_pending or 0) for one in consumers)}


@contextlib.asynccontextmanager
async def sampler(bench: Bench, seconds: float) -> AsyncIterator[Sampler]:
    client = await nats.connect(bench.run["nats_url"])
    try:
        yield Sampler(bench, client, seconds)
    finally:
        await client.close()
