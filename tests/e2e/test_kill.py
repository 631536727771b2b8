"""SIGKILL, to any process at any moment, while executions run: each ends as it should, and the log shows it."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from statistics import median

import pytest
from tests.e2e.faults import TOGETHER, BrokenStack, Kill, broken_stack
from tests.e2e.file_server import FileServer, served
from tests.e2e.stack import PLAYBOOKS

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FLAGSHIP = "examples/flight_delays"
# of each playbook
EXECUTIONS = 50
# seconds from the first kill to the last, and between two
STORM = 45.0
PAUSES = (0.2, 2.2)
ROLES = (
    *("worker python", "worker server", "worker arbiter"),
    *("control_plane server", "control_plane arbiter", "reconciler server", "reconciler arbiter"),
    *("gateway server", "gateway arbiter", "nats", "postgres", "postgres backend"),
)
ROLES_TOGETHER = (TOGETHER, "worker python", "nats", "postgres", "postgres backend")
# what a lost process costs is tried again; a python process may be killed under its task
PATIENT = "spec: {policy: {rules: [{when: \"{{ output.status == 'error' and output.error.retryable }}\", \
then: {do: retry, attempts: 12, backoff: exponential, delay: 0.2}}]}}"
FAN_OUT = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: fan_out, path: faults/fan_out}}
workload: {{items: 24}}
workflow:
  - step: split
    tool: {{kind: noop}}
    next:
      spec: {{mode: inclusive}}
      arcs: [{{step: squares}}, {{step: sums}}, {{step: child}}, {{step: late}}]
  - step: squares
    loop: {{in: "{{{{ range(workload.items) | list }}}}", iterator: n, spec: {{mode: parallel, max_in_flight: 6}}}}
    tool: {{kind: python, input: {{n: "{{{{ iter.n }}}}"}}, code: "result = n * n", {PATIENT}}}
    next: {{arcs: [{{step: report}}]}}
  - step: sums
    loop: {{in: "{{{{ range(5) | list }}}}", iterator: n, spec: {{mode: sequential}}}}
    tool:
      kind: python
      input: {{n: "{{{{ iter.n }}}}"}}
      code: |
        import time
        time.sleep(0.05)
        result = n + 1
      {PATIENT}
    next: {{arcs: [{{step: report}}]}}
  - step: child
    tool: {{kind: playbook, path: faults/child, input: {{n: "{{{{ workload.items }}}}"}}}}
    next: {{arcs: [{{step: report}}]}}
  - step: late
    desc: Comes again by a timer in the log
    tool:
      kind: python
      input: {{attempt: "{{{{ _attempt }}}}"}}
      code: "result = {{'again': attempt > 1}}"
      spec:
        policy:
          rules:
            - when: "{{{{ output.status == 'error' or not output.data.again }}}}"
              then: {{do: retry, attempts: 12, backoff: fixed, delay: 6}}
    next: {{arcs: [{{step: report}}]}}
  - step: report
    tool:
      kind: python
      input:
        squares: "{{{{ squares.results }}}}"
        sums: "{{{{ sums.results }}}}"
        child: "{{{{ child.value }}}}"
        again: "{{{{ late.again }}}}"
      code: "result = {{'squares': squares, 'sums': sums, 'child': child, 'again': again}}"
      {PATIENT}
"""
CHILD = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: child, path: faults/child}}
workload: {{n: 1}}
workflow:
  - step: twice
    tool: {{kind: python, input: {{n: "{{{{ workload.n }}}}"}}, code: "result = {{'value': 2 * n}}", {PATIENT}}}
"""


@pytest.fixture(scope="module", params=["together", "separate"])
def broken(request: pytest.FixtureRequest) -> Iterator[BrokenStack]:
    # a command may be in the hands of a killed worker many times here, and is none the worse
    with broken_stack(lease=5, max_deliveries=50, processes=request.param) as stack:
        stack.register((PLAYBOOKS / "flight_delays.yaml").read_text())
        stack.register(CHILD)
        stack.register(FAN_OUT)
        yield stack


@pytest.fixture(scope="module")
def files() -> Iterator[FileServer]:
    with served(PLAYBOOKS / "data") as server:
        yield server


class Storm:
    """Kills processes one after another, each role as often as the others, and times their return."""

    def __init__(self, stack: BrokenStack, seed: int, threads: ThreadPoolExecutor) -> None:
        self.kills: list[Kill] = []
        self.roles = ROLES_TOGETHER if stack.is_together else ROLES
        self._stack = stack
        self._random = random.Random(seed)
        self._threads = threads
        self._watched: list[Future[None]] = []

    def rage(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        roles: list[str] = []
        while time.monotonic() < until:
            roles = roles or self._random.sample(self.roles, len(self.roles))
            role = roles.pop()
            at = time.monotonic()
            if (pid := self._stack.kill(role, self._random)) is not None:
                self._watched.append(self._threads.submit(self._watch, role, pid, at))
            time.sleep(self._random.uniform(*PAUSES))

    def calm(self) -> None:
        for watched in self._watched:
            watched.result()

    def report(self) -> str:
        times: defaultdict[str, list[float]] = defaultdict(list)
        for kill in self.kills:
            times[kill.role].append(kill.back)
        return "\n".join(
            f"{role:22} {len(back)} kills, back after {median(back):.2f} s, at most {max(back):.2f}"
            for role in self.roles
            if (back := times[role])
        )

    def _watch(self, role: str, pid: int, at: float) -> None:
        self.kills.append(Kill(role, pid, at, self._stack.seconds_until_back(role, pid)))


def test_whatever_is_killed_every_execution_ends_as_it_should(broken: BrokenStack, files: FileServer) -> None:
    seed = int(os.environ.get("SEED") or secrets.randbelow(2**32))
    print(f"SEED={seed}")
    reference = broken.execute(FLAGSHIP, {"data_url": files.url})
    table = broken.wait([reference])[reference]["result"]["data"]

    flights, fans = [], []
    with ThreadPoolExecutor(64) as threads:
        storm = Storm(broken, seed, threads)
        raging = threads.submit(storm.rage, STORM)
        for number in range(EXECUTIONS):
            # said again until it is heard; the key keeps it from starting two
            flights.append(broken.execute(FLAGSHIP, {"data_url": files.url}, key=f"flight {seed} {number}"))
            fans.append(broken.execute("faults/fan_out", key=f"fan {seed} {number}"))
            time.sleep(STORM / EXECUTIONS / 2)
        raging.result()
        storm.calm()
    print(storm.report())
    ended = broken.wait([*flights, *fans])

    assert {kill.role for kill in storm.kills} == set(storm.roles)
    assert len(set(flights + fans)) == 2 * EXECUTIONS
    assert [
        (id, entry["status"], entry["error"]) for id, entry in ended.items() if entry["status"] != "COMPLETED"
    ] == []
    assert [ended[id]["result"]["data"] for id in flights] == [table] * EXECUTIONS
    fan = {"squares": [n * n for n in range(24)], "sums": [1, 2, 3, 4, 5], "child": 48, "again": True}
    assert [ended[id]["result"]["data"] for id in fans] == [fan] * EXECUTIONS
    everything = [row[0] for row in broken.query("SELECT execution_id::text FROM noetl.execution")]
    assert len(everything) == 1 + 3 * EXECUTIONS  # the children too
    assert broken.audit(everything) == []
    assert broken.query("SELECT count(*) FROM noetl.outstanding") == [[0]]
