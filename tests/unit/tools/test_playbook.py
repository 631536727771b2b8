from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from pydantic import ValidationError

from noetl_serverless.tools.noop import Noop
from noetl_serverless.tools.playbook import SubPlaybook
from noetl_serverless.tools.port import ToolCall, ToolContext

NOWHERE = cast(ToolContext, None)


async def run(config: dict[str, Any], given: dict[str, Any] | None = None) -> Any:
    return await SubPlaybook().run(ToolCall("playbook", "t", config, input=given or {}), NOWHERE)


async def test_a_child_is_asked_for_with_payload_over_input() -> None:
    config = {"path": "demo/child", "version": 3, "payload": {"b": 2}, "return_step": "end"}
    outcome = await run(config, {"a": 1, "b": 1})
    assert outcome.status == "ok"
    assert outcome.child.model_dump() == {
        "path": "demo/child",
        "version": 3,
        "payload": {"a": 1, "b": 2},
        "payload_ref": None,
        "return_step": "end",
        "timeout": None,
    }


async def test_a_path_from_the_root_is_that_of_the_catalog() -> None:
    assert (await run({"path": "/demo/child"})).child.path == "demo/child"


async def test_a_wrong_config_is_an_error_envelope() -> None:
    outcome = await run({"version": 1})
    assert outcome.status == "error"
    assert outcome.error["code"] == "playbook.config"
    assert "'path' is required" in outcome.error["message"]


async def test_noop_says_ok() -> None:
    assert (await Noop().run(ToolCall("noop", "t", {}), NOWHERE)).data == {"status": "ok"}


async def test_a_path_or_a_step_that_no_playbook_can_have_is_an_error_envelope() -> None:
    for config in ({"path": "p" * 501}, {"path": "t/t", "return_step": "s" * 101}, {"path": "t/t", "version": 1 << 31}):
        failed: Any = None
        with suppress(ValidationError):
            failed = await run(config)
        assert failed is not None
        assert failed.error["code"] == "playbook.config"
