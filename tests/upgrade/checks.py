"""What became of everything: each execution ended as its playbook says, each effect happened, nothing is left over."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from tests.audit import audit
from tests.log_rules import Finding

from noetl_serverless.error_codes import spellings

from . import apart, rebuilding
from .bed import Bed, Refused
from .playbooks import BY_NAME as OTHERS
from .playbooks import CREDENTIAL, SECRET
from .store import SCHEDULES, Given, Manifest

THREADS = 4
BY_NAME = OTHERS | {kind.name: kind for kind in apart.KINDS}

LEFT = {
    "facts wait to be decided": "SELECT execution_id, format('%s %s', type, step) FROM noetl.inbox",
    "a command is still out": """
        SELECT execution_id, format('%s %s', command_id, status) FROM noetl.outstanding WHERE status <> 'dead'""",
    "a dead letter is gone, or there is one more": """
        SELECT 0, format('%s', count(*)) FROM noetl.command WHERE status = 'dead' HAVING count(*) <> :dead""",
    "a run of a schedule is still owed": """
        SELECT schedule_id, due_at::text FROM noetl.schedule_fire
        WHERE status NOT IN ('started', 'skipped') AND due_at < now() - interval '10 s'""",
    "a schedule started one run twice, or not": """
        SELECT f.schedule_id, f.due_at::text FROM noetl.schedule_fire f LEFT JOIN noetl.execution x
            ON x.idempotency_key = format('schedule:%s:%s', f.schedule_id, extract(epoch FROM f.due_at)::bigint)
        WHERE f.status = 'started' AND x.execution_id IS DISTINCT FROM f.execution_id
            AND NOT EXISTS (SELECT FROM noetl.archived a WHERE a.execution_id = f.execution_id)""",
    "an execution that its schedule did not owe": """
        SELECT x.execution_id, x.idempotency_key FROM noetl.execution x LEFT JOIN noetl.schedule_fire f
            ON x.execution_id = f.execution_id OR (f.status = 'open'
                AND x.idempotency_key = format('schedule:%s:%s', f.schedule_id, extract(epoch FROM f.due_at)::bigint))
        WHERE x.idempotency_key LIKE 'schedule:%' AND f.schedule_id IS NULL""",
    "nobody started it": """
        SELECT execution_id, coalesce(idempotency_key, 'without a key') FROM noetl.execution
        WHERE parent_execution_id IS NULL AND coalesce(idempotency_key, '') !~ '^(request:upgrade|schedule:)'""",
    "a child runs on, its parent has ended": """
        SELECT c.execution_id, 'of ' || p.execution_id FROM noetl.execution c
        JOIN noetl.execution p ON p.execution_id = c.parent_execution_id
        WHERE p.status <> 'RUNNING' AND c.status = 'RUNNING'""",
}


def everything(bed: Bed, url: str, given: Sequence[Given], manifest: Manifest) -> list[Finding]:
    """Once all have ended, and while the new release's control plane, at `url`, still runs."""
    for name in SCHEDULES:
        bed.call(url, "POST", f"/api/schedules/{name}/disable")
    return [
        *ends(bed, url, given, manifest),
        *effects(bed, given),
        *left_over(bed, manifest),
        *schedules(bed),
        *results(bed),
        *apart.logs(bed, given),
        *decided(bed, given),
    ]


def decided(bed: Bed, given: Sequence[Given]) -> list[Finding]:
    """The rules of every log. What the older release decided, the newer need not decide in the same words."""
    ours = {one.execution_id for one in given if one.begun == "forward"}
    again = "a fact is not decided as the playbook says, once"
    twice = {one.execution_id for one in given if one.kind == apart.TWICE.name}
    return [
        one
        for one in audit(bed.database_url)
        if (one.rule != again or one.execution_id in ours)
        and (one.rule != "a command is closed twice" or one.execution_id not in twice)
    ]


