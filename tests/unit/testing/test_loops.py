"""Loops from end to end, in memory: their results in templates, large ones too, and what their items set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.engine import events as e
from noetl_serverless.testing.playbooks import PlaybookRun, run_playbook
from noetl_serverless.tools.port import ToolCall, ToolFailure

PAGE = Path(__file__).parents[3] / "playbooks" / "README.md"
HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t/t}\n"
READING = """
  - step: read
    tool:
      kind: http
      url: "x"
      json: {all: "{{ each }}", first: "{{ each[0].n }}", count: "{{ each | length }}", same: "{{ each.results }}",
             sum: "{{ each | map(attribute='n') | sum }}", stats: "{{ each.stats }}", of_data: "{{ each.data.stats }}"}
"""


def loop(items: str, spec: str = "", tail: str = "next: {arcs: [{step: read}]}") -> str:
    return f"""workflow:
  - step: each
    loop: {{in: "{items}", iterator: x, spec: {{{spec}}}}}
    tool: {{kind: http, url: "item", json: {{n: "{{{{ iter.x }}}}"}}}}
    {tail}
"""


async def test_the_example_of_the_reference_runs() -> None:
    section = PAGE.read_text().partition("\n## Loops\n\n")[2].partition("\n\n")[0]
    text = HEAD + "workload: {users: {rows: [{name: Ann}, {id: 7}, {name: Bo}]}}\nworkflow:\n" + section
    run = await run_playbook(text)
    assert run.result == [{"length": 3}, 3, 1], run.error


def answer(call: ToolCall) -> Any:
    """Of an item what it was sent, of all else the same."""
    return call.config["json"]


@pytest.mark.parametrize("pad", [0, 300, 5_000], ids=["in the state", "in the log", "in the store"])
@pytest.mark.parametrize("spec", ["mode: parallel", "mode: sequential", "mode: parallel, policy: {exec: local}"])
async def test_a_step_after_a_loop_reads_its_results_as_a_list(spec: str, pad: int) -> None:
    def padded(call: ToolCall) -> Any:
        sent = answer(call)
        return {**sent, "pad": "x" * pad} if call.config["url"] == "item" else sent

    run = await run_playbook(HEAD + loop("{{ range(100) | list }}", spec) + READING, tools={"http": padded})
    assert run.status == "completed", run.error
    found = run.result
    items = [{"n": n, "pad": "x" * pad} for n in range(100)]
    assert found["all"] == found["same"] == items
    assert (found["first"], found["count"], found["sum"]) == (0, 100, 4950)
    assert found["stats"] == found["of_data"] == {"total": 100, "success": 100, "failed": 0}
    assert ("ref" in run.outcomes["each"]) == (pad > 0)


async def test_an_item_that_failed_is_null_in_its_place() -> None:
    def one_fails(call: ToolCall) -> Any:
        if call.config["url"] == "item" and call.config["json"]["n"] == 1:
            raise ToolFailure("http", "http.error", "no", retryable=False)
        return answer(call)

    text = HEAD + loop("{{ [0, 1, 2] }}", "policy: {failure: {mode: best_effort}}")
    read = '  - {step: read, tool: {kind: http, url: x, json: {all: "{{ each }}", stats: "{{ each.stats }}"}}}\n'
    run = await run_playbook(text + read, tools={"http": one_fails})
    assert run.result == {"all": [{"n": 0}, None, {"n": 2}], "stats": {"total": 3, "success": 2, "failed": 1}}


@pytest.mark.parametrize("items", ["{{ [] }}", "{{ none }}"])
async def test_a_loop_without_items_gives_an_empty_list_and_goes_on(items: str) -> None:
    tail = """next: {arcs: [{step: read, when: "{{ event.name == 'loop.done' and not each }}"}]}"""
    read = '  - {step: read, tool: {kind: http, url: x, json: {all: "{{ each }}", count: "{{ each | length }}"}}}\n'
    run = await run_playbook(HEAD + loop(items, tail=tail) + read, tools={"http": answer})
    assert (run.result, len(run.calls)) == ({"all": [], "count": 0}, 1)


async def test_a_loop_goes_over_large_results_of_another() -> None:
    text = HEAD + loop("{{ range(40) | list }}", "mode: parallel", "next: {arcs: [{step: again}]}")
    again = (
        '  - {step: again, loop: {in: "{{ each }}", iterator: y}, tool: {kind: http, url: y, json: "{{ iter.y.n }}"}}\n'
    )
    run = await run_playbook(
        text + again,
        tools={"http": lambda call: {"n": 1, "pad": "x" * 9_000} if call.config["url"] == "item" else answer(call)},
    )
    assert run.status == "completed", run.error
    assert run.result["results"] == [1] * 40


async def test_ctx_holds_large_results_as_a_list_by_reference() -> None:
    tail = 'set: {ctx.all: "{{ each }}"}\n    next: {arcs: [{step: read, when: "{{ each.stats.failed == 0 }}"}]}'
    text = HEAD + loop("{{ range(40) | list }}", "mode: parallel", tail)
    read = '  - {step: read, tool: {kind: http, url: x, json: ["{{ ctx.all | length }}", "{{ all[39].n }}"]}}\n'
    run = await run_playbook(
        text + read,
        tools={
            "http": lambda call: {**answer(call), "pad": "x" * 9_000} if call.config["url"] == "item" else answer(call)
        },
    )
    assert run.result == [40, 39], run.error


async def test_nested_loops_are_sub_playbooks() -> None:
    parent = """workflow:
  - step: rows
    loop: {in: [1, 2, 3], iterator: row, spec: {mode: parallel}}
    tool: {kind: playbook, path: t/row, input: {row: "{{ iter.row }}"}, return_step: sums}
    next: {arcs: [{step: all}]}
  - {step: all, tool: {kind: http, url: x, json: "{{ rows }}"}}
