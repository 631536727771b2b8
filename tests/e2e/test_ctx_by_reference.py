"""Five megabytes in ctx, on a real stack: set by a task's rule, read three steps later by workers that have never seen
them; and followed like every other result by what looks at executions afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.faults import eventually
from tests.e2e.stack import Stack, running

pytestmark = pytest.mark.e2e

COUNT = 5_000
TEXT = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: large, path: ctx/large}
workload: {count: 5000}
workflow:
  - step: make
    tool:
      kind: python
      input: {count: "{{ workload.count }}"}
      code: "result = {'rows': [{'i': i, 'text': 'x' * 1000} for i in range(count)], 'count': count}"
      spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.rows: "{{ output.data.rows }}"}}}}]}}
    set: {ctx.whole: "{{ make }}"}
    next: {arcs: [{step: wait, when: "{{ ctx.whole.count == 5000 }}"}]}
  - step: wait
    tool:
      kind: python
      input: {attempt: "{{ _attempt }}"}
      code: "result = attempt"
      spec:
        policy:
          rules: [{when: "{{ output.data < 2 }}", then: {do: retry, attempts: 2, backoff: fixed, delay: 6}}]
    next: {arcs: [{step: two}]}
  - {step: two, tool: {kind: noop}, next: {arcs: [{step: measure}]}}
  - step: measure
    tool:
      kind: python
      input: {rows: "{{ ctx.rows }}", last: "{{ rows[-1].i }}", same: "{{ ctx.whole.rows == ctx.rows }}"}
      code: "result = {'bytes': sum(len(row['text']) for row in rows), 'last': last, 'same': same}"
"""
RESULT = {"bytes": COUNT * 1000, "last": COUNT - 1, "same": True}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Of its own: it is stopped between, and what has ended in it leaves for the archive."""
    with running() as stack:
        yield stack


@pytest.fixture(scope="module")
def ended(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("playbook") / "large.yaml"
    file.write_text(TEXT)
    id = stack.start(file, {})
    eventually(lambda: any(event["event_type"] == "timer.set" for event in stack.events(id)))
    # no process that has had the value at hand is left
    stack("down")
    stack.ask("up", "--detach")
    stack.events(id, follow=True)
    return id


def test_it_is_read_steps_later_through_a_cold_cache(stack: Stack, ended: str) -> None:
    shown = stack.ask("show", ended)
    assert (shown["status"], shown["result"]) == ("COMPLETED", {"data": RESULT}), shown
    sizes = [len(str(event["payload"])) for event in stack.events(ended)]
    assert max(sizes) < 16 * 1024, "the value rides the log"


def test_what_looks_at_executions_follows_it(stack: Stack, ended: str, tmp_path: Path) -> None:
    assert stack.ask("replay", ended, "--validate")["valid"]
    assert stack.ask("diff", ended)["empty"]
    surfaces = stack.ask("replay", ended)["surfaces"]
    assert list(surfaces["execution"]["ctx_refs"]) == ["rows", "whole"]
    # that of `make`, and its rows
    assert len([row for row in surfaces["results"] if row["step"] == "make"]) == 2
    file = str(tmp_path / "run.noetl")
    packed = stack.ask("export", ended, "-o", file)
    assert packed["results_left_out"] == 0, packed
    again = offline(stack, "rerun", file, "--stub")
    assert again["same"], again
    assert offline(stack, "diff", file)["empty"]
    assert offline(stack, "digest", file) == {**stack.ask("digest", ended)}


def test_it_is_there_as_long_as_what_refers_to_it(stack: Stack, ended: str) -> None:
    before = [stack.ask("replay", ended), stack.ask("replay", ended, "--validate"), stack.ask("digest", ended)]
    assert stack.ask("archive", "--before", "0s")["executions"] >= 1
    assert stack.ask("show", ended)["archived"]
    after = [stack.ask("replay", ended), stack.ask("replay", ended, "--validate"), stack.ask("digest", ended)]
    assert after == before


def offline(stack: Stack, *words: str) -> Any:
    """What a command prints that is told of no stack."""
    done = stack(*words, "--json", data=False)
    assert done.status == 0, f"{done.out}\n{done.err}"
    return done.json
