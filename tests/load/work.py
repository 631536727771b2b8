"""A mix of everything, started as fast as it is taken, or at a given rate; each with the result it must have."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.stack import Bench
from tests.chaos import kinds
from tests.chaos.kinds import Kind
from tests.chaos.predictions import prediction_of

# all that end as soon as they can
MIX = tuple(kind for kind in kinds.KINDS if kind not in (kinds.TIMER, kinds.CANCELLED))
# executions that run at once while the peak is measured: as many as wait where it cannot keep up, for then it is slower
AT_ONCE = 400
LOOK = 0.1
# seconds at the beginning of the measurement of the peak that do not count
RISE = 8.0

RUNNING = "SELECT count(*) FROM noetl.execution WHERE status = 'RUNNING' AND parent_execution_id IS NULL"
ENDED = "SELECT count(*) FROM noetl.execution WHERE status <> 'RUNNING' AND parent_execution_id IS NULL"


class Rising(RuntimeError):
    """The stack does not come to an end with what it was given."""


@dataclass(slots=True)
class Work:
    bench: Bench
    # id -> what it is, and what it was given
    started: dict[str, tuple[Kind, dict[str, Any]]] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)
    _bag: list[Kind] = field(default_factory=lambda: [kind for kind in MIX for _ in range(kind.weight)])

    async def register(self) -> None:
        for text in dict.fromkeys(text for kind in MIX for text in kind.texts):
            await self.bench.client.register(text)

    async def start(self) -> None:
        number = next(self._numbers)
        # a stride without a common divisor goes through the bag evenly, without chance
        kind = self._bag[number * 17 % len(self._bag)]
        payload = kind.payload(number)
        self.started[await self.bench.client.execute(kind.path, payload)] = (kind, payload)

    async def peak(self, seconds: float) -> float:
        """Executions that end in a second, while there is always more to do; of `seconds`, more than RISE."""
        began = time.monotonic()
        ended: list[tuple[float, int]] = []
        while time.monotonic() < began + seconds:
            ended.append((time.monotonic(), self._count(ENDED)))
            missing = AT_ONCE - self._count(RUNNING)
            await asyncio.gather(*(self.start() for _ in range(missing)))
            await asyncio.sleep(LOOK)
        await self.drain()
        start, before = next(look for look in ended if look[0] >= began + RISE)
        at, count = ended[-1]
        return (count - before) / (at - start)

    async def hold(self, rate: float, seconds: float) -> None:
        """Start `rate` of them in a second, whatever becomes of them. Rising if the client cannot keep the pace."""
        began = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(began + number / rate - time.monotonic())
            tasks.add(asyncio.create_task(self.start()))
            for task in [task for task in tasks if task.done()]:
                tasks.discard(task)
                task.result()
            if len(tasks) > 10 * rate:
                raise Rising(f"{len(tasks)} executions wait to be accepted")
        await asyncio.gather(*tasks)

    async def drain(self, patience: float = 120.0) -> None:
        """Until nothing runs. Rising if that takes longer than `patience` seconds."""
        until = time.monotonic() + patience
        while running := self._count(RUNNING):
            if time.monotonic() > until:
                raise Rising(f"{running} executions have not ended after {patience:g} s")
            await asyncio.sleep(LOOK)

    def wrong(self) -> list[str]:
        """Those that did not end as they should."""
        rows = self.bench.database.run("SELECT execution_id::text, status, result, error FROM noetl.execution")
        ended = {id: (status, result, error) for id, status, result, error in rows}
        lines = []
        for id, (kind, payload) in self.started.items():
            status, result, error = ended.get(id, ("missing", None, None))
            prediction = prediction_of(kind, payload, id)
            expected = {"data": prediction.result} if prediction.status == "completed" else None
            if status != prediction.status.upper() or result != expected:
                lines.append(f"{kind.name} {id}: {status} {str(error or result)[:300]}")
        return lines

    def _count(self, sql: str) -> int:
        return int(self.bench.database.run(sql)[0][0])
