"""The call of one tool: whatever goes wrong is in its outcome."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import pyarrow
import pytest
from tests.counted import summed

from noetl_serverless.errors import NotFound, Unavailable
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table
from noetl_serverless.telemetry import metrics
from noetl_serverless.telemetry.masking import masking
from noetl_serverless.tools.fair_queue import Share
from noetl_serverless.tools.port import Credential, ToolCall, ToolFailure, ToolOutcome
from noetl_serverless.worker.execution import toolbox as module
from noetl_serverless.worker.execution.stopwatch import Stopwatch
from noetl_serverless.worker.execution.toolbox import Toolbox, call_tool, context_of

from ..builders import FakeTool, claimed


def toolbox(tmp_path: Path, **tools: FakeTool) -> Toolbox:
    async def credential(name: str) -> Credential:
        return Credential(name, "fake", {"password": "hunter-two-2", "user": "ann-of-users", "port": 5432})

    anything: Any = None
    return Toolbox(
        load_tool=tools.__getitem__,
        python=anything,
        credential=credential,
        stores=anything,
        resolver=anything,
        scratch=tmp_path,
        allow_private_http=True,
    )


async def called(
    tmp_path: Path, given: Any, kind: str = "fake", timeout: float | None = None
) -> tuple[ToolOutcome, float]:
    call = ToolCall(kind, "a", {}, input={}, timeout=timeout)
    box = toolbox(tmp_path, **{kind: FakeTool(given)})
    return await call_tool(box.load_tool, call, context_of(box, claimed("a"), "a/1/a/0"))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (
            ToolFailure("http", "x", "m", retryable=True),
            {"kind": "http", "code": "x", "retryable": True, "message": "m"},
        ),
        (
            NotFound("no such thing"),
            {"kind": "fake", "code": "resource.not_found", "retryable": False, "message": "no such thing"},
        ),
        (Unavailable("away"), {"kind": "fake", "code": "server.unavailable", "retryable": True, "message": "away"}),
        (KeyError("k"), {"kind": "fake", "code": "tool.unavailable", "retryable": False, "message": "'k'"}),
        (
            RuntimeError("oh"),
            {"kind": "fake", "code": "tool.internal", "retryable": False, "message": "RuntimeError: oh"},
        ),
        (
            TimeoutError("slow"),
            {"kind": "fake", "code": "tool.internal", "message": "TimeoutError: slow", "retryable": False},
        ),
        (
            ToolOutcome("error"),
            {"kind": "fake", "code": "tool.failed", "retryable": False, "message": "the fake tool gave no reason"},
        ),
        (
            ToolOutcome("error", error={"message": "m", "sqlstate": "1"}),
            {"kind": "fake", "code": "tool.failed", "retryable": False, "message": "m", "sqlstate": "1"},
        ),
    ],
)
async def test_what_goes_wrong_is_reported(tmp_path: Path, given: Any, error: dict[str, Any]) -> None:
    found, _ = await called(tmp_path, given, timeout=5.0)
    assert (found.status, found.error) == ("error", error)


async def test_a_tool_that_does_not_end_is_cut_off_later_than_it_should_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OVERTIME_SECONDS", 0.05)

    async def slow(call: Any, context: Any) -> ToolOutcome:
        await asyncio.sleep(call.config.get("seconds", 0.1))
        return ToolOutcome("ok", data=1)

    found, _ = await called(tmp_path, slow, timeout=0.01)
    assert found.error is not None
    assert (found.error["code"], found.error["retryable"]) == ("tool.timeout", True)
    assert found.error["message"] == "fake did not end within 0.01 s"
    assert (await called(tmp_path, slow, timeout=0.5))[0].status == "ok"
    assert (await called(tmp_path, slow))[0].status == "ok"
    assert (await called(tmp_path, slow, kind="python", timeout=0.01))[0].status == "ok", "it may stand in a queue"


async def test_a_tool_learns_where_it_runs(tmp_path: Path) -> None:
    tool = FakeTool(ToolOutcome("ok"))
    box = toolbox(tmp_path, fake=tool)
    stopwatch = Stopwatch()
    share = Share("hash", 30)
    given = context_of(box, claimed("a"), "a/1/a/0", attempt=2, waiting=stopwatch.paused, share=share)
    await call_tool(box.load_tool, ToolCall("fake", "a", {}, input={}, timeout=None), given)
    (context,) = tool.contexts
    assert (context.execution_id, context.command_id, context.step) == ("42", "a#1@1", "a")
    assert (context.attempt, context.idempotency_key, context.share) == (2, "42/a/1/a/0", share)
    assert (context.scratch, context.allow_private_http, context.python) == (tmp_path, True, box.python)
    with context.waiting():
        await asyncio.sleep(0.01)
    assert stopwatch.waited >= 0.01


async def test_of_a_credential_only_what_is_secret_is_masked(tmp_path: Path) -> None:
    credential = await toolbox(tmp_path).fetch_credential("db")
    assert (credential.name, credential.data["port"]) == ("db", 5432)
    masked = masking.tree({"x": "hunter-two-2 of ann-of-users"})["x"]
    assert "hunter-two-2" not in masked and "ann-of-users" in masked


async def test_the_duration_is_reported_and_measured(tmp_path: Path) -> None:
    async def slow(call: Any, context: Any) -> ToolOutcome:
        await asyncio.sleep(0.02)
        return ToolOutcome("ok", extra={"http": {"at": float("nan")}}, meta={"stdout": "a\0b"})

    measured = metrics.tool_seconds.labels("fake", "ok")
    before = summed(measured)
    found, milliseconds = await called(tmp_path, slow)
    assert 20 <= milliseconds < 20_000
    assert summed(measured) - before >= 0.02
    assert (found.extra, found.meta) == ({"http": {"at": None}}, {"stdout": "a\ufffdb"})


class Seeing:
    """A tool that says of what type its rows are."""

    config: ClassVar[Any] = None

    async def run(self, call: ToolCall, context: Any) -> ToolOutcome:
        found = [type(call.config["rows"]), type(call.input["load"]["rows"])]
        return ToolOutcome("ok", data=[kind.__name__ for kind in found])

    async def close(self) -> None: ...


class Taking(Seeing):
    takes_tables = True


@pytest.mark.parametrize(("tool", "seen"), [(Seeing(), "list"), (Taking(), "Table")])
async def test_a_tool_that_knows_no_tables_gets_lists(tmp_path: Path, tool: Seeing, seen: str) -> None:
    outcome = await called_with_table(tmp_path, tool)
    assert outcome.data == [seen, seen]


async def test_a_table_that_is_too_large_for_a_list_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.tables.listed.MAX_LISTED_ROWS", 1)
    outcome = await called_with_table(tmp_path, Seeing())
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["retryable"]) == ("value.too_large", False)
    assert (await called_with_table(tmp_path, Taking())).error is None


async def test_a_table_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    outcome = await called_with_table(tmp_path, Seeing(), Table(MappedFile(memory_file(0), 0)))
    assert outcome.error is not None
    assert outcome.error["code"] == "value.invalid"


async def called_with_table(tmp_path: Path, tool: Seeing, table: Table | None = None) -> ToolOutcome:
    if table is None:
        file = memory_file(0)
        table = Table(MappedFile(file, write_table(file, pyarrow.table({"n": [1, 2]})).bytes))
    call = ToolCall("seeing", "a", {"rows": table}, input={"load": {"rows": table}}, has_tables=True)
    box = toolbox(tmp_path)
    outcome, _ = await call_tool(lambda kind: tool, call, context_of(box, claimed("a"), "a/1/a/0"))
    return outcome
