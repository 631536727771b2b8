"""Several of each at work at once: what one instance does, all do, once."""

from __future__ import annotations

from tests.integration.concurrency.harness import Harness

from noetl_serverless.engine import events as e

CHAIN = """
workflow:
  - {step: a, tool: {kind: python, code: "", input: {n: 1}}, next: {arcs: [{step: b}]}}
  - step: b
    tool: {kind: python, code: "", input: {n: 2}}
    next: {spec: {mode: inclusive}, arcs: [{step: c}, {step: d}]}
  - {step: c, tool: {kind: python, code: "", input: {n: 3}}, next: {arcs: [{step: e}]}}
  - {step: d, tool: {kind: python, code: "", input: {n: 4}}, next: {arcs: [{step: e}]}}
  - {step: e, tool: {kind: python, code: "", input: {n: 5}}}
"""
LOOP = """
workflow:
  - step: each
    loop: {in: "{{ range(24) | list }}", iterator: x, spec: {mode: parallel, max_in_flight: 8}}
    tool: {kind: python, code: "", input: {n: "{{ x }}"}}
    next: {arcs: [{step: last}]}
  - {step: last, tool: {kind: python, code: "", input: {n: "{{ each.results | length }}"}}}
"""
PARENT = """
workflow:
  - step: below
    loop: {in: "{{ range(4) | list }}", iterator: x, spec: {mode: parallel, max_in_flight: 4}}
    tool: {kind: playbook, path: t/chain}
    next: {arcs: [{step: last}]}
  - {step: last, tool: {kind: python, code: "", input: {n: 1}}}
"""


async def test_what_many_instances_do_at_once_is_done_once(harness: Harness) -> None:
    for path, body in (("t/chain", CHAIN), ("t/loop", LOOP), ("t/parent", PARENT)):
        await harness.add(path, body)
    ids = [await harness.start(path) for path in ("t/chain", "t/loop", "t/parent") for _ in range(4)]

    await harness.settle(ids)

    assert harness.findings() == []
    assert [id for id in ids if not await harness.events(id, e.COMPLETED)] == []
    again = {key: times for key, times in harness.tool.ran.items() if times > 1}
    assert again == {}, "no worker was lost, and so nothing had to run a second time"
