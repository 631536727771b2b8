"""What became of it all, once everything has ended: nothing lost, doubled, stuck, leaked or left over."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from tests.audit import audit
from tests.e2e.faults import eventually
from tests.log_rules import Finding

from noetl_serverless.bus.connection import NatsConnection
from noetl_serverless.bus.nats_results import NatsResultStore
from noetl_serverless.ports import ResultStore
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.store.database import Database
from noetl_serverless.store.keychain import FETCH_SECONDS
from noetl_serverless.store.result_objects import PostgresResultStore
from noetl_serverless.store.schedule_runs import RUN_LEASE

from .clocks import SKEW
from .effects import Effect
from .predictions import effects_of, prediction_of
from .stack import LEASE, ChaosStack
from .users import SCHEDULES, Accepted

# seconds in which at least one event must come while something is under way
STILL = 45.0
# and while all that is left is runs of schedules: a reconciler that was killed may have leased them a moment before
STILL_OWED = RUN_LEASE.total_seconds() + 15.0
# and while a secret is fetched: by a worker that was killed, say, instead of which nobody fetches it meanwhile
STILL_FETCHED = FETCH_SECONDS + 15.0
FETCHING = "SELECT count(*) FROM noetl.keychain WHERE fetching_until > now() - interval '15 seconds'"
# connections of an instance that has nothing to do, in the two functions that have any
CONNECTIONS = 2 * 4
THREADS = 3
# of each worker that runs, and of one that was killed after that one's start
FOLDERS = 2
# of what the engine gives up, whatever the playbook says: its code, within the error of a step or an item
# and with what a claim fails while the server of the users is away: nothing tries it again
ACCIDENTS = (
    "command.delivery_limit",
    "worker.time_budget",
    "postgres.connection",
    "postgres.timeout",
    "postgres.error",
)
# seconds after its end in which an execution may still have an effect: until a worker that was paused, and holds a
# command of it, has heard that the lease is over; by two clocks
GRACE = LEASE + 7.0 + 2.0 + 2 * SKEW

# how the keys of what is being written end, or was when its writer was killed
UNFINISHED = (".tmp", ".upload")

RUNNING = "SELECT execution_id::text FROM noetl.execution WHERE status = 'RUNNING'"
UNSETTLED = {
    "a command is still held": """
        SELECT execution_id, format('%s %s', command_id, status) FROM noetl.outstanding WHERE status <> 'dead'""",
    "facts wait to be decided": "SELECT execution_id, format('%s %s', type, step) FROM noetl.inbox",
    "a run of a schedule is still owed": """
        SELECT schedule_id, due_at::text FROM noetl.schedule_fire WHERE status NOT IN ('started', 'skipped')""",
}
KINSHIP = {
    "a child's execution is missing": """
        SELECT e.execution_id, e.payload->>'execution_id' FROM noetl.event e LEFT JOIN noetl.execution c
            ON c.execution_id = (e.payload->>'execution_id')::bigint AND c.parent_execution_id = e.execution_id
        WHERE e.type = 'child.started' AND c.execution_id IS NULL""",
    "a child that no parent started": """
        SELECT c.execution_id, 'of ' || c.parent_execution_id FROM noetl.execution c LEFT JOIN noetl.event e
            ON e.execution_id = c.parent_execution_id AND e.type = 'child.started'
            AND e.payload->>'execution_id' = c.execution_id::text
        WHERE c.parent_execution_id IS NOT NULL AND e.seq IS NULL""",
    "its parent has ended, it has not": """
        SELECT c.execution_id, 'of ' || p.execution_id FROM noetl.execution c
        JOIN noetl.execution p ON p.execution_id = c.parent_execution_id
        WHERE p.status <> 'RUNNING' AND c.status = 'RUNNING'""",
    "nobody started it": """
        SELECT execution_id, coalesce(idempotency_key, 'without a key') FROM noetl.execution
        WHERE parent_execution_id IS NULL AND coalesce(idempotency_key, '') !~ '^(request:chaos|schedule:)'""",
    "a run of a schedule without its execution": """
        SELECT f.schedule_id, f.due_at::text FROM noetl.schedule_fire f LEFT JOIN noetl.execution x
            ON x.execution_id = f.execution_id
            AND x.idempotency_key = format('schedule:%s:%s', f.schedule_id, extract(epoch FROM f.due_at)::bigint)
        WHERE f.status = 'started' AND x.execution_id IS NULL""",
    "two runs of a schedule, one execution": """
        SELECT min(schedule_id), execution_id::text FROM noetl.schedule_fire WHERE execution_id IS NOT NULL
        GROUP BY execution_id HAVING count(*) > 1""",
    "an execution that its schedule did not owe": """
        SELECT x.execution_id, x.idempotency_key FROM noetl.execution x LEFT JOIN noetl.schedule_fire f
            ON x.execution_id = f.execution_id
        WHERE x.idempotency_key LIKE 'schedule:%' AND f.schedule_id IS NULL""",
}


@dataclass(frozen=True, slots=True)
class Orphans:
    """Files without a row are what killed workers wrote and could not report; they go with the execution's results."""

    unregistered: int
    unfinished: int


