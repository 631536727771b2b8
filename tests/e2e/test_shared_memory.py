"""Tables that go from step to step on a real stack whose pools are processes of one container: by shared memory while
their hints hold, and with the same rows from the store whatever becomes of those. The metrics of the worker that reads
say which way they came."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.e2e.faults import BrokenStack, broken_stack, eventually

from noetl_serverless.hosts.local.secrets import Secrets, service_token

# seconds for which a table is shared
LEASE = 6
ROWS = 5_000
HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: {name}, path: shared/{name}}}\n"
MAKE = """
    tool: {kind: duckdb, query: "SELECT range AS n, 'row ' || range AS text FROM range(5000)"}
    next: {arcs: [{step: hold}]}
"""
# read in one process, and after another signal in a second
READ = """
  - {{step: hold, tool: {{kind: wait, signal: read}}, next: {{arcs: [{{step: use}}]}}}}
  - step: use
    input: {input}
    tool: &count {{kind: duckdb, query: "SELECT count(*) AS count, sum(n) AS sum, max(text) AS last FROM ({rows})"}}
    next: {{arcs: [{{step: hold_again}}]}}
  - {{step: hold_again, tool: {{kind: wait, signal: read_again}}, next: {{arcs: [{{step: use_again}}]}}}}
  - step: use_again
    pool: cpu
    input: {input}
    tool: *count
    next: {{arcs: [{{step: end}}]}}
  - step: end
    input: {{both: ["{{{{ use.rows[0] }}}}", "{{{{ use_again.rows[0] }}}}"]}}
    tool: {{kind: noop, result: "{{{{ both }}}}"}}
"""
ONE = {"input": '{a: "{{ make.rows }}"}', "rows": "SELECT * FROM a"}
TWO = {
    "input": '{a: "{{ make.results[0].rows }}", b: "{{ make.results[1].rows }}"}',
    "rows": "SELECT * FROM a UNION ALL SELECT * FROM b",
}
STEP = HEAD.format(name="step") + "workflow:\n  - step: make\n    pool: io" + MAKE + READ.format(**ONE)
FRAME = (
    HEAD.format(name="frame")
    + """
workflow:
  - step: make
    pool: io
    loop: {in: "{{ [1, 2] }}", iterator: i, spec: {mode: sequential}}
"""
    + MAKE.lstrip("\n")
    + READ.format(**TWO)
)
CURSOR = (
    HEAD.format(name="cursor")
    + """
workflow:
  - step: jobs
    tool:
      kind: postgres
      auth: workspace
      command: |
        CREATE TABLE IF NOT EXISTS shared_jobs (id integer PRIMARY KEY, state text);
        INSERT INTO shared_jobs VALUES (1, 'new'), (2, 'new')
    next: {arcs: [{step: make}]}
  - step: make
    pool: io
    loop:
      iterator: job
      cursor:
        kind: postgres
        auth: workspace
        claim: |
          UPDATE shared_jobs SET state = 'taken' WHERE id = ANY (ARRAY (SELECT id FROM shared_jobs
            WHERE state = 'new' ORDER BY id LIMIT {{ __frame_max_rows }} FOR UPDATE SKIP LOCKED))
          RETURNING id
      spec: {mode: cursor, max_in_flight: 1, frame: {max_rows: 1}}
"""
    + MAKE.lstrip("\n")
    + READ.format(**TWO)
)
# its second step is reported by the test: a worker of another container, whose hints mean nothing here
ELSEWHERE = (
    HEAD.format(name="elsewhere")
    + "workflow:\n  - step: read"
    + MAKE.replace("hold", "make")
    + "  - {step: make, pool: io, tool: {kind: noop}, next: {arcs: [{step: hold}]}}"
    + READ.format(**ONE)
)
TABLES = {"step": 1, "frame": 2, "cursor": 2}


def counted(tables: int) -> dict[str, Any]:
    return {"count": tables * ROWS, "sum": tables * ROWS * (ROWS - 1) // 2, "last": "row 999"}


@pytest.fixture(scope="module")
def stack() -> Iterator[BrokenStack]:
    with broken_stack(local_pools="io,cpu", lease=3, shared_memory_lease=LEASE) as stack:
        for text in (STEP, FRAME, CURSOR, ELSEWHERE):
            stack.register(text)
        yield stack


def reads(stack: BrokenStack, worker: str) -> Counter[str]:
    """How many tables the worker has read, by where from and why."""
    with urllib.request.urlopen(f"{stack.running[f'{worker}_url']}/metrics", timeout=30) as response:
        text = response.read().decode()
    found = re.findall(r'^noetl_result_reads_total\{from="(\w+)",reason="(\w*)"\} (\S+)$', text, re.MULTILINE)
    return Counter({f"{source} {reason}".strip(): int(float(count)) for source, reason, count in found})


def until_waiting(stack: BrokenStack, id: str, step: str) -> list[dict[str, Any]]:
    """The log, once the step waits for its signal."""

    def waiting() -> list[dict[str, Any]] | None:
        log = stack.log(id)
        assert not any(event["event_type"] == "playbook.failed" for event in log), log[-1]
        return log if any(event["event_type"] == "wait.started" and event["step"] == step for event in log) else None

    found: list[dict[str, Any]] = eventually(waiting)
    return found


def send(stack: BrokenStack, id: str, name: str) -> None:
    stack.call("POST", f"/api/executions/{id}/signals/{name}", {"data": None})


def references(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the tables that `make` has made."""
    refs = [event["payload"]["ref"] for event in events if event["step"] == "make" and event["payload"].get("ref")]
    return [ref for ref in refs if ref["meta"]["content_type"] == "application/vnd.apache.arrow.stream"]


