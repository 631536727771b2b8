"""Calls of tools of the catalog: nothing of a secret is in what is said of an input or a result."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.worker.builders import FakeTool
from tests.unit.worker.execution.test_keychain import HEAD, TOKEN, Bench, without_secrets

from noetl_serverless.playbook.load import read_playbook
from noetl_serverless.playbook.scripts import with_scripts
from noetl_serverless.playbook.tool_calls import calls_of, parts_of
from noetl_serverless.tools.port import ToolOutcome

TOOL = """apiVersion: noetl.io/v2
kind: Tool
metadata: {name: t, path: tools/t}
input: {type: object, properties: {token: {type: string, maxLength: %d}}, required: [token]}
output: {type: object, properties: {given: {type: string, maxLength: 3}}}
tool: {kind: python, code: "result = {'given': token}"}
"""
CALL = '  - {step: a, tool: {kind: tool, path: tools/t, input: {token: "{{ keychain.api.access_token }}"}}}\n'


def steps(longest: int) -> str:
    """The step and the definition, as they follow the head of a registered playbook."""
    text = HEAD + CALL
    parts: dict[str, str] = {}
    for _, call in calls_of(read_playbook(text).root):
        parts |= parts_of(call, 1, TOOL % longest)
    return with_scripts(text, parts).removeprefix(HEAD)


@pytest.mark.parametrize(("longest", "code", "calls"), [(1000, "tool.output_invalid", 1), (3, "tool.input_invalid", 0)])
async def test_a_secret_that_its_schema_does_not_allow_is_masked(
    tmp_path: Path, longest: int, code: str, calls: int
) -> None:
    bench = Bench(tmp_path)
    tool = bench.tools["python"] = FakeTool(
        lambda call, context: ToolOutcome("ok", data={"given": call.input["token"]})
    )
    outcome = await bench.run(steps(longest))
    assert [call.input["token"] for call in tool.calls] == [TOKEN] * calls
    assert outcome.error is not None
    # of what is too long, its length
    assert (outcome.error["code"], outcome.error["given"]) == (code, str(len(TOKEN)))
    without_secrets(outcome)