# -- waiting for the end


def settle(stack: ChaosStack) -> list[Finding]:
    """Wait until all has ended. What stands still for STILL seconds is stuck; runs of schedules, for STILL_OWED; and
    what may wait for a secret, for STILL_FETCHED."""
    before: Any = None
    changed = time.monotonic()
    while True:
        running = [
            str(id) for (id,) in stack.query("SELECT execution_id FROM noetl.execution WHERE status = 'RUNNING'")
        ]
        due = stack.query("SELECT count(*) FROM noetl.schedule_fire WHERE status = 'open'")[0][0]
        if not running and not due:
            return []
        now = stack.query("SELECT count(*), max(at) FROM noetl.event")
        if now != before:
            before, changed = now, time.monotonic()
        still = (STILL_FETCHED if stack.query(FETCHING)[0][0] else STILL) if running else STILL_OWED
        if time.monotonic() - changed > still:
            found = [Finding(id, "it does not end", stack.stuck([id])) for id in running[:20]]
            if len(running) > 20:
                found.append(Finding("", "they do not end", f"{len(running) - 20} more"))
            return found or [Finding("", "a schedule does not start", f"{due} runs")]
        time.sleep(0.5)


# -- each execution


@dataclass(frozen=True, slots=True)
class End:
    """How an execution stands in the database; `at`: seconds since 1970, `given_up`: the engine gave up a command of it
    or of a child."""

    path: str
    status: str
    result: Any
    error: Any
    at: float
    given_up: bool


def ends_of(stack: ChaosStack) -> dict[str, End]:
    rows = stack.query(
        """SELECT execution_id::text, path, status, result, error, coalesce(extract(epoch FROM ended_at), 0)::float8,
            parent_execution_id::text FROM noetl.execution"""
    )
    given_up = _given_up(stack, {row[0]: row[6] for row in rows})
    return {id: End(path, status, result, error, at, id in given_up) for id, path, status, result, error, at, _ in rows}


def _given_up(stack: ChaosStack, parents: Mapping[str, str | None]) -> set[str]:
    """Those with an accident, and their parents."""
    found: set[str] = set()
    for code in ACCIDENTS:
        rows = stack.query(
            """SELECT DISTINCT execution_id::text FROM noetl.event
            WHERE type IN ('call.error', 'frame.committed') AND payload::text ~ :pattern""",
            # as it was written, with or without a space
            pattern=f'"code": ?"{re.escape(code)}"',
        )
        for (id,) in rows:
            one: str | None = id
            while one is not None:
                found.add(one)
                one = parents.get(one)
    return found


def ends(accepted: Sequence[Accepted], there: Mapping[str, End]) -> list[Finding]:
    """Every accepted execution is there, and ended as the oracle says: its status, its result or its error."""
    found: list[Finding] = []
    for one in accepted:
        end = there.get(one.execution_id)
        if end is None:
            found.append(Finding(one.execution_id, "it was accepted and is not there", one.kind.name))
        elif end.path != one.kind.path:
            found.append(Finding(one.execution_id, "it is another", f"{end.path}, not {one.kind.path}"))
        elif (wrong := _otherwise(one, end)) and not (end.given_up and end.status == "FAILED"):
            found.append(Finding(one.execution_id, *wrong))
    twice = [id for id, times in Counter(one.execution_id for one in accepted).items() if times > 1]
    return found + [Finding(id, "two requests started one", "they had different keys") for id in twice]


def _otherwise(one: Accepted, end: End) -> tuple[str, str] | None:
    """In what it ended otherwise than the oracle says."""
    if one.kind.endless:
        expected = "CANCELLED"
    else:
        prediction = prediction_of(one.kind, one.payload, one.execution_id)
        expected = prediction.status.upper()
    if end.status != expected:
        return "it ends otherwise", f"{end.path} {end.status}, not {expected}: {end.error}"
    if expected == "COMPLETED" and end.result != {"data": prediction.result}:
        return "its result is another", f"{end.path}: {str(end.result)[:300]}, not {str(prediction.result)[:300]}"
    if expected == "FAILED" and (parts := _other_parts(end.error, prediction.error or {})):
        return "its error is another", f"{end.path}: {parts}"
    return None


