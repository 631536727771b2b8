"""SIGKILL of workers that hold what is limited: never more at once than the limit, and no slot is lost.

`ITEMS=400 KILLS=20` makes it longer, `SEED=7` kills at the same moments again.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.e2e.faults import BrokenStack, broken_stack
from tests.mock_api.server import MockApi, mock_api

pytestmark = pytest.mark.e2e

ITEMS, KILLS = int(os.environ.get("ITEMS") or 40), int(os.environ.get("KILLS") or 3)
WORKERS, SLOTS, EXECUTIONS = 3, 3, 3
# seconds between two kills, and of each call: over long before the lease of its killed worker
PAUSES, CALL = (0.3, 1.0), 0.15
PATIENT = "{when: \"{{ output.status == 'error' and output.error.retryable }}\", \
then: {do: retry, attempts: 30, backoff: fixed, delay: 0.2}}"
CALLS = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: calls, path: limited/calls}}
workload: {{api: "", items: 1}}
workflow:
  - step: each
    loop: {{in: "{{{{ range(workload['items']) | list }}}}", iterator: n, spec: {{mode: parallel, max_in_flight: 16}}}}
    spec: {{concurrency: {{key: api, limit: {SLOTS}}}}}
    tool:
      kind: http
      url: "{{{{ workload.api }}}}/together?key=calls&delay={CALL}"
      spec: {{policy: {{rules: [{PATIENT}]}}}}
"""
ALONE = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: alone, path: limited/alone}}
executor: {{spec: {{concurrency: {{limit: 1}}}}}}
workload: {{api: ""}}
workflow:
  - step: first
    loop: {{in: [1, 2, 3], iterator: n, spec: {{mode: sequential}}}}
    tool:
      kind: http
      url: "{{{{ workload.api }}}}/together?key=alone&delay={CALL}"
      spec: {{policy: {{rules: [{PATIENT}]}}}}
    next: {{arcs: [{{step: second}}]}}
  - step: second
    tool:
      kind: http
      url: "{{{{ workload.api }}}}/together?key=alone&delay={CALL}"
      spec: {{policy: {{rules: [{PATIENT}]}}}}
"""


@dataclass(frozen=True, slots=True)
class Ended:
    entries: dict[str, dict[str, object]]
    calls: list[str]
    kills: int
    api: MockApi
    left: list[list[int]]


@pytest.fixture(scope="module")
def ended() -> Iterator[Ended]:
    seed = int(os.environ.get("SEED") or secrets.randbelow(2**32))
    print(f"SEED={seed}")
    with mock_api() as api, broken_stack(lease=3, max_deliveries=50, workers=WORKERS) as stack:
        for text in (CALLS, ALONE):
            stack.register(text)
        # two that share the slots of one key
        calls = [stack.execute("limited/calls", {"api": api.url, "items": ITEMS // 2}) for _ in range(2)]
        alone = [stack.execute("limited/alone", {"api": api.url}) for _ in range(EXECUTIONS)]
        kills = _kill(stack, random.Random(seed), calls)
        entries = stack.wait([*calls, *alone])
        left = stack.query("SELECT count(*), (SELECT count(*) FROM noetl.begun) FROM noetl.outstanding")
        yield Ended(entries, calls, kills, api, left)


def _kill(stack: BrokenStack, rng: random.Random, executions: list[str]) -> int:
    """Kill workers that hold limited commands, one after the other; how many."""
    kills = 0
    while kills < KILLS and any(stack.entry(id)["status"] == "RUNNING" for id in executions):
        time.sleep(rng.uniform(*PAUSES))
        rows = stack.query("SELECT DISTINCT worker FROM noetl.command WHERE status = 'claimed' AND limits IS NOT NULL")
        if rows:
            with contextlib.suppress(ProcessLookupError):
                # the second part of a worker's name is its pid
                os.kill(int(rng.choice(sorted(rows))[0].split(":")[1]), signal.SIGKILL)
                kills += 1
    return kills


def test_workers_were_killed_while_they_held_slots(ended: Ended) -> None:
    assert ended.kills == KILLS, "the loops ended before"


def test_everything_ends_and_nothing_is_left_counted(ended: Ended) -> None:
    assert {id: entry["error"] for id, entry in ended.entries.items() if entry["status"] != "COMPLETED"} == {}
    for id in ended.calls:
        result = ended.entries[id]["result"]
        assert isinstance(result, dict)
        assert result["data"]["stats"] == {"total": ITEMS // 2, "success": ITEMS // 2, "failed": 0}
    assert ended.left == [[0, 0]], "commands, and executions that hold slots, are left"


def test_no_more_calls_are_made_at_once_than_the_limit_of_their_key(ended: Ended) -> None:
    assert 2 <= ended.api.most_together["calls"] <= SLOTS


def test_executions_of_a_playbook_run_one_after_the_other(ended: Ended) -> None:
    assert ended.api.most_together["alone"] == 1
