"""What a test of a tool is given: the context of its calls, credentials, and a tool that answers as the test says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from noetl_serverless.testing.tools import CallPlace, FakeTool, credentials_of, place_of, tool_context
from noetl_serverless.tools.port import Credential, ToolCall, ToolFailure, ToolOutcome

CALL = ToolCall("http", "task", {"url": "http://x"})


async def test_a_context_is_that_of_the_first_call_of_a_step(tmp_path: Path) -> None:
    context = tool_context(tmp_path, {"shop": {"token": "secret"}})
    assert (context.execution_id, context.command_id, context.step, context.attempt) == ("1", "step#1", "step", 1)
    assert context.idempotency_key == "1/step/1/task/0"
    assert (context.scratch, context.allow_private_http) == (tmp_path, True)
    assert (await context.credential("shop")).data == {"token": "secret"}
    with pytest.raises(KeyError):
        await tool_context(tmp_path).credential("shop")


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("1/step/2/task/0", CallPlace("step", 2, None, "task")),
        ("1/step/2/7/task/3", CallPlace("step", 2, 7, "task")),
        ("1/step/1/a/b/0", CallPlace("step", 1, None, "a/b")),
    ],
)
def test_the_place_of_a_call_is_read_from_its_key(tmp_path: Path, key: str, place: CallPlace) -> None:
    context = replace(tool_context(tmp_path), idempotency_key=key)
    assert place_of(replace(CALL, name=place.task), context) == place


async def test_a_credential_is_found_by_its_name_alone() -> None:
    find = credentials_of({"a": {"n": 1}, "b": {"n": 2}})
    assert await find("b") == Credential("b", "test", {"n": 2})
    with pytest.raises(KeyError, match="c"):
        await find("c")


async def test_a_fake_tool_answers_and_records_each_call(tmp_path: Path) -> None:
    def fail(call: ToolCall) -> object:
        raise ToolFailure("http", "http.timeout", "no answer", retryable=True)

    calls: list[ToolCall] = []
    context = tool_context(tmp_path)
    assert await FakeTool(lambda call: call.config["url"], calls).run(CALL, context) == ToolOutcome(
        "ok", data="http://x"
    )
    failed = await FakeTool(fail, calls).run(CALL, context)
    assert failed.status == "error" and failed.error is not None
    assert (failed.error["code"], failed.error["retryable"]) == ("http.timeout", True)
    assert calls == [CALL, CALL], "a call that fails is a call"