def ends(bed: Bed, url: str, given: Sequence[Given], manifest: Manifest) -> list[Finding]:
    """Every one is there, ended as its kind does, with the result of its kind."""
    sql = "SELECT execution_id::text, status, result, error FROM noetl.execution"
    there = {id: (status, result, error) for id, status, result, error in bed.query(sql)}
    found = []
    for one in given:
        kind = BY_NAME[one.kind]
        if one.execution_id not in there:
            if one.execution_id not in manifest.archived:
                found.append(Finding(one.execution_id, "it is lost", str(one)))
            continue
        status, result, error = there[one.execution_id]
        if status != kind.end:
            found.append(Finding(one.execution_id, "it ends otherwise", f"{one}: {status}, not {kind.end}: {error}"))
        elif kind.error and kind.error not in spellings((error or {}).get("code", "")):
            found.append(Finding(one.execution_id, "it fails for another reason", f"{one}: {error}"))
        elif (expected := kind.result(one.n)) is not None and result != {"data": expected}:
            detail = f"{one}: {str(result)[:300]}, not {str(expected)[:300]}"
            found.append(Finding(one.execution_id, "its result is another", detail))
    return found


def effects(bed: Bed, given: Sequence[Given]) -> list[Finding]:
    """Each happened, under one idempotency key if more than once; none that the playbook does not have."""
    found = []
    happened: dict[int, dict[str, list[str]]] = {}
    for (n, name), keys in bed.effects.seen.items():
        happened.setdefault(n, {})[name] = keys
    for one in given:
        names = happened.pop(one.n, {})
        expected = set(BY_NAME[one.kind].effects)
        for name in sorted(expected - names.keys()):
            found.append(Finding(one.execution_id, "an effect did not happen", f"{name} of {one}"))
        for name in sorted(names.keys() - expected):
            found.append(Finding(one.execution_id, "an effect that its playbook does not have", f"{name} of {one}"))
        for name, keys in names.items():
            if len(set(keys)) > 1:
                found.append(Finding(one.execution_id, "an effect happened twice", f"{name} of {one}: {keys}"))
    return found + [Finding("", "an effect of nobody", f"{n}: {sorted(names)}") for n, names in happened.items()]


def left_over(bed: Bed, manifest: Manifest) -> list[Finding]:
    found = []
    for rule, sql in LEFT.items():
        values = {"dead": manifest.rows["command"]["dead"]} if ":dead" in sql else {}
        found += [Finding(str(id), rule, str(detail)) for id, detail in bed.query(sql, **values)]
    return found


def schedules(bed: Bed) -> list[Finding]:
    """On its beat, each due time once; none is lost of the one that catches up."""
    found = []
    for name, asked in SCHEDULES.items():
        interval = asked.get("interval_seconds")
        rows = bed.query(
            """SELECT extract(epoch FROM due_at)::bigint, extract(epoch FROM created_at)::bigint
            FROM noetl.schedule_fire JOIN noetl.schedule USING (schedule_id) WHERE name = :name ORDER BY due_at""",
            name=name,
        )
        due = [at for at, _ in rows]
        if not asked.get("enabled", True) and due:
            found.append(Finding("", "a schedule runs that is off", name))
        if interval is None or not asked.get("enabled", True):
            continue
        if len(due) < 5:
            found.append(Finding("", "a schedule does not run", f"{name}: {due}"))
        if any((at - anchor) % interval for at, anchor in rows):
            found.append(Finding("", "a schedule runs off its beat", f"{name}: {due}"))
        # between the dump and its restoration nothing was due
        gaps = [(one, other) for one, other in pairwise(due) if other - one > interval]
        if asked["missed_policy"] == "catch_up" and len(gaps) > 1:
            found.append(Finding("", "a schedule has lost runs", f"{name}: between {gaps}"))
    return found