"""
    child = """apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: row, path: t/row}
workload: {row: 0}
workflow:
  - step: cells
    loop: {in: "{{ range(workload.row) | list }}", iterator: cell, spec: {policy: {exec: local}}}
    tool: {kind: http, url: x, json: "{{ workload.row * 10 + iter.cell }}"}
    next: {arcs: [{step: sums}]}
  - {step: sums, tool: {kind: http, url: x, json: "{{ cells | sum }}"}}
"""
    run = await run_playbook(HEAD + parent, playbooks=[child], tools={"http": answer})
    assert run.result == [10, 41, 93], run.error


WRITING = """workflow:
  - step: each
    loop: {in: "{{ range(60) | list }}", iterator: x, spec: {mode: parallel, max_in_flight: 7EXEC}}
    tool:
      - name: mark
        kind: http
        url: "mark"
        json: {n: "{{ iter.x }}", seen: "{{ ctx.last | default('nothing') }}"}
        spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.last: "{{ iter.x }}", ctx.own: "{{ iter.x }}",
                                                                   iter.mine: "{{ iter.x }}"}}}}]}}
      - name: work
        kind: http
        url: "work"
        json: {n: "{{ iter.x }}", own: "{{ ctx.own }}", mine: "{{ iter.mine }}", given: "{{ ctx.given }}"}
        spec:
          policy:
            rules:
              - {when: "{{ output.status == 'error' }}", then: {do: retry, attempts: 3, delay: 30}}
              - when: "{{ iter.x % 10 == 4 }}"
                then: {do: continue, set: {ctx.four: "{{ iter.x }}"}}
"""


@pytest.mark.parametrize("exec", ["", ", policy: {exec: distributed}", ", policy: {exec: local}"])
async def test_items_see_their_own_values_and_the_highest_one_that_wrote_wins(exec: str) -> None:
    tries: dict[int, int] = {}

    def fails_at_first(call: ToolCall) -> Any:
        sent = answer(call)
        tries[sent["n"]] = tries.get(sent["n"], 0) + (call.config["url"] == "work")
        if call.config["url"] == "work" and sent["n"] % 3 and tries[sent["n"]] == 1:
            raise ToolFailure("http", "http.error", "busy", retryable=True)
        return sent

    before = """workflow:
  - {step: start, tool: {kind: noop}, set: {ctx.given: "{{ 5 }}"}, next: {arcs: [{step: each}]}}
"""
    text = HEAD + before + WRITING.replace("EXEC", exec).removeprefix("workflow:\n")
    run: PlaybookRun = await run_playbook(
        text, tools={"http": fails_at_first}, expressions=("ctx", "each | length", "each[59].n")
    )
    assert run.status == "completed", run.error
    assert run.values == {
        "ctx": {"given": 5, "last": 59, "own": 59, "four": 54},
        "each | length": 60,
        "each[59].n": 59,
    }
    sent = [call.config["json"] for call in run.calls]
    assert all(each.get("seen", "nothing") == "nothing" for each in sent), "an item saw what another has set"
    assert all(each["own"] == each["mine"] == each["n"] for each in sent if "own" in each)
    frames = [event for event in run.events if event.type == e.FRAME_COMMITTED]
    assert sum(event.payload["ok"] for event in frames) == 60
