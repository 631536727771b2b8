"""What is said on stderr while an execution is watched."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.cli.progress import Progress
from noetl_serverless.cli.prompts import MAX_PROMPTS, Prompts

LIMIT = {"unit": "call", "kind": "concurrency", "key": "shop", "limit": 1, "used": 1}


class Status:
    """Answers with what is under way, and counts how often it is asked."""

    def __init__(self, *under_way: dict[str, Any]) -> None:
        self.runs = list(under_way)
        self.asked = 0

    def under_way(self, execution_id: str) -> list[dict[str, Any]]:
        self.asked += 1
        return self.runs


def run(step: str, status: str = "queued", generation: int = 1, **more: Any) -> dict[str, Any]:
    return {"step": step, "generation": generation, "status": status, **more}


def test_a_limit_that_keeps_a_step_waiting_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    status = Status(run("a", limits=[LIMIT]), run("b"), run("c", "running", limits=[LIMIT]))
    prompts = Prompts("7")
    for _ in range(2):
        prompts.show(status, [], Progress())  # type: ignore[arg-type]
    assert capsys.readouterr().err.splitlines() == ["a is queued: concurrency of key shop: 1 of 1 calls running"]
    status.runs = [run("a", generation=2, limits=[LIMIT])]
    prompts.show(status, [], Progress())  # type: ignore[arg-type]
    assert "a is queued" in capsys.readouterr().err, "its second run waits as well"


def test_nothing_is_asked_while_events_come(capsys: pytest.CaptureFixture[str]) -> None:
    status = Status(run("a", limits=[LIMIT]))
    Prompts("7").show(status, [{"event_type": "step.exit"}], Progress())  # type: ignore[arg-type]
    assert (status.asked, capsys.readouterr().err) == (0, "")


def test_of_many_only_some_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    status = Status(*(run(f"s{number}", limits=[LIMIT]) for number in range(2 * MAX_PROMPTS)))
    prompts = Prompts("7")
    for _ in range(2):
        prompts.show(status, [], Progress())  # type: ignore[arg-type]
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == MAX_PROMPTS + 1
    assert shown[-1] == "more are not shown here; to see them, run: noetls explain 7"
