"""SIGKILL of workers while a loop claims rows and pipelines read pages: nothing is lost, or done under two keys.

`ROWS=10000 KILLS=25` makes it longer, `SEED=7` kills at the same moments again.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from tests.e2e.faults import BrokenStack, broken_stack
from tests.log_rules import Finding
from tests.mock_api.server import MockApi, mock_api

from noetl_serverless.hosts.local.postgres import create_database
from noetl_serverless.store.connection import connect

pytestmark = pytest.mark.e2e

DATABASE = "jobs"
ROWS, KILLS = int(os.environ.get("ROWS") or 360), int(os.environ.get("KILLS") or 3)
WORKERS, SLOTS, FRAME = 3, 8, 20
# seconds between two kills, if a worker holds a command then
PAUSES = (0.1, 0.5)
PAGES, PAGE = 4, 10
# step -> the backoff of its retries
BACKOFFS = {"at_once": "none", "fixed": "fixed", "linear": "linear", "exponential": "exponential"}
PATIENT = "{when: \"{{ output.status == 'error' and output.error.retryable }}\", \
then: {do: retry, attempts: 30, backoff: fixed, delay: 0.2}}"
DRAIN = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: drain, path: killed/drain}}
workload: {{api: ""}}
workflow:
  - step: drain
    loop:
      iterator: job
      cursor:
        kind: postgres
        auth: {DATABASE}
        claim: |
          UPDATE job SET state = 'taken', claims = claims + 1 WHERE id IN
            (SELECT id FROM job WHERE state = 'new' ORDER BY id LIMIT {{{{ __frame_max_rows }}}} FOR UPDATE SKIP LOCKED)
          RETURNING id
      spec: {{mode: cursor, max_in_flight: {SLOTS}, frame: {{max_rows: {FRAME}, row_concurrency: 5}}}}
    tool:
      - name: wait
        kind: http
        url: "{{{{ workload.api }}}}/slow?delay=0.1"
        spec: {{policy: {{rules: [{PATIENT}]}}}}
      - name: work
        kind: http
        method: POST
        url: "{{{{ workload.api }}}}/claims/{{{{ execution_id }}}}/{{{{ iter.job.id }}}}"
        spec: {{policy: {{rules: [{PATIENT}]}}}}
    next: {{arcs: [{{step: rows}}]}}
  - step: rows
    tool:
      kind: python
      input: {{all: "{{{{ drain }}}}"}}
      code: "result = [int(one['data']['row']) for one in all]"
      spec: {{policy: {{rules: [{PATIENT}]}}}}
"""


def _branch(step: str, backoff: str) -> str:
    """A pipeline that reads all pages; the API is not ready for a page at first. One wait is longer than a worker holds
    a command for."""
    page = f"ctx.{step} | default(1)"
    delay = f"{{{{ 6 if ({page}) == 2 else 0.1 }}}}" if backoff == "linear" else "0.1"
    return f"""
  - step: {step}
    tool:
      - name: ready
        kind: http
        url: "{{{{ workload.api }}}}/flaky?key={{{{ execution_id }}}}-{step}-{{{{ {page} }}}}&failures=2"
        spec:
          policy:
            rules:
              - when: "{{{{ output.status == 'error' }}}}"
                then: {{do: retry, attempts: 30, backoff: {backoff}, delay: "{delay}", max_delay: 7}}
      - name: page
        kind: http
        url: "{{{{ workload.api }}}}/items?page={{{{ {page} }}}}&size={PAGE}&total={PAGES * PAGE - 5}"
        output: {{accumulate: {{strategy: concat, merge_path: $.data.items, manifest_as: items}}}}
        spec: {{policy: {{rules: [{PATIENT}]}}}}
      - name: keep
        kind: http
        method: POST
        url: "{{{{ workload.api }}}}/claims/{{{{ execution_id }}}}/{step}-{{{{ {page} }}}}"
        spec:
          policy:
            rules:
              - {PATIENT}
              - when: "{{{{ page.data.has_more }}}}"
                then: {{do: jump, to: ready, set: {{ctx.{step}: "{{{{ ({page}) + 1 }}}}"}}}}
              - {{else: {{then: {{do: break}}}}}}
      - {{name: never, kind: python, code: "raise RuntimeError('it ran')"}}
    next: {{arcs: [{{step: all}}]}}"""


