"""Whole playbooks: the worker with its real tools and python processes, over the real ledger and a log in memory."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from noetl_serverless.bus.memory import MemoryNotifier
from noetl_serverless.errors import NotFound
from noetl_serverless.ledger.doorbell import Doorbell
from noetl_serverless.ledger.ledger import Ledger
from noetl_serverless.ledger.playbooks import Playbooks
from noetl_serverless.playbook.compile import load_plan
from noetl_serverless.protocol import ClaimRequest, HeartbeatRequest, ReportRequest
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.settings import Settings
from noetl_serverless.store.memory import MemoryLog
from noetl_serverless.tools import registry
from noetl_serverless.tools.python_pool import PythonPool
from noetl_serverless.worker.client import Answer
from noetl_serverless.worker.drain import Worker


@dataclass
class Entry:
    catalog_id: int
    path: str
    version: int
    hash: str
    content: str


@dataclass
class Catalog:
    found: dict[str, Entry] = field(default_factory=dict)

    def add(self, path: str, body: str) -> None:
        text = f"apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: t, path: {path}}}\n{dedent(body)}"
        self.found[path] = Entry(len(self.found) + 1, path, 1, load_plan(text).hash, text)

    async def get(self, path: str, version: int | None = None) -> Entry:
        if path not in self.found:
            raise NotFound(f"there is no playbook {path}")
        return self.found[path]

    async def by_id(self, catalog_id: int) -> Entry:
        return next(entry for entry in self.found.values() if entry.catalog_id == catalog_id)

    async def text(self, hash: str) -> str:
        return next(entry.content for entry in self.found.values() if entry.hash == hash)


class Direct:
    """The control plane without HTTP, but with everything put into JSON and back."""

    def __init__(self, ledger: Ledger, log: MemoryLog) -> None:
        self.ledger = ledger
        self.log = log

    async def claim(self, request: ClaimRequest, *, within: float) -> Answer[Any]:
        return Answer(_again(await self.ledger.claim(_again(request))))

    async def report(self, request: ReportRequest, *, within: float) -> Answer[Any]:
        return Answer(_again(await self.ledger.report(_again(request))))

    async def heartbeat(self, request: HeartbeatRequest, *, within: float) -> Any:
        return await self.ledger.heartbeat(request)

    async def credential(self, name: str) -> Any:
        raise NotFound(f"there is no credential {name}")

    async def manifest(self, execution_id: str, step: str, generation: int) -> dict[str, Any]:
        events = await self.log.events(execution_id)
        parts = [
            {name: event.payload[name] for name in ("start", "end", "data", "ref") if name in event.payload}
            for event in events
            if event.type == "frame.committed" and (event.step, event.generation) == (step, generation)
        ]
        return {"parts": parts}

    async def close(self) -> None:
        return None


def _again(message: Any) -> Any:
    return type(message).model_validate_json(message.model_dump_json())


class Stack:
    def __init__(self, scratch: Path) -> None:
        self.catalog = Catalog()
        self.log = MemoryLog(time.time)
        self.notifier = MemoryNotifier()
        catalog: Any = self.catalog
        self.ledger = Ledger(self.log, Playbooks(catalog), Doorbell(self.notifier, None, background=False))
        client: Any = Direct(self.ledger, self.log)
        self.store = FsspecResultStore(f"memory://{secrets.token_hex(6)}")
        self.worker = Worker(
            Settings(scratch=str(scratch)),
            client,
            self.notifier,
            self.store,
            registry.load,
            PythonPool(2, 1024, scratch),
            load_plan,
        )

    async def run(self, body: str, **payload: Any) -> Any:
        """Register, start, and drain until the execution has ended; gives its state."""
        self.catalog.add("t/t", body)
        id = (await self.ledger.start(path="t/t", payload=payload)).execution_id
        for _ in range(50):
            await self.worker.drain(20)
            state = await self.state(id)
            if state.ended:
                return state
            for name, timer in list(state.timers.items()):
                step, _, generation = timer.key.rpartition("#")
                await self.ledger.fire(id, name, step, int(generation))
        raise AssertionError(f"the execution did not end: {state}")

    async def state(self, id: str) -> Any:
        return (await self.log.load([id]))[id].state

    def types(self, id: str) -> list[str]:
        return [event.type for event in self.log.executions[id].events]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path)
    yield stack
    await stack.worker.close()
    await registry.close()


async def test_steps_hand_on_their_results(stack: Stack) -> None:
    state = await stack.run(
        """
        workload: {n: 3}
        workflow:
          - step: one
            tool: {kind: python, code: "result = {'x': n * 2}", input: {n: "{{ workload.n }}"}}
            next: {arcs: [{step: two}]}
          - step: two
            tool: {kind: python, code: "result = {'y': x + 1}", input: {x: "{{ one.x }}"}}
        """
    )
    assert state.status == "completed"
    assert state.outcomes["two"]["data"] == {"y": 7}


async def test_a_big_result_passes_by_reference(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: make
            tool: {kind: python, code: "result = {'text': 'x' * 2_000_000, 'n': 5}"}
            next:
              arcs:
                - {step: measure, when: "{{ make.n == 5 }}"}
          - step: measure
            tool: {kind: python, code: "result = len(text)", input: {text: "{{ make.text }}"}}
        """
    )
    assert state.status == "completed"
    assert "ref" in state.outcomes["make"]
    assert state.outcomes["measure"]["data"] == 2_000_000
    assert len(stack.log.refs) == 1


