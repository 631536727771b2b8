"""Deliveries of a frame of a loop over a cursor: which rows each goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.worker.builders import FakeTool, claimed

from noetl_serverless.playbook.load import load_plan
from noetl_serverless.protocol import Frame, Outcome
from noetl_serverless.results.reader import Resolver
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.tools.port import ToolOutcome
from noetl_serverless.worker.execution.executor import Executor
from noetl_serverless.worker.execution.time_budget import TimeBudget
from noetl_serverless.worker.execution.toolbox import Toolbox

PLAYBOOK = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: x}
workflow:
  - step: drain
    loop:
      iterator: job
      cursor: {kind: postgres, auth: jobs, claim: "SELECT {{ __frame_max_rows }}"}
      spec: {mode: cursor, max_in_flight: 1, frame: {max_rows: 2}}
    tool: {kind: python, input: {id: "{{ iter.job.id }}"}, code: "result = id"}
"""


class Table(FakeTool):
    """Rows to claim. `ends`: what becomes of each claim's transaction, in turn."""

    def __init__(self, *ends: str) -> None:
        super().__init__()
        self.ends = ends
        self.claims = 0

    async def claim(self, call: Any, context: Any, record: Any, seconds: float) -> ToolOutcome:
        self.claims += 1
        rows = [{"id": 2 * self.claims}, {"id": 2 * self.claims + 1}]
        await record(rows, self.claims)
        return ToolOutcome("ok", data={"rows": rows})

    async def claim_status(self, auth: str, context: Any, transaction: int) -> str:
        return self.ends[transaction - 1]


@pytest.fixture
def toolbox(tmp_path: Path) -> Toolbox:
    stores = ResultStores(FsspecResultStore(f"memory://{tmp_path.name}"))
    tools = {"postgres": Table(), "python": FakeTool(lambda call, context: ToolOutcome("ok", data=call.input["id"]))}

    async def credential(name: str) -> Any:
        raise AssertionError(name)

    return Toolbox(
        load_tool=cast(Any, tools.__getitem__),
        python=cast(Any, None),
        credential=credential,
        stores=stores,
        resolver=Resolver(stores),
        scratch=tmp_path,
    )


async def run(toolbox: Toolbox, delivery: int) -> Outcome:
    command = claimed(
        step="drain", kind="frame", frame=Frame(index=0, start=0, end=2, concurrency=1), count=None, delivery=delivery
    )
    return await Executor(toolbox, "w").run(command, load_plan(PLAYBOOK), TimeBudget(60.0))


@pytest.mark.parametrize("again", [1, 2, 3], ids=["the same delivery", "the next one", "one after that"])
@pytest.mark.parametrize(
    ("ends", "rows", "claims"), [(("committed",), [2, 3], 1), (("aborted", "committed"), [4, 5], 2)]
)
async def test_a_claim_that_has_committed_is_continued_and_one_that_was_rolled_back_made_anew(
    toolbox: Toolbox, again: int, ends: tuple[str, ...], rows: list[int], claims: int
) -> None:
    table = cast(Table, toolbox.load_tool("postgres"))
    table.ends = ends
    first = await run(toolbox, 1)
    assert first.data == [2, 3], first
    for _ in range(2):
        outcome = await run(toolbox, again)
        assert (outcome.data, table.claims) == (rows, claims), outcome
    records = [key async for key in toolbox.stores.default.list("42")]
    assert len(records) == claims, "each claim keeps its record"