def shared_bytes(stack: BrokenStack, worker: str) -> int:
    """Of the tables that the worker shares."""
    with urllib.request.urlopen(f"{stack.running[f'{worker}_url']}/metrics", timeout=30) as response:
        (found,) = re.findall(r"^noetl_shared_memory_bytes (\S+)$", response.read().decode(), re.MULTILINE)
    return int(float(found))


def read_once(stack: BrokenStack, id: str) -> Counter[str]:
    """Which ways the tables came that `use` has read."""
    before = reads(stack, "worker")
    send(stack, id, "read")
    log = until_waiting(stack, id, "hold_again")
    (used,) = (event for event in log if event["event_type"] == "call.done" and event["step"] == "use")
    assert used["payload"]["data"]["rows"] == [counted(1)]
    return reads(stack, "worker") - before


def test_the_readiness_page_and_the_log_say_where_tables_are_shared(stack: BrokenStack) -> None:
    with urllib.request.urlopen(f"{stack.running['worker_url']}/readyz", timeout=30) as response:
        shown = json.load(response)["shared_memory"]
    assert re.fullmatch(r"memory, \d+ MiB", shown), shown
    assert stack.said("worker", f"results are shared between steps by {shown}")


def test_a_table_is_shared_until_it_is_evicted_and_has_the_same_rows_afterwards(stack: BrokenStack) -> None:
    """Of a step, of a frame of a loop, and of a frame of rows that a cursor claims."""
    ids = {}
    for name in TABLES:
        id = ids[name] = stack.execute(f"shared/{name}")
        refs = references(until_waiting(stack, id, "hold"))
        assert len(refs) == TABLES[name], f"{name}: {refs}"
        assert shared_bytes(stack, "worker_io") >= sum(ref["meta"]["bytes"] for ref in refs)
        before = reads(stack, "worker")
        send(stack, id, "read")
        until_waiting(stack, id, "hold_again")
        ways = reads(stack, "worker") - before
        assert ways == {"shared_memory": TABLES[name]}, f"{name}: {ways}"
    # each once its lease is over, by the worker that has made it
    eventually(lambda: shared_bytes(stack, "worker_io") == 0)
    for name, id in ids.items():
        before = reads(stack, "worker_cpu")
        send(stack, id, "read_again")
        ended = stack.wait([id])[id]
        assert ended["result"] == {"data": 2 * [counted(TABLES[name])]}, f"{name}: {ended}"
        assert reads(stack, "worker_cpu") - before == {"store expired": TABLES[name]}, name
    assert stack.audit(ids.values()) == []


def test_what_a_killed_worker_has_shared_is_read_from_the_store(stack: BrokenStack) -> None:
    id = stack.execute("shared/step")
    until_waiting(stack, id, "hold")
    os.kill(stack.server("worker_io"), signal.SIGKILL)
    assert read_once(stack, id) == {"store missing": 1}
    # what was fetched is in shared memory, for who comes next
    send(stack, id, "read_again")
    assert stack.wait([id])[id]["result"] == {"data": 2 * [counted(1)]}


@pytest.fixture
def elsewhere(stack: BrokenStack) -> Iterator[None]:
    """The worker of the pool io does nothing meanwhile: the test is in its place."""
    pid = stack.server("worker_io")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def ask_as_worker(stack: BrokenStack, path: str, **body: Any) -> dict[str, Any]:
    token = service_token(Secrets.load(stack.layout.secrets).token_key, "worker", "elsewhere")
    body = {"worker_id": "elsewhere", "pool": "io", **body}
    answer: dict[str, Any] = stack.call("POST", f"/api/commands/{path}", body, {"Authorization": f"Bearer {token}"})
    return answer


@pytest.mark.parametrize("wrong", ["node", "digest", "length", "no_hint"])
def test_a_hint_of_another_container_or_of_other_bytes_is_not_followed(
    stack: BrokenStack, elsewhere: None, wrong: str
) -> None:
    id = stack.execute("shared/elsewhere")
    (command,) = eventually(lambda: ask_as_worker(stack, "claim")["commands"])
    made = next(event for event in stack.log(id) if event["step"] == "read" and event["payload"].get("ref"))
    ref = copy.deepcopy(made["payload"]["ref"])
    if wrong == "node":
        ref["ipc"]["node_id"] = "0" * 16
    elif wrong == "digest":
        ref["ipc"]["sha256"] = "0" * 64
    elif wrong == "length":
        ref["ipc"]["byte_length"] = 1_000
    else:
        del ref["ipc"]
    outcome = {"execution_id": id, "command_id": command["command_id"], "fence": command["fence"]}
    answer = ask_as_worker(stack, "report", outcomes=[{**outcome, "status": "done", "ref": ref}])
    assert answer["results"][0]["status"] == "accepted", answer
    until_waiting(stack, id, "hold")
    assert read_once(stack, id) == {f"store {wrong}": 1}
    send(stack, id, "read_again")
    assert stack.wait([id])[id]["result"] == {"data": 2 * [counted(1)]}