def results(bed: Bed) -> list[Finding]:
    """Every reference leads to the bytes that were written."""
    found = []
    for id, key, size, sha256 in bed.query("SELECT execution_id::text, key, bytes, sha256 FROM noetl.result_ref"):
        path = bed.results / key
        if not path.exists():
            found.append(Finding(id, "a reference without its object", key))
        elif path.stat().st_size != size or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            found.append(Finding(id, "an object is not what its reference says", key))
    return found


def readable(bed: Bed, url: str, who: str, manifest: Manifest) -> list[Finding]:
    """What a control plane shows of the archive, the credential and the schedules."""
    found = []
    for id, events in manifest.archived.items():
        try:
            entry = bed.call(url, "GET", f"/api/executions/{id}?include_events=false")
            log = bed.call(url, "GET", f"/api/executions/{id}/events?limit=1000")
            if entry["status"] == "RUNNING" or len(log) != events:
                found.append(Finding(id, f"{who} reads an archived execution otherwise", f"{entry}, {len(log)} events"))
        except Refused as error:
            found.append(Finding(id, f"{who} does not read an archived execution", str(error)))
    try:
        data = bed.call(url, "GET", f"/api/credentials/{CREDENTIAL}?include_data=true")["data"]
        names = {entry["name"] for entry in bed.call(url, "GET", "/api/schedules")["items"]}
        bed.call(url, "GET", "/api/executions?page_size=1000")
    except Refused as error:
        return [*found, Finding("", f"{who} turns a client away", str(error))]
    if data != SECRET:
        found.append(Finding("", f"{who} reads another credential", str(data)))
    if names != SCHEDULES.keys():
        found.append(Finding("", f"{who} reads other schedules", str(names)))
    return found


def valid(bed: Bed, url: str, who: str, ended: Sequence[Given], manifest: Manifest) -> list[Finding]:
    """`noetls replay --validate`: every projected row is what the log says."""
    ids = [one.execution_id for one in ended if one.execution_id not in manifest.archived]
    with ThreadPoolExecutor(THREADS) as threads:
        return [finding for some in threads.map(lambda id: _validate(bed, url, who, id), ids) for finding in some]


def _validate(bed: Bed, url: str, who: str, id: str) -> list[Finding]:
    try:
        differences: Collection[Any] = bed.call(url, "GET", f"/api/replay/validate?execution_id={id}")["differences"]
    except Refused as error:
        return [Finding(id, f"{who} cannot replay it", str(error))]
    return [Finding(id, f"{who}: a projection is not the log's", str(difference)) for difference in differences]


def exceptions(bed: Bed) -> list[Finding]:
    """What the functions have logged that none of them expects: each with how often, and where it was raised."""
    raised: Counter[tuple[str, str]] = Counter()
    for log in sorted(bed.logs.glob("*_*.log")):
        for line in log.read_text(errors="replace").splitlines():
            if not line.startswith("{") or rebuilding.REFUSED in line:
                continue
            if (entry := json.loads(line)).get("exception"):
                trace = entry["exception"].strip().splitlines()
                places = [part.strip() for part in trace if part.lstrip().startswith("File ")]
                where = places[-1].rpartition("noetl_serverless/")[2] if places else ""
                raised[log.stem.replace("_", " ", 1), f"{entry['message']}: {trace[-1][:300]} ({where})"] += 1
    return [Finding("", f"{who} raises", f"{times} times: {what}") for (who, what), times in sorted(raised.items())]


def stuck(bed: Bed, given: Given) -> str:
    """Where an execution stands that should have ended."""
    id = int(given.execution_id)
    commands = bed.query(
        "SELECT command_id, status, deliveries, worker FROM noetl.outstanding WHERE execution_id = :id", id=id
    )
    inbox = bed.query("SELECT type, step FROM noetl.inbox WHERE execution_id = :id", id=id)
    last = bed.query(
        "SELECT seq, type, step FROM noetl.event WHERE execution_id = :id ORDER BY seq DESC LIMIT 3", id=id
    )
    return f"{given}: out {commands}, inbox {inbox}, last {last}"
