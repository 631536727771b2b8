"""The playbooks of playbooks/COMING_FROM.md register without a word, and do what the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.testing.playbooks import run_playbook
from noetl_serverless.tools.plans import lint

PAGE = (Path(__file__).parents[3] / "playbooks" / "COMING_FROM.md").read_text()
EXAMPLES = {re.search(r"path: (\S+?)}", text)[1]: text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)}  # type: ignore[index]


def answers(*found: Any) -> Any:
    """An http tool that answers these, one after the other."""
    remaining: Iterator[Any] = iter(found)
    return lambda call: {"data": next(remaining)}


@pytest.mark.parametrize("path", EXAMPLES)
def test_an_example_has_neither_errors_nor_warnings(path: str) -> None:
    assert lint(EXAMPLES[path]) == []


async def test_a_large_order_is_reviewed() -> None:
    run = await run_playbook(EXAMPLES["from/step_functions"], tools={"http": answers({})})
    assert {name for name, outcome in run.outcomes.items() if outcome["status"] == "ok"} == {"charge", "review", "ship"}


async def test_the_extracts_are_loaded_as_one_list() -> None:
    run = await run_playbook(EXAMPLES["from/airflow"])
    assert run.error is None, run.error
    assert run.result["rows"] == [{"total": 4}]


async def test_all_pages_are_read() -> None:
    pages = answers({"items": [1, 2], "more": True}, {"items": [3], "more": False})
    run = await run_playbook(EXAMPLES["from/kestra"], tools={"http": pages})
    assert (run.error, run.result) == (None, 3)


async def test_a_job_is_polled_until_it_is_done() -> None:
    states = answers({"state": "running"}, {"state": "queued"}, {"state": "done"}, {})
    run = await run_playbook(
        EXAMPLES["from/temporal"], tools={"http": states}, playbooks=[EXAMPLES["from/step_functions"]]
    )
    assert run.error is None, run.error
    assert [call.config["url"] for call in run.calls if call.kind == "http"][:3] == ["http://jobs.example/jobs/7"] * 3
