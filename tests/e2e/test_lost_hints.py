"""Without a single notification the reconciler alone finishes what runs, only later."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import nats
import nats.js.errors
import pytest
from tests.e2e.faults import TOGETHER, BrokenStack, broken_stack
from tests.e2e.stack import PLAYBOOKS
from tests.e2e.test_event_counts import STEPS, chain

pytestmark = pytest.mark.e2e

LOOP = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: wide, path: hints/wide}
workflow:
  - step: each
    loop: {in: "{{ range(60) | list }}", iterator: n, spec: {mode: parallel, max_in_flight: 8}}
    tool: {kind: python, input: {n: "{{ iter.n }}"}, code: "result = n"}
    next: {arcs: [{step: child}]}
  - step: child
    tool: {kind: playbook, path: counts/chain}
"""


@pytest.fixture(scope="module", params=["together", "separate"])
def silent(request: pytest.FixtureRequest) -> Iterator[BrokenStack]:
    with broken_stack(notify="false", lease=5, processes=request.param) as stack:
        stack.register(chain(STEPS))
        stack.register((PLAYBOOKS / "fan_out.yaml").read_text())
        stack.register(LOOP)
        yield stack


async def published(url: str) -> int:
    """How many pointers the bus was ever given."""
    client = await nats.connect(url)
    try:
        with contextlib.suppress(nats.js.errors.NotFoundError):
            return int((await client.jetstream().stream_info("NOETL_COMMANDS")).state.last_seq)
        return 0
    finally:
        await client.close()


def test_the_reconciler_alone_finishes_a_chain_and_a_fan_out(silent: BrokenStack) -> None:
    ids = [silent.execute(path) for path in ("counts/chain", "examples/fan_out", "hints/wide")]
    ended = silent.wait(ids)

    chained, fanned, wide = (ended[id] for id in ids)
    assert {entry["status"] for entry in ended.values()} == {"COMPLETED"}
    assert chained["result"]["data"] == wide["result"]["data"] == {"value": STEPS}
    assert fanned["result"]["data"]["total"] == 31
    assert silent.audit(ids) == []
    assert asyncio.run(published(silent.running["nats_url"])) == 0


def test_what_a_worker_died_with_is_finished_too(silent: BrokenStack) -> None:
    import random

    execution_id = silent.execute("hints/wide")
    silent.kill(TOGETHER if silent.is_together else "worker server", random.Random(0))
    ended = silent.wait([execution_id])

    assert ended[execution_id]["status"] == "COMPLETED"
    assert silent.audit([execution_id]) == []