async def test_selected_fields_route_small_and_big(stack: Stack) -> None:
    for size in (1, 100_000):
        state = await stack.run(
            """
            workload: {size: 1}
            workflow:
              - step: make
                tool:
                  kind: python
                  code: "result = {'page': {'next': 7}, 'text': 'x' * size}"
                  input: {size: "{{ workload.size }}"}
                  output: {select: [{path: $.page.next, as: cursor}]}
                next: {arcs: [{step: more, when: "{{ make.cursor == 7 }}"}]}
              - step: more
                tool: {kind: noop}
            """,
            size=size,
        )
        assert state.status == "completed"
        assert state.last == "more"


@pytest.mark.parametrize("spec", ["{mode: parallel, max_in_flight: 3}", "{mode: sequential}"])
async def test_a_loop_gives_its_results_in_order(stack: Stack, spec: str) -> None:
    body = """
        workload: {rows: [5, 6, 7, 8]}
        workflow:
          - step: each
            loop: {in: "{{ workload.rows }}", iterator: row, spec: SPEC}
            tool:
              kind: python
              code: "result = row * 10 + i"
              input: {row: "{{ row }}", i: "{{ iter._index }}"}
            next: {arcs: [{step: sum, when: "{{ event.name == 'loop.done' }}"}]}
          - step: sum
            tool: {kind: python, code: "result = sum(rows)", input: {rows: "{{ each.results }}"}}
        """
    state = await stack.run(body.replace("SPEC", spec))
    assert state.status == "completed"
    assert state.outcomes["each"]["data"]["results"] == [50, 61, 72, 83]
    assert state.outcomes["sum"]["data"] == 266


async def test_a_wide_loop_over_a_stored_collection_is_read_through_its_manifest(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: make
            tool: {kind: python, code: "result = {'rows': [{'i': i, 'pad': 'x' * 60} for i in range(2000)]}"}
            next: {arcs: [{step: each}]}
          - step: each
            loop: {in: "{{ make.rows }}", iterator: row, spec: {mode: parallel, max_in_flight: 16}}
            tool: {kind: noop, spec: {policy: {rules: [{else: {then: {do: continue, set: {iter.k: "{{ row.i }}"}}}}]}}}
            next: {arcs: [{step: count}]}
          - step: count
            tool: {kind: python, code: "result = len(rows)", input: {rows: "{{ each.results }}"}}
        """
    )
    assert state.status == "completed"
    assert state.outcomes["each"]["ref"]["kind"] == "manifest"
    assert state.outcomes["count"]["data"] == 2000


async def test_a_pipeline_pages_with_jump_and_break(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: read_all
            tool:
              - name: begin
                kind: noop
                spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.page: 1, ctx.rows: 0}}}}]}}
              - name: page
                kind: python
                input: {p: "{{ ctx.page }}"}
                code: "result = {'n': p, 'more': p < 4}"
              - name: store
                kind: noop
                spec:
                  policy:
                    rules:
                      - when: "{{ page.more }}"
                        then:
                          do: jump
                          to: page
                          set: {ctx.page: "{{ ctx.page + 1 }}", ctx.rows: "{{ ctx.rows + page.n }}"}
                      - else: {then: {do: break}}
            next: {arcs: [{step: report}]}
          - step: report
            tool: {kind: python, code: "result = [page, rows]", input: {page: "{{ ctx.page }}", rows: "{{ ctx.rows }}"}}
        """
    )
    assert state.status == "completed"
    assert state.outcomes["report"]["data"] == [4, 6]
    assert state.outcomes["read_all"]["data"]["status"] == "break"