def _other_parts(error: Any, prediction: Mapping[str, Any]) -> str:
    names = ["code", "step"]
    if prediction["code"] in ("python.exception", "loop.item_failed"):
        names.append("message")
    return "; ".join(
        f"{name} {(error or {}).get(name)!r}, not {prediction.get(name)!r}"
        for name in names
        if (error or {}).get(name) != prediction.get(name)
    )


def effects(accepted: Sequence[Accepted], there: Mapping[str, End], seen: Iterable[Effect]) -> list[Finding]:
    """Each effect at least once and under one key that is its own, none that the playbook does not have, and none once
    the execution has ended."""
    ours = {one.execution_id: one for one in accepted if one.kind.effects}
    found: list[Finding] = []
    by_execution: defaultdict[str, list[Effect]] = defaultdict(list)
    for effect in seen:
        by_execution[effect.execution_id].append(effect)
    for id in sorted(by_execution.keys() - ours.keys()):
        found.append(Finding(id, "an effect of an execution that has none", by_execution[id][0].name))
    for id, one in ours.items():
        had, end = by_execution[id], there.get(id)
        found += [Finding(id, rule, detail) for rule, detail in _keys(had)]
        if end is None:
            continue
        for effect in had:
            if effect.at > end.at + GRACE:
                found.append(Finding(id, "an effect after the end", f"{effect.name}, {effect.at - end.at:.1f} s after"))
        completed = end.status == "COMPLETED"
        prediction = effects_of(prediction_of(one.kind, one.payload, id)) if completed else _turns(had)
        names = {effect.name for effect in had}
        for name in sorted(set(prediction) - names):
            found.append(Finding(id, "an effect is missing", name))
        if not end.given_up:
            for name in sorted(names - set(prediction)):
                found.append(Finding(id, "an effect that nobody asked for", name))
    return found


def _keys(effects: Collection[Effect]) -> Iterator[tuple[str, str]]:
    keys, names = defaultdict(set), defaultdict(set)
    for effect in effects:
        keys[effect.name].add(effect.key)
        names[effect.key].add(effect.name)
        if not effect.key:
            yield "an effect without a key", effect.name
    for name, several in keys.items():
        if len(several) > 1:
            yield "one effect under several keys", f"{name}: {', '.join(sorted(several))}"
    for key, several in names.items():
        if key and len(several) > 1:
            yield "one key for several effects", f"{key}: {', '.join(sorted(several))}"


def _turns(effects: Collection[Effect]) -> list[str]:
    """Of one that has an effect in each turn until it is ended: those up to the last."""
    turns = [effect.name for effect in effects if effect.name.startswith("turn/")]
    last = max((int(name.removeprefix("turn/")) for name in turns), default=-1)
    return [f"turn/{turn}" for turn in range(last + 1)]


def logs(stack: ChaosStack) -> list[Finding]:
    """The rules of every log, decided once more, and the projections beside it, by REST too."""
    ids = [row[0] for row in stack.query("SELECT execution_id::text FROM noetl.execution ORDER BY execution_id")]
    found = audit(stack.database_url)
    with ThreadPoolExecutor(THREADS) as threads:
        for some in threads.map(stack.audit_answers, (ids[start::THREADS] for start in range(THREADS))):
            found += some
    return found


def kinship(stack: ChaosStack) -> list[Finding]:
    return _ask(stack, KINSHIP)


def schedules(stack: ChaosStack) -> list[Finding]:
    """Every due time from the first to the last, once, where missed runs are caught up with; others at most once."""
    found: list[Finding] = []
    for name, (interval, missed) in SCHEDULES.items():
        rows = stack.query(
            """SELECT extract(epoch FROM due_at)::bigint FROM noetl.schedule_fire
            JOIN noetl.schedule USING (schedule_id) WHERE name = :name ORDER BY due_at""",
            name=name,
        )
        due = [row[0] for row in rows]
        if not due:
            found.append(Finding("", "a schedule never ran", name))
            continue
        if any((at - due[0]) % interval for at in due):
            found.append(Finding("", "a schedule ran off its beat", f"{name}: {due}"))
        lost = sorted(set(range(due[0], due[-1] + 1, interval)) - set(due))
        if missed == "catch_up" and lost:
            at = ", ".join(datetime.fromtimestamp(one, UTC).isoformat() for one in lost[:5])
            found.append(Finding("", "a schedule has lost runs", f"{name}: {len(lost)}, as {at}"))
    return found


# -- what is left over


