"""Who uses the stack all the while: starts executions, cancels some, lets schedules start others."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.e2e.faults import eventually
from tests.log_rules import Finding

from .kinds import BY_NAME, KINDS, TEXTS, Kind
from .stack import ChaosStack
from .standing import standing

THREADS = 8
# how many may run at once, beyond which nothing is started until some have ended
MAX_RUNNING = 150
# how often an execution is started under its key once more, as by a client that has lost the answer
TWICE = 0.1
# seconds until one is cancelled
PATIENCE = (0.2, 10.0)
LOOK = 0.5
# name -> its interval in seconds and what becomes of missed runs
SCHEDULES = {"often": (2, "catch_up"), "seldom": (3, "fire_once"), "skipping": (2, "skip")}


@dataclass(frozen=True, slots=True)
class Accepted:
    """An execution that the control plane has said yes to."""

    execution_id: str
    kind: Kind
    payload: dict[str, Any]


class Users:
    """`rate`: how many executions they start in a second, at most. Made and ended while the stack is well."""

    def __init__(self, stack: ChaosStack, seed: int, rate: float, kinds: Sequence[Kind] = KINDS) -> None:
        self.accepted: list[Accepted] = []
        self.findings: list[Finding] = []
        self._stack = stack
        self._seed = seed
        self._rate = rate
        self._bag = [kind for kind in kinds for _ in range(kind.weight)]
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._running = 0
        # (instant, id) of those that are to be cancelled
        self._doomed: list[tuple[float, str]] = []
        self._threads: list[threading.Thread] = []

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Until the end of the block; what is to be cancelled is cancelled by then."""
        for text in TEXTS:
            self._stack.register(text)
        for name, (interval, missed) in SCHEDULES.items():
            body = {"playbook_path": "chaos/tick", "name": name, "interval_seconds": interval, "missed_policy": missed}
            self._stack.call("POST", "/api/schedules", body)
        works = [self._look, self._cancel, *[self._start] * THREADS]
        self._threads = [threading.Thread(target=self._until_stopped, args=(work,)) for work in works]
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()
        try:
            # in a short time nobody may have come to the first: of one that is disabled then nothing is owed
            eventually(self._all_schedules_ran)
            for name in SCHEDULES:
                self._stack.call("POST", f"/api/schedules/{name}/disable")
            for _, execution_id in self._doomed:
                self._cancel_now(execution_id)
        except Exception as error:
            # all is well again, and should have been for long
            self._found("", "a client is turned away at the end", f"{error!r}\n{standing(self._stack)}")

    def _all_schedules_ran(self) -> bool:
        sql = "SELECT count(DISTINCT schedule_id) FROM noetl.schedule_fire"
        return bool(self._stack.query(sql)[0][0] == len(SCHEDULES))

    def _until_stopped(self, work: Any) -> None:
        while not self._stop.is_set():
            try:
                work()
            except Exception as error:
                # a client that is patient, and is refused or not answered all the same
                self._found("", "a client is turned away", repr(error))
                self._stop.wait(LOOK)

    def _start(self) -> None:
        number = next(self._numbers)
        self._stop.wait(max(0.0, self._began + number / self._rate - time.monotonic()))
        while self._running >= MAX_RUNNING and not self._stop.is_set():
            self._stop.wait(LOOK)
        if self._stop.is_set():
            return
        rng = random.Random(f"{self._seed} {number}")
        kind = rng.choice(self._bag)
        payload = kind.payload(number) | ({"url": self._stack.effects.url} if kind.effects else {})
        key = f"chaos {self._seed} {number}"
        execution_id = self._stack.execute(kind.path, payload, key=key)
        with self._lock:
            self.accepted.append(Accepted(execution_id, kind, payload))
            if kind.endless:
                heapq.heappush(self._doomed, (time.monotonic() + rng.uniform(*PATIENCE), execution_id))
        if rng.random() < TWICE and (again := self._stack.execute(kind.path, payload, key=key)) != execution_id:
            self._found(execution_id, "one key starts two", again)

    def _cancel(self) -> None:
        self._stop.wait(0.1)
        with self._lock:
            if not self._doomed or self._doomed[0][0] > time.monotonic():
                return
            _, execution_id = heapq.heappop(self._doomed)
        try:
            self._cancel_now(execution_id)
        except Exception:
            with self._lock:
                heapq.heappush(self._doomed, (time.monotonic(), execution_id))
            raise

    def _cancel_now(self, execution_id: str) -> None:
        self._stack.call("POST", f"/api/executions/{execution_id}/cancel", {"reason": "enough"})

    def _look(self) -> None:
        self._stop.wait(LOOK)
        # while the database is away nobody knows
        with contextlib.suppress(Exception):
            ((self._running,),) = self._stack.query("SELECT count(*) FROM noetl.execution WHERE status = 'RUNNING'")

    def _found(self, execution_id: str, rule: str, detail: str) -> None:
        with self._lock:
            self.findings.append(Finding(execution_id, rule, detail))


def kind_of(path: str) -> str:
    return path.removeprefix("chaos/") if path.removeprefix("chaos/") in BY_NAME else path
