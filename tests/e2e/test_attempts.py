"""Attempts that failed, and where steps stand, as people see them: with show, explain, and over REST."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.stack import Stack

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: {name}, path: test/{name}}}\n"
RETRIES = HEAD.format(name="retries") + (
    """
workflow:
  - step: once
    tool:
      kind: python
      code: |
        import pathlib
        seen = pathlib.Path(folder, "once")
        tries = int(seen.read_text()) if seen.exists() else 0
        seen.write_text(str(tries + 1))
        if tries < 2:
            raise ValueError(f"try {tries + 1} of the step")
        result = tries
      input: {folder: "{{ workload.folder }}"}
      spec:
        policy:
          rules:
            - {when: "{{ output.status == 'error' }}", then: {do: retry, attempts: 3, delay: 0}}
            - {else: {then: {do: continue}}}
    next: {arcs: [{step: each}]}
  - step: each
    loop: {in: "{{ range(3) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 3}}
    tool:
      kind: python
      code: |
        import pathlib
        seen = pathlib.Path(folder, f"item-{n}")
        if n == 1 and not seen.exists():
            seen.write_text("")
            raise ValueError("try 1 of the item")
        result = n
      input: {folder: "{{ workload.folder }}", n: "{{ iter.n }}"}
      spec:
        policy:
          rules:
            - {when: "{{ output.status == 'error' }}", then: {do: retry, attempts: 3, delay: 0}}
            - {else: {then: {do: continue}}}
"""
)
WAITING = HEAD.format(name="waiting") + (
    """
workflow:
  - step: pause
    tool:
      kind: python
      code: "raise ValueError('not yet')"
      spec:
        policy:
          rules:
            - {when: "{{ output.status == 'error' }}", then: {do: retry, attempts: 3, backoff: fixed, delay: 600}}
            - {else: {then: {do: continue}}}
"""
)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "playbook.yaml"
        path.write_text(text)
        return path

    return write


def test_failed_attempts_of_steps_and_items_are_shown(
    stack: Stack, file: Callable[[str], Path], tmp_path: Path
) -> None:
    # the child that runs Python may be somebody else
    tmp_path.chmod(0o777)
    outcome = stack.run(file(RETRIES), {"folder": str(tmp_path)})
    assert outcome["status"] == "COMPLETED", outcome
    id = outcome["execution_id"]

    shown = stack("show", id).out
    assert "once: attempt 1 of" in shown and "try 1 of the step" in shown and "try 2 of the step" in shown
    assert "item 1, failed" in shown and "try 1 of the item" in shown

    runs = {run["step"]: run for run in stack.ask("show", id)["failed_runs"]}
    assert [entry["attempt"] for entry in runs["once"]["attempts"]] == [1, 2]
    assert [(entry["attempt"], entry["index"]) for entry in runs["each"]["attempts"]] == [(1, 1)]
    assert all(run["queued_ms"] >= 0 and run["run_ms"] > 0 and run["worker"] for run in runs.values())

    explained = stack("explain", id, "once").out
    assert "after 3 attempts" in explained and "try 2 of the step" in explained
    with_attempts = [entry for entry in stack.ask("explain", id, "each")["steps"][0]["chain"] if "attempts" in entry]
    assert [entry["index"] for entry in with_attempts[0]["attempts"]] == [1]


def test_a_step_that_waits_for_its_time_is_delayed(stack: Stack, file: Callable[[str], Path]) -> None:
    id = stack.start(file(WAITING), {})
    until = time.monotonic() + 30
    while (shown := stack.ask("show", id)["under_way"]) and shown[0]["status"] != "delayed":
        assert time.monotonic() < until, shown
        time.sleep(0.2)
    assert len(shown) == 1
    assert "delayed" in stack("show", id).out
    [step] = stack.ask("explain", id)["steps"]
    assert step["status"] == "delayed"
    stack.ask("cancel", id)


PARTLY = HEAD.format(name="partly") + (
    """
workflow:
  - step: each
    loop: {in: "{{ range(300) | list }}", iterator: n, spec: {mode: parallel}}
    spec: {policy: {failure: {mode: best_effort}}}
    tool:
      kind: python
      input: {n: "{{ iter.n }}"}
      code: |
        if n == 211:
            raise ValueError("no such city")
        result = n
      spec:
        policy:
          rules: [{when: "{{ output.status == 'error' }}", then: {do: retry, attempts: 2}}]
"""
)


def test_the_failed_item_of_a_best_effort_loop_is_named(stack: Stack, file: Callable[[str], Path]) -> None:
    outcome = stack.run(file(PARTLY))
    assert outcome["status"] == "COMPLETED", outcome
    id = outcome["execution_id"]
    for words in (("show", id), ("explain", id), ("explain", id, "each")):
        output = " ".join(stack(*words).out.split())
        assert "item 211 failed after 2 attempts: " in output and "no such city" in output, (words, output)
    [loop] = stack.ask("show", id)["failed_items"]
    assert (loop["step"], loop["generation"], loop["failed"]) == ("each", 1, 1)
    [item] = loop["items"]
    assert (item["index"], item["attempts"]) == (211, 2)


LARGE = HEAD.format(name="large") + (
    """
workload: {turns: 60}
workflow:
  - step: grow
    tool:
      kind: python
      input: {n: "{{ ctx.n | default(0) }}"}
      code: |
        result = {"n": n + 1, "text": "x" * 60_000}
    set: {ctx.n: "{{ output.data.n }}", ctx.text: "{{ output.data.text }}"}
    next: {arcs: [{step: grow, when: "{{ ctx.n < workload.turns }}"}]}
"""
)


def test_a_log_larger_than_an_answer_is_read_to_its_end(stack: Stack, file: Callable[[str], Path]) -> None:
    from noetl_serverless.cli.target import running_stack
    from noetl_serverless.limits import ANSWER_BYTES

    id = stack.run(file(LARGE), {"turns": 60})["execution_id"]
    sizes: list[int] = []
    seen: list[int] = []
    with running_stack(stack.data) as client:
        after = 0
        while True:
            status, page = client._once("GET", f"/api/executions/{id}/events?limit=5000&after={after}", None, 60, {})
            assert status == 200
            sizes.append(_size(page))
            if not page:
                break
            seen += [event["seq"] for event in page]
            after = seen[-1]
    assert sum(sizes) > ANSWER_BYTES, "else it shows nothing"
    assert max(sizes) < ANSWER_BYTES
    assert seen == list(range(1, len(seen) + 1))
    assert [event["seq"] for event in stack.events(id)] == seen
    assert stack("replay", id, "--json").status == 0
    turns = {whole: stack("show", id, *whole).out.count(" grow") for whole in ((), ("--all",))}
    assert turns == {(): 3, ("--all",): 60}, "the turns of a cycle are not folded"


def _size(page: Any) -> int:
    import orjson

    return len(orjson.dumps(page))
