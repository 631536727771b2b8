"""What playbooks/README.md shows of Python code and scripts works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.scripts import SCRIPT_MISSING, scripts_of
from noetl_serverless.testing.playbooks import run_playbook

PAGE = (Path(__file__).parents[2] / "playbooks" / "README.md").read_text()
HEAD: dict[str, Any] = {"apiVersion": "noetl.io/v2", "kind": "Playbook", "metadata": {"name": "x"}}


def shown(heading: str) -> Any:
    """What is in the first block of YAML below a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    block = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert block is not None, f"playbooks/README.md shows nothing about {heading}"
    return yaml.safe_load(block[1])


@pytest.mark.parametrize(
    ("rows", "result"), [([{"n": 1}, {"n": 2}, {"n": 9}], {"mean": 1.5, "year": 2024}), ([], {"mean": None})]
)
async def test_the_python_code_of_the_page_runs(rows: list[dict[str, int]], result: dict[str, Any]) -> None:
    fetch = {
        "step": "fetch",
        "tool": {"kind": "noop"},
        "set": {"ctx.day": "2024-02-29"},
        "next": {"arcs": [{"step": "code"}]},
    }
    playbook = {
        **HEAD,
        "workload": {"limit": 2},
        "workflow": [fetch, {"step": "code", **shown("Python code")}],
    }
    run = await run_playbook(yaml.safe_dump(playbook), tools={"noop": lambda call: {"rows": rows}})
    assert (run.status, run.result) == ("completed", result), run.error


def test_the_scripts_of_the_page_are_scripts() -> None:
    playbook = {**HEAD, "workflow": [{"step": "a", "tool": shown("Scripts")}]}
    assert [script.location for _, script in scripts_of(playbook)] == [
        "scripts/spread.py",
        "s3://team-scripts/load.sql",
        "https://example.com/scripts/load.py",
    ]
    with pytest.raises(InvalidPlaybook) as caught:
        load_plan(yaml.safe_dump(playbook))
    assert [fault.code for fault in caught.value.faults] == [SCRIPT_MISSING] * 3
