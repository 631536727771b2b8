"""Deliveries of a frame of a loop over a cursor: which rows each goes on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.worker.builders import FakeTool, claimed

from noetl_serverless.playbook.load import load_plan
from noetl_serverless.protocol import Frame, Outcome
from noetl_serverless.results.files import ResultFiles
from noetl_serverless.results.reader import Resolver
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.tables.from_rows import table_of
from noetl_serverless.tables.sealed import memory_file, sealed_file
from noetl_serverless.tables.stream import write_batches
from noetl_serverless.tables.table import Table
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


class Jobs(FakeTool):
    """Rows to claim. `ends`: what becomes of each claim's transaction, in turn; `form`: what the rows come as."""

    def __init__(self, *ends: str) -> None:
        super().__init__()
        self.ends = ends
        self.claims = 0
        self.form: Callable[[list[dict[str, Any]]], Any] = list

    async def claim(self, call: Any, context: Any, record: Any, seconds: float) -> ToolOutcome:
        self.claims += 1
        rows = self.form([{"id": 2 * self.claims}, {"id": 2 * self.claims + 1}])
        await record(rows, self.claims)
        return ToolOutcome("ok", data={"rows": rows})

    async def claim_status(self, auth: str, context: Any, transaction: int) -> str:
        return self.ends[transaction - 1]


@pytest.fixture
def toolbox(tmp_path: Path) -> Toolbox:
    stores = ResultStores(FsspecResultStore(f"memory://{tmp_path.name}"))
    tools = {"postgres": Jobs(), "python": FakeTool(lambda call, context: ToolOutcome("ok", data=call.input["id"]))}

    async def credential(name: str) -> Any:
        raise AssertionError(name)

    files = ResultFiles(tmp_path)
    return Toolbox(
        load_tool=cast(Any, tools.__getitem__),
        python=cast(Any, None),
        credential=credential,
        stores=stores,
        resolver=Resolver(stores, files=files),
        scratch=tmp_path,
        files=files,
    )


def as_table(rows: list[dict[str, Any]]) -> Table:
    def write(descriptor: int) -> int:
        columns = table_of(rows)
        return write_batches(descriptor, columns.schema, columns.to_batches()).bytes

    return Table(sealed_file(1000, write, memory_file))


async def run(toolbox: Toolbox, delivery: int) -> Outcome:
    command = claimed(
        step="drain", kind="frame", frame=Frame(index=0, start=0, end=2, concurrency=1), count=None, delivery=delivery
    )
    return await Executor(toolbox, "w").run(command, load_plan(PLAYBOOK), TimeBudget(60.0))


@pytest.mark.parametrize("form", [list, as_table], ids=["as a list", "as a table"])
@pytest.mark.parametrize("again", [1, 2, 3], ids=["the same delivery", "the next one", "one after that"])
@pytest.mark.parametrize(
    ("ends", "rows", "claims"), [(("committed",), [2, 3], 1), (("aborted", "committed"), [4, 5], 2)]
)
async def test_a_claim_that_has_committed_is_continued_and_one_that_was_rolled_back_made_anew(
    toolbox: Toolbox, form: Any, again: int, ends: tuple[str, ...], rows: list[int], claims: int
) -> None:
    jobs = cast(Jobs, toolbox.load_tool("postgres"))
    jobs.ends, jobs.form = ends, form
    first = await run(toolbox, 1)
    assert first.data == [2, 3], first
    for _ in range(2):
        outcome = await run(toolbox, again)
        assert (outcome.data, jobs.claims) == (rows, claims), outcome
    records = [key async for key in toolbox.stores.default.list("42") if "/claim-" in key]
    assert len(records) == claims, "each claim keeps its record"