async def test_a_long_retry_is_a_timer(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: try
            tool:
              kind: python
              code: |
                if tries < 3: raise ValueError('not yet')
                result = tries
              input: {tries: "{{ ctx.tries | default(1) }}"}
              spec:
                policy:
                  rules:
                    - when: "{{ output.status == 'error' }}"
                      then:
                        {do: retry, attempts: 5, backoff: fixed, delay: 600, set: {ctx.tries: "{{ _attempt + 1 }}"}}
        """
    )
    assert state.status == "completed"
    assert stack.types(state.execution_id).count("timer.set") == 2


CHILD = """
workload: {seed: 0}
workflow:
  - step: first
    tool: {kind: python, code: "result = {'v': s + 1}", input: {s: "{{ workload.seed }}"}}
    next: {arcs: [{step: finish}]}
  - step: finish
    tool: {kind: noop}
"""


async def test_a_sub_playbook_gives_its_steps_result(stack: Stack) -> None:
    stack.catalog.add("t/child", CHILD)
    state = await stack.run(
        """
        workflow:
          - step: sub
            tool: {kind: playbook, path: t/child, input: {seed: 4}, return_step: first}
            next: {arcs: [{step: after}]}
          - step: after
            tool: {kind: python, code: "result = v", input: {v: "{{ sub.v }}"}}
        """
    )
    assert state.status == "completed"
    assert state.outcomes["after"]["data"] == 5


async def test_sub_playbooks_in_a_loop_and_in_a_pipeline(stack: Stack) -> None:
    stack.catalog.add("t/child", CHILD)
    state = await stack.run(
        """
        workflow:
          - step: each
            loop: {in: "{{ [1, 2, 3] }}", iterator: n, spec: {mode: parallel, max_in_flight: 2}}
            tool:
              - {name: sub, kind: playbook, path: t/child, input: {seed: "{{ n }}"}, return_step: first}
              - {name: double, kind: python, code: "result = {'d': v * 2}", input: {v: "{{ sub.v }}"}}
        """
    )
    assert state.status == "completed"
    assert [item["d"] for item in state.outcomes["each"]["data"]["results"]] == [4, 6, 8]


async def test_a_failed_item_takes_the_failure_arc(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: each
            loop: {in: "{{ [2, 1, 0] }}", iterator: n, spec: {mode: sequential}}
            tool: {kind: python, code: "result = 1 / n", input: {n: "{{ n }}"}}
            next: {arcs: [{step: tell, when: "{{ event.name == 'call.error' }}"}]}
          - step: tell
            tool: {kind: python, code: "result = why", input: {why: "{{ each.error.code }}"}}
        """
    )
    assert state.status == "completed"
    assert state.outcomes["tell"]["data"] == "loop.item_failed"


async def test_a_missing_name_fails_with_its_line(stack: Stack) -> None:
    state = await stack.run(
        """
        workflow:
          - step: one
            tool: {kind: python, code: "result = 1", input: {n: "{{ workload.nix }}"}}
        """
    )
    assert state.status == "failed"
    assert state.error["name"] == "nix"
    assert state.error["at"] == 7
