"""Projections made anew from the logs: by the newer release at any time, by the older not once the store is migrated.

The older one's statement mixes jsonb with what has become json. It is refused before anything is written; which is as
well, since it would rebuild an execution that was in quarantine as one that has ended.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.log_rules import Finding

from .bed import Bed, Refused
from .store import Given

PATH = "/api/replay/rebuild"
# what the older release's log says of it
REFUSED = "COALESCE could not convert type json to jsonb"
TABLES = ("execution", "command", "stage", "frame", "result_ref")


def refused(bed: Bed, url: str, ended: Sequence[Given]) -> list[Finding]:
    """By the older release, at `url`: of every kind one."""
    found = []
    for one in {given.kind: given for given in ended}.values():
        before = _rows(bed, one)
        if not before["execution"]:
            continue
        try:
            bed.call(url, "POST", PATH, {"execution_id": one.execution_id})
            found.append(Finding(one.execution_id, "the older release rebuilds it", str(one)))
        except Refused:
            pass
        if (after := _rows(bed, one)) != before:
            changed = [table for table in TABLES if after[table] != before[table]]
            found.append(Finding(one.execution_id, "a refused rebuild changes something", f"{one}: {changed}"))
    return found


def all_anew(bed: Bed, url: str) -> list[Finding]:
    """By the newer release, at `url`: nothing is otherwise than before."""
    found, after = [], "0"
    while after is not None:
        answer: dict[str, Any] = bed.call(url, "POST", PATH, {"after": after})
        for entry in answer["executions"]:
            if entry["differences"]:
                detail = json.dumps(entry["differences"])[:600]
                found.append(Finding(entry["execution_id"], "a rebuild finds it otherwise", detail))
        after = answer["next"]
    return found


def _rows(bed: Bed, one: Given) -> dict[str, list[Any]]:
    sql = "SELECT to_json(x)::text FROM noetl.{} x WHERE execution_id = :id ORDER BY 1"
    return {table: bed.query(sql.format(table), id=int(one.execution_id)) for table in TABLES}
