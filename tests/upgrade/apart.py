"""Executions that were set apart: what only the newer release does to one that cannot be decided about, or to a fact
that comes twice. The older release meets them afterwards, in every phase.

Their first step is for a worker of ours alone, and it is over before any worker runs: what it reports cannot be
decided, by a fault that is planted in the newer release's engine for as long.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.constructs import BY_TIMER, arcs, call, python, step
from tests.log_rules import Finding

from .bed import Bed, Refused
from .kind import PASS_ON, Kind, effect, gate, playbook
from .release import HERE, Release
from .store import ALIVE, PHASES, Given, Starts, claim

BEGUN = "apart"
NOT_A_WORKERS = python("raise RuntimeError('a worker ran what was not for it')")

# what is out beside the step that cannot be decided is out again after a retry
_TEXT = playbook(
    "apart",
    {**step("split", {"kind": "noop"}), **arcs("inclusive", {"step": "work"}, {"step": "other"})},
    step("work", NOT_A_WORKERS, "join"),
    step("other", effect("other"), "join"),
    step("join", gate(BY_TIMER), "after"),
    step("after", effect("after"), "say"),
    step("say", python("result = {'v': v}", v="{{ work.v }}")),
)
# its child goes on and ends while it stands still
_CHILD = playbook(
    "apart_child",
    step("wait", gate(BY_TIMER, PHASES[0]), "act"),
    step("act", effect("below"), "say"),
    step("say", python("result = {'v': n}", n="{{ workload.n }}")),
)
_PARENT = playbook(
    "apart_parent",
    {**step("split", {"kind": "noop"}), **arcs("inclusive", {"step": "work"}, {"step": "other"})},
    step("work", NOT_A_WORKERS, "join"),
    step("other", call("upgrade/apart_child", PASS_ON), "join"),
    step("join", effect("after"), "say"),
    step("say", python("result = {'v': v, 'below': below}", v="{{ work.v }}", below="{{ other.v }}")),
)


def _kind(name: str, **more: Any) -> Kind:
    return Kind(f"apart_{name}", (_TEXT,), ("other", "after"), lambda n: {"v": n}, **more)


# tried again at once; as late as can be; a fact of it stands in the log twice
RETRIED, RETRIED_LATE, TWICE = _kind("retried"), _kind("retried_late"), _kind("twice")
PARENT = Kind("apart_above", (_CHILD, _PARENT), ("below", "after"), lambda n: {"v": n, "below": n})
CANCELLED = Kind("apart_cancelled", (_TEXT,), (), end="CANCELLED")
DROPPED = Kind("apart_dropped", (_TEXT,), (), end="FAILED", error="engine.undecidable")
KINDS = (RETRIED, RETRIED_LATE, TWICE, PARENT, CANCELLED, DROPPED)
# each with the phase in which it is to have ended
PLAN = (
    *((kind, phase) for kind in (RETRIED, TWICE) for phase in PHASES),
    *((kind, PHASES[-1]) for kind in (RETRIED_LATE, PARENT)),
    *((kind, PHASES[0]) for kind in (CANCELLED, DROPPED)),
)
# the log of these ends once before its end, and who knows no quarantine reads no further
BEYOND = frozenset(kind.name for kind in KINDS) - {TWICE.name}


def set_apart(bed: Bed, url: str, release: Release, starts: Starts) -> list[Given]:
    """By the newer release, while nothing but its control plane runs, at `url`."""
    bed.register(url, dict.fromkeys(text for kind in KINDS for text in kind.texts))
    made, reports = [], []
    for kind, phase in PLAN:
        given = starts(url, kind, phase, BEGUN)
        made.append(given)
        _report(bed, url, given, "split", status="done", data={})
        if kind is PARENT:
            child = {"path": "upgrade/apart_child", "payload": kind.payload(given.n, phase, bed.effects.url)}
            _report(bed, url, given, "other", status="parked", child=child)
        lease = claim(bed, url, given.execution_id, ALIVE, 3600, "work")
        how = "twice" if kind is TWICE else "undecidable"
        reports.append({**lease, "data": {"v": given.n}, "how": how})
    release.run(HERE / "by_release" / "set_apart.py", bed.database_url, json.dumps(reports))
    retry(bed, url, [given for given in made if given.kind == RETRIED.name])
    for given in made:
        if given.kind == DROPPED.name:
            bed.call(url, "DELETE", f"/api/quarantine/{given.execution_id}")
    return made


def retry(bed: Bed, url: str, some: Sequence[Given]) -> None:
    for given in some:
        bed.call(url, "POST", f"/api/quarantine/{given.execution_id}/retry")


def retry_late(bed: Bed, url: str, given: Sequence[Given]) -> None:
    retry(bed, url, [one for one in given if one.kind in (RETRIED_LATE.name, PARENT.name)])


def cancel(bed: Bed, old_url: str, new_url: str, given: Sequence[Given]) -> list[Finding]:
    """To the older release it has ended already; the newer takes it out of quarantine."""
    found = []
    for one in given:
        if one.kind == CANCELLED.name:
            for url, expected in ((old_url, "already_completed"), (new_url, "cancelled")):
                path = f"/api/executions/{one.execution_id}/cancel"
                said = bed.call(url, "POST", path, {"reason": "enough"})["status"]
                if said != expected:
                    found.append(Finding(one.execution_id, "it is cancelled otherwise", f"{said}, not {expected}"))
    return found


def told(bed: Bed, url: str, who: str, given: Sequence[Given]) -> list[Finding]:
    """What a control plane says of them: how they stand, and the log to its end."""
    found = []
    for one in given:
        if one.begun != BEGUN:
            continue
        sql = "SELECT status, head FROM noetl.execution WHERE execution_id = :id"
        try:
            entry = bed.call(url, "GET", f"/api/executions/{one.execution_id}?include_events=false")
            log = bed.call(url, "GET", f"/api/executions/{one.execution_id}/events?limit=1000")
        except Refused as error:
            found.append(Finding(one.execution_id, f"{who} does not read what was set apart", str(error)))
            continue
        ((status, head),) = bed.query(sql, id=int(one.execution_id))
        if status != "RUNNING" and (entry["status"], len(log)) != (status, head):
            detail = f"{entry['status']}, {len(log)} events; it is {status}, of {head}"
            found.append(Finding(one.execution_id, f"{who} reads otherwise what was set apart", detail))
    return found


def logs(bed: Bed, given: Sequence[Given]) -> list[Finding]:
    """That what was to happen to them has happened: without it the walk would show nothing."""
    found = []
    marks = {TWICE.name: "payload->'ignored' IS NOT NULL", DROPPED.name: "payload->'quarantined' IS NOT NULL"}
    for one in given:
        if one.begun == BEGUN:
            mark = marks.get(one.kind, "type = 'execution.retried'")
            mark = "type = 'execution.cancelled'" if one.kind == CANCELLED.name else mark
            ((times,),) = bed.query(
                f"SELECT count(*) FROM noetl.event WHERE execution_id = :id AND {mark}", id=int(one.execution_id)
            )
            if times != 1:
                found.append(Finding(one.execution_id, "it was not set apart as it should", f"{one}: {times} {mark}"))
    ((left,),) = bed.query("SELECT count(*) FROM noetl.quarantine")
    return [*found, *([Finding("", "something is left in quarantine", str(left))] if left else [])]


def _report(bed: Bed, url: str, given: Given, name: str, **outcome: Any) -> None:
    lease = claim(bed, url, given.execution_id, ALIVE, 3600, name)
    names = {key: lease[key] for key in ("execution_id", "command_id", "fence")}
    body = {"worker_id": ALIVE, "outcomes": [{**names, **outcome}]}
    answer = bed.call(url, "POST", "/api/commands/report", body, role="worker")
    assert answer["results"][0]["status"] == "accepted", answer