READ = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: read, path: killed/read}}
workload: {{api: ""}}
workflow:
  - step: split
    tool: {{kind: noop}}
    next: {{spec: {{mode: inclusive}}, arcs: [{", ".join(f"{{step: {name}}}" for name in BACKOFFS)}]}}
{"".join(map(_branch, BACKOFFS, BACKOFFS.values()))}
  - step: all
    tool:
      kind: python
      input: {{{", ".join(f'{name}: "{{{{ {name}.items }}}}"' for name in BACKOFFS)}}}
      code: "result = {{name: [item['id'] for item in items] for name, items in input_data.items()}}"
      spec: {{policy: {{rules: [{PATIENT}]}}}}
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """Two executions that have ended, after workers that held commands of theirs were killed. `claims`: of each row of
    the table, how often it was claimed."""

    entries: dict[str, dict[str, object]]
    drain: str
    read: str
    claims: dict[int, int]
    kills: int
    api: MockApi
    findings: list[Finding]

    def data(self, id: str) -> object:
        entry = self.entries[id]
        assert entry["status"] == "COMPLETED", entry["error"]
        result = entry["result"]
        assert isinstance(result, dict)
        return result["data"]


@pytest.fixture(scope="module")
def ended() -> Iterator[Ended]:
    seed = int(os.environ.get("SEED") or secrets.randbelow(2**32))
    print(f"SEED={seed}")
    with mock_api() as api, broken_stack(lease=4, max_deliveries=50, workers=WORKERS) as stack:
        create_database(stack.database_url, DATABASE)
        parts = urlsplit(stack.database_url)
        jobs = parts._replace(path=f"/{DATABASE}").geturl()
        with contextlib.closing(connect(jobs)) as database:
            database.run("CREATE TABLE job (id int PRIMARY KEY, state text DEFAULT 'new', claims int DEFAULT 0)")
            database.run("INSERT INTO job SELECT generate_series(1, :rows)", rows=ROWS)
        data = {"host": parts.hostname, "port": parts.port, "user": parts.username, "password": parts.password}
        credential = {"name": DATABASE, "type": "postgres", "data": {**data, "database": DATABASE}}
        stack.call("POST", "/api/credentials", credential)
        for text in (DRAIN, READ):
            stack.register(text)
        drain, read = (stack.execute(path, {"api": api.url}) for path in ("killed/drain", "killed/read"))
        kills = _kill(stack, random.Random(seed), drain)
        entries = stack.wait([drain, read])
        with contextlib.closing(connect(jobs)) as database:
            claims = dict(database.run("SELECT id, claims FROM job") or [])
        yield Ended(entries, drain, read, claims, kills, api, stack.audit([drain, read]))


def _kill(stack: BrokenStack, rng: random.Random, execution_id: str) -> int:
    """Kill workers that hold commands of the execution, one after the other, until it ends; how many."""
    kills = 0
    while kills < KILLS and stack.entry(execution_id)["status"] == "RUNNING":
        time.sleep(rng.uniform(*PAUSES))
        rows = stack.query(
            "SELECT DISTINCT worker FROM noetl.outstanding WHERE execution_id = :id AND worker IS NOT NULL",
            id=execution_id,
        )
        # the second part of a worker's name is its pid
        if rows and _is_killed(int(rng.choice(sorted(rows))[0].split(":")[1])):
            kills += 1
    return kills


def _is_killed(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        # killed before, and its lease still holds
        return False
    return True


def test_workers_were_killed_while_they_held_rows(ended: Ended) -> None:
    assert ended.kills == KILLS, "the loop ended before"


def test_each_row_is_claimed_once(ended: Ended) -> None:
    assert len(ended.claims) == ROWS
    assert {row: times for row, times in ended.claims.items() if times != 1} == {}


def test_each_row_is_once_among_the_results_of_the_loop(ended: Ended) -> None:
    results = ended.data(ended.drain)
    assert isinstance(results, list)
    assert {row: times for row, times in Counter(results).items() if times != 1} == {}
    assert set(results) == set(range(1, ROWS + 1))


def test_the_effect_of_each_row_has_one_key_of_its_own(ended: Ended) -> None:
    _each_has_a_key_of_its_own(ended.api.keys(ended.drain), {str(row) for row in range(1, ROWS + 1)})


def test_pages_that_are_read_with_every_backoff_are_collected_once_and_in_order(ended: Ended) -> None:
    assert ended.data(ended.read) == {step: list(range(1, PAGES * PAGE - 4)) for step in BACKOFFS}


def test_the_effect_of_each_page_has_one_key_of_its_own(ended: Ended) -> None:
    pages = {f"{step}-{page}" for step in BACKOFFS for page in range(1, PAGES + 1)}
    _each_has_a_key_of_its_own(ended.api.keys(ended.read), pages)


def test_the_logs_show_that_no_step_was_lost_or_decided_twice(ended: Ended) -> None:
    assert ended.findings == []


def _each_has_a_key_of_its_own(keys: dict[str, set[str]], names: set[str]) -> None:
    assert set(keys) == names
    assert {name: several for name, several in keys.items() if len(several) != 1} == {}
    assert "" not in set.union(*keys.values()), "an effect came without a key"
    shared = Counter(key for several in keys.values() for key in several)
    assert {key: times for key, times in shared.items() if times > 1} == {}