def leaks(stack: ChaosStack) -> list[Finding]:
    """Leases, facts, connections and processes that outlive what they were for."""
    found = _ask(stack, UNSETTLED)
    try:
        eventually(lambda: _connections(stack) <= CONNECTIONS * stack.instances + 2, patience=20)
    except TimeoutError:
        found.append(Finding("", "connections to PostgreSQL are left open", f"{_connections(stack)}"))
    try:
        eventually(lambda: not list(strays(stack)), patience=10)
    except TimeoutError:
        found += [Finding("", "a process is left over", line) for line in strays(stack)]
    # each worker that starts clears up behind those before it
    folders = [path.name for path in (stack.layout.home / "scratch").glob("*-*") if path.is_dir()]
    left = [name for name in folders if not name.startswith("noetls-ipc-")]
    if len(left) > FOLDERS * stack.instances:
        found.append(Finding("", "folders of killed workers are left over", ", ".join(sorted(left))))
    return found


def strays(stack: ChaosStack) -> Iterator[str]:
    """Processes that work below the stack's folder and do not descend from it."""
    run = stack.running
    family = {run["pid"]}
    with contextlib.suppress(psutil.Error):
        family |= {child.pid for child in psutil.Process(run["pid"]).children(recursive=True)}
    home = stack.layout.home.resolve()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in family and process.status() != psutil.STATUS_ZOMBIE:
                place = Path(process.cwd().removesuffix(" (deleted)"))
                # a child of the family may have been born between the two looks
                if place.is_relative_to(home) and process.pid != os.getpid() and process.ppid() not in family:
                    yield f"pid {process.pid}: {' '.join(process.cmdline())[:200]}"


def results(stack: ChaosStack) -> tuple[list[Finding], Orphans]:
    """Every reference leads to the bytes that were written, in its store; what lies there beside is counted."""
    return asyncio.run(_results(stack))


async def _results(stack: ChaosStack) -> tuple[list[Finding], Orphans]:
    found: list[Finding] = []
    registered: defaultdict[str, set[str]] = defaultdict(set)
    known = {row[0] for row in stack.query("SELECT execution_id::text FROM noetl.execution")}
    orphans = Counter[str]()
    async with stores_of(stack) as stores:
        for id, name, key, size, sha256 in stack.query(
            "SELECT execution_id::text, store, key, bytes, sha256 FROM noetl.result_ref ORDER BY execution_id"
        ):
            registered[name].add(key)
            try:
                content = await stores[name].get(key)
            except KeyError:
                found.append(Finding(id, "a reference without its object", f"{name}: {key}"))
                continue
            if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
                found.append(Finding(id, "an object is not what its reference says", f"{name}: {key}"))
        for name, store in stores.items():
            async for key in store.list(""):
                if key in registered[name]:
                    continue
                orphans["unfinished" if key.endswith(UNFINISHED) else "unregistered"] += 1
                if key.split("/")[0] not in known:
                    found.append(Finding("", "an object of no execution", f"{name}: {key}"))
    return found, Orphans(orphans["unregistered"], orphans["unfinished"])


@contextlib.asynccontextmanager
async def stores_of(stack: ChaosStack) -> AsyncIterator[dict[str, ResultStore]]:
    """All that the stack's results go to, past the wires."""
    database, nats = Database(stack.database_url, 2), NatsConnection(stack.servers.direct_nats_url)
    try:
        yield {
            "disk": FsspecResultStore(stack.layout.results.as_uri()),
            "kv": NatsResultStore(nats),
            "postgres": PostgresResultStore(database),
        }
    finally:
        await nats.close()
        await database.close()


def left_in_stores(stack: ChaosStack) -> list[str]:
    """All that is there, finished or not."""
    folder = stack.layout.results

    async def of_kv() -> list[str]:
        async with stores_of(stack) as stores:
            return [f"kv: {key}" async for key in stores["kv"].list("")]

    files = [f"disk: {path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()]
    rows = stack.query("SELECT key FROM noetl.result_object UNION ALL SELECT upload::text FROM noetl.result_chunk")
    return [*files, *asyncio.run(of_kv()), *(f"postgres: {key}" for (key,) in rows)]


def collected(stack: ChaosStack) -> list[Finding]:
    """Once results are due to be deleted, all are, with what killed workers left beside them."""
    stack.down()
    stack.set(result_ttl_days=1e-6)
    stack.up()
    stack.query("UPDATE noetl.chore SET due_at = now() WHERE name = 'results'")

    def fewer(before: int) -> bool:
        return len(left_in_stores(stack)) < before

    # of thousands of executions, one after another: as long as there are fewer and fewer, it goes on
    while before := len(left_in_stores(stack)):
        try:
            eventually(partial(fewer, before), patience=60, pause=0.5)
        except TimeoutError:
            return [Finding("", "an object is never deleted", key) for key in left_in_stores(stack)[:20]]
    return []


def _connections(stack: ChaosStack) -> int:
    return int(stack.query("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")[0][0])


def _ask(stack: ChaosStack, queries: dict[str, str]) -> list[Finding]:
    return [Finding(str(id), rule, str(detail)) for rule, sql in queries.items() for id, detail in stack.query(sql)]
