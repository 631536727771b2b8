"""A stored result that is deleted in the middle of a run, in each store: its step runs once more, and who needs it
completes. The playbook is that of the documentation."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from tests.e2e.faults import BrokenStack, broken_stack
from tests.e2e.stack import PLAYBOOKS
from tests.e2e.test_shared_memory import references, send, until_waiting
from tests.object_servers import ADMIN, REGION, FakeGcs, SeaweedFS

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: {name}, path: lost/{name}}}\n"
# what it makes as Arrow, as JSON: two hundred kilobytes
JSON = """  - step: make
    tool:
      kind: python
      code: "result = {'rows': [{'n': n, 'name': f'row {n}'} for n in range(20000)]}"
      output: {store: {kind: auto}}
"""
COUNTED = {"count": 20_000, "sum": 199_990_000}
# a list of tools that waits, with more at hand than the log takes
SUSPENDED = (
    HEAD.format(name="suspended")
    + """
workflow:
  - step: make
    tool:
      - {name: rows, kind: duckdb, query: "SELECT range AS n FROM range(20000)"}
      - {name: hold, kind: wait, signal: reviewed}
      - {name: count, kind: duckdb, input: {r: "{{ rows.rows }}"}, query: "SELECT count(*) AS n FROM r"}
    next:
      arcs:
        - {step: make, when: "{{ error.code == 'REFERENCE_NOT_AVAILABLE' and error.reason == 'missing' }}"}
        - {step: report, when: "{{ output.status == 'ok' }}"}
  - {step: report, tool: {kind: noop, result: "{{ make.results.count.rows }}"}}
"""
)


def documented() -> str:
    """The workflow of the section that says what to do."""
    _, _, section = (PLAYBOOKS / "README.md").read_text().partition("\n### When a stored result is gone\n")
    found = re.search(r"^    workflow:\n(?:    .*\n)+", section, re.MULTILINE)
    assert found is not None, "there is no playbook in the section"
    return dedent(found[0])


def playbook(name: str, store: str) -> str:
    """With results in `store`; `make` in a process of its own, so that `use` has nothing at hand."""
    text = (
        documented().replace("kind: auto", f"kind: {store}").replace("- step: make\n", "- step: make\n    pool: io\n")
    )
    if name.startswith("json"):
        begin, end = text.index("  - step: make\n"), text.index("    next: {arcs: [{step: review}]}")
        made = JSON.replace("kind: auto", f"kind: {store}").replace("step: make\n", "step: make\n    pool: io\n")
        text = text[:begin] + made + text[end:]
    return HEAD.format(name=name) + text


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="noetl-lost-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def stack() -> Iterator[BrokenStack]:
    """Without shared memory, which would have what the store has not."""
    with broken_stack(processes="together", local_pools="io", lease=3, shared_memory_mb=0) as stack:
        yield stack


@pytest.fixture(scope="module")
def stack_on(stack: BrokenStack, home: Path) -> Iterator[Callable[[str], BrokenStack]]:
    """The stack with its object store there."""
    servers: dict[str, Any] = {}
    now = ["disk"]

    def on(store: str) -> BrokenStack:
        kind = store if store in ("s3", "gcs") else "disk"
        if kind == now[0]:
            return stack
        now[0] = kind
        stack.down()
        if kind == "s3":
            servers[kind] = server = SeaweedFS(home)
            server.start()
            keys = {"AWS_ACCESS_KEY_ID": ADMIN[0], "AWS_SECRET_ACCESS_KEY": ADMIN[1]}
            stack.environment(**keys, AWS_REGION=REGION, AWS_ENDPOINT_URL_S3=server.url)
            stack.set(result_url=f"s3://{SeaweedFS.BUCKET}/lost")
        else:
            servers[kind] = gcs = FakeGcs(home)
            gcs.start()
            gcs.create_bucket("lost")
            stack.environment(STORAGE_EMULATOR_HOST=gcs.url)
            stack.set(result_url="gs://lost/results")
        stack.up()
        return stack

    yield on
    for server in servers.values():
        server.stop()


def runs_of(stack: BrokenStack, id: str, step: str) -> list[str]:
    """How each run of the step has ended."""
    ended = [event for event in stack.log(id) if event["step"] == step]
    return [event["event_type"] for event in ended if event["event_type"] in ("call.done", "call.error")]


def test_a_list_of_tools_whose_rest_is_gone_begins_anew(stack_on: Callable[[str], BrokenStack]) -> None:
    stack = stack_on("disk")
    stack.register(SUSPENDED)
    id = stack.execute("lost/suspended")
    until_waiting(stack, id, "make")
    files = [path for path in (stack.layout.results / id).rglob("*") if path.is_file()]
    assert len(files) == 1, files
    files[0].unlink()
    for _ in range(2):
        send(stack, id, "reviewed")
    entry = stack.wait([id])[id]
    assert entry["result"] == {"data": [{"n": 20_000}]}, entry
    assert runs_of(stack, id, "make") == ["call.error", "call.done"]


# those of one object store follow each other: another is another start of the stack
@pytest.mark.parametrize("store", ["disk", "kv", "postgres", "s3", "gcs"])
def test_a_result_that_is_deleted_while_it_is_needed_is_made_once_more(
    stack_on: Callable[[str], BrokenStack], store: str
) -> None:
    stack = stack_on(store)
    ids = {}
    for name in (f"arrow_{store}", f"json_{store}"):
        stack.register(playbook(name, store))
        ids[name] = stack.execute(f"lost/{name}")
    for name, id in ids.items():
        log = until_waiting(stack, id, "review")
        (ref,) = [event["payload"]["ref"] for event in log if event["step"] == "make" and event["payload"].get("ref")]
        assert (ref["store"], len(references(log))) == (store, 1 if name.startswith("arrow") else 0)
        if store == "disk" and name.startswith("json"):
            (stack.layout.results / ref["key"]).unlink()
        else:
            stack.call("DELETE", f"/api/result?ref={ref['ref']}")
        for _ in range(2):
            send(stack, id, "reviewed")
    for name, entry in zip(ids, stack.wait(ids.values()).values(), strict=True):
        id = entry["execution_id"]
        assert (entry["status"], entry["result"]) == ("COMPLETED", {"data": COUNTED}), f"{name}: {entry}"
        assert runs_of(stack, id, "make") == ["call.done", "call.done"], name
        assert runs_of(stack, id, "use") == ["call.error", "call.done"], name
        (error,) = (event["payload"]["error"] for event in stack.log(id) if event["event_type"] == "call.error")
        facts = {key: error[key] for key in ("kind", "code", "reason", "retryable")}
        code = "REFERENCE_NOT_AVAILABLE"
        assert facts == {"kind": "reference", "code": code, "reason": "missing", "retryable": True}, name
    assert stack.audit(ids.values()) == []
