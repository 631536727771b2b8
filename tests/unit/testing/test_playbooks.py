"""Running playbooks in memory, and the page that shows it to users."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.testing.playbooks import run_playbook

PAGE = Path(__file__).parents[3] / "playbooks" / "TESTING.md"
HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\n"


def playbook(path: str, *steps: str) -> str:
    return f"{HEAD}metadata: {{name: t, path: {path}}}\nworkflow:\n" + "".join(f"  - {step}\n" for step in steps)


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 2, "the page has examples of a playbook and of a tool"
    files = [tmp_path / f"test_example_{number}.py" for number in range(len(blocks))]
    for file, block in zip(files, blocks, strict=True):
        file.write_text(block)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        *map(str, files),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr


async def test_a_sub_playbook_runs_too() -> None:
    parent = playbook("t/parent", "{step: call, tool: {kind: playbook, path: t/child, input: {n: 2}}}")
    child = playbook("t/child", "{step: ask, tool: {kind: http, url: 'http://x/{{ workload.n }}'}}")
    run = await run_playbook(parent, playbooks=[child], tools={"http": lambda call: call.config["url"]})
    assert (run.status, run.result) == ("completed", "http://x/2")


async def test_a_loop_gives_its_results_in_order() -> None:
    loop = "{step: each, loop: {in: [3, 1, 2], iterator: it}, tool: {kind: http, url: 'http://x/{{ iter.it }}'}}"
    run = await run_playbook(playbook("t/loop", loop), tools={"http": lambda call: call.config["url"][-1]})
    assert (run.status, run.result["results"]) == ("completed", ["3", "1", "2"])


async def test_a_large_result_is_read_where_it_is_stored() -> None:
    text = "x" * 200_000
    run = await run_playbook(
        playbook("t/t", "{step: a, tool: {kind: http, url: 'http://x'}}"), tools={"http": lambda call: text}
    )
    assert run.result == text
    assert "ref" in run.outcomes["a"]


async def test_a_playbook_that_is_invalid_is_refused() -> None:
    with pytest.raises(InvalidPlaybook):
        await run_playbook(playbook("t/t", "{step: a, tool: {kind: nonsense}}"))
