"""Steps in pools of their own on a real stack, and what the registry says of its workers, one of which is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.faults import BrokenStack, broken_stack, children, eventually

PATH = "pools/waits"
# the zygote of its worker, which is a child of the worker's process
PARENT = "import os; result = os.getppid()"
PLAYBOOK = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: waits, path: {PATH}}}
workload: {{seconds: 0}}
workflow:
  - step: here
    tool: {{kind: python, code: "{PARENT}"}}
    next: {{arcs: [{{step: there}}]}}
  - step: there
    pool: io
    tool: {{kind: python, input: {{s: "{{{{ workload.seconds }}}}"}}, code: "import time; time.sleep(s); {PARENT}"}}
    next: {{arcs: [{{step: each}}]}}
  - step: each
    pool: io
    loop: {{in: "{{{{ range(5) | list }}}}", iterator: n, spec: {{mode: parallel}}}}
    tool: {{kind: python, code: "{PARENT}"}}
    next: {{arcs: [{{step: end, when: "{{{{ event.name == 'loop.done' }}}}"}}]}}
  - step: end
    tool: {{kind: noop, result: {{shared: ["{{{{ here }}}}"], io: "{{{{ [there] + each.results }}}}"}}}}
"""
# longer than any test
FOREVER = 300
# by when of the registry a worker was lost
AGO = "UPDATE noetl.runtime SET heartbeat = heartbeat - interval '61 s' WHERE name = :name"


@pytest.fixture(scope="module")
def stack() -> Iterator[BrokenStack]:
    with broken_stack(local_pools="io", lease=3) as stack:
        stack.register(PLAYBOOK)
        yield stack


def instances(stack: BrokenStack, **selected: str) -> dict[str, dict[str, Any]]:
    rows = stack.call("GET", "/api/worker/pools?limit=1000")["items"]
    return {row["name"]: row for row in rows if all(row[key] == value for key, value in selected.items())}


def pool(stack: BrokenStack, name: str) -> dict[str, Any]:
    (found,) = (row for row in stack.call("GET", "/api/worker/pools?limit=1")["pools"] if row["pool"] == name)
    return dict(found)


def test_steps_run_in_the_pools_that_they_name(stack: BrokenStack) -> None:
    id = stack.execute(PATH)
    entry = stack.wait([id])[id]
    assert entry["status"] == "COMPLETED", entry
    ran = {pool: set(pids) for pool, pids in entry["result"]["data"].items()}
    shared, io = (set(children(stack.server(name))) for name in ("worker", "worker_io"))
    assert ran["shared"] <= shared and ran["io"] <= io, (ran, shared, io)


def test_every_function_is_in_the_registry(stack: BrokenStack) -> None:
    found = eventually(
        lambda: (kinds := {row["kind"] for row in instances(stack).values()}) and len(kinds) == 4 and kinds
    )
    assert found == {"worker_pool", "server_api", "scheduler", "gateway"}
    rows = stack.query("SELECT pool, status, capacity, version, labels FROM noetl.runtime WHERE kind = 'worker_pool'")
    assert sorted(row[0] for row in rows) == ["io", "shared"]
    assert {row[0]: row[4] for row in rows} == {"io": {"use": "steps that wait for others"}, "shared": {}}
    assert [pool(stack, name)["deployed"] for name in ("io", "shared")] == [True, True]


def test_a_worker_that_is_killed_at_work_is_seen_to_be_dead(stack: BrokenStack) -> None:
    id = stack.execute(PATH, {"seconds": FOREVER})
    [name] = eventually(lambda: list(instances(stack, pool="io", state="busy")))
    assert pool(stack, "io")["state"] == "busy"
    killed = stack.server("worker_io")
    assert instances(stack)[name]["pid"] == killed
    # what would start it again under the same name goes first
    for pid in (stack.pid("worker_io"), killed):
        os.kill(pid or 0, signal.SIGKILL)
    stack.query(AGO, name=name)
    assert instances(stack, name=name)[name]["state"] == "dead"
    # its successor has a row of its own
    eventually(lambda: pool(stack, "io")["instances"] == 1)
    assert (pool(stack, "io")["dead"], pool(stack, "io")["versions"]) == (1, [instances(stack)[name]["version"]])
    shown = stack("pools")
    assert shown.status == 0 and "1 (1 dead)" in shown.out, shown.out
    stack.call("POST", f"/api/executions/{id}/cancel", {})
    assert stack.wait([id])[id]["status"] == "CANCELLED"


def test_a_pool_that_the_stack_does_not_have_is_refused_at_registration(stack: BrokenStack) -> None:
    with pytest.raises(RuntimeError, match=r"playbook\.unknown_pool") as refused:
        stack.register(PLAYBOOK.replace("pool: io", "pool: gpu"))
    assert "the deployment has no pool 'gpu'; it has io, shared" in str(refused.value)
    assert '"pointer":"/workflow/1/pool"' in str(refused.value)
