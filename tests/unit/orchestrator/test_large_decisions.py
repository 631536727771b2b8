"""What a decision of very many events takes in memory: each of them is there once, and so is what is sent of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pg8000.converters import PY_TYPES

from noetl_serverless.orchestrator.start import new_root
from noetl_serverless.orchestrator.transition import Transition
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.store.connection import Connection
from noetl_serverless.store.event_store import _params
from noetl_serverless.store.projections import project
from noetl_serverless.store.queries import load
from noetl_serverless.testing.catalog import MemoryCatalogEntry

TURNS = 4000
TEXT = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: t, path: t/t}}
executor: {{spec: {{max_turns: {TURNS}}}}}
workflow:
  - step: turn
    loop: {{in: "{{{{ [] }}}}", iterator: x}}
    tool: {{kind: noop}}
    set: {{ctx.n: "{{{{ ctx.n | default(0) + 1 }}}}"}}
    next: {{arcs: [{{step: turn, when: "{{{{ ctx.n < {TURNS} }}}}"}}, {{step: done}}]}}
  - {{step: done, tool: {{kind: noop}}}}
"""
PLAN = load_plan(TEXT)


ENTRY = MemoryCatalogEntry(catalog_id=5, path="t/t", version=1, hash=PLAN.hash, content=TEXT)


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def measured(work: Callable[[], Any]) -> tuple[Any, int, int]:
    """What it gives, the bytes that this takes, and the most that were taken meanwhile."""
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    made = work()
    now, peak = tracemalloc.get_traced_memory()
    return made, now - before, peak - before


def test_a_decision_of_many_events_holds_each_once_and_is_written_and_sent_in_one_copy() -> None:
    opening = new_root(ENTRY, PLAN, {}, 1_800_000_000_000, None)

    def decided() -> Transition:
        turn = Transition(opening.execution, PLAN)
        turn.apply(opening.fact)
        return turn

    # what is compiled and kept for later does not count
    decided()
    turn, kept, peak = measured(decided)
    assert len(turn.events) > 2 * TURNS
    assert peak < 1.08 * kept, "there was a second form of the events, or much work was put off"

    part = turn.to_commit(opening.row)
    rows = project(part.execution.execution_id, part.events, PLAN.pool)
    params, kept, peak = measured(lambda: _params([part], rows))
    assert peak < 2.3 * kept, "the rows were there beside their text"

    connection = Connection.__new__(Connection)
    connection.py_types, connection._client_encoding = PY_TYPES, "utf8"
    (request, _), kept, peak = measured(lambda: connection.request(load("event_store")["commit"], params))
    assert len(request) <= kept
    assert peak < 2.3 * kept, "it was put together more than once"
