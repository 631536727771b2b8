"""What a log does not say of a command: whether a worker has taken it."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.cli.commands.explain import _held, _lease, _status

RUN = {"step": "a", "generation": 1, "status": "running"}


def wait(row: dict[str, Any] | None, step: str = "a") -> dict[str, Any]:
    return {"for": "worker", "step": step, "generation": 1, **_lease(row)}


def row(status: str) -> dict[str, Any]:
    worker = "w-1" if status == "running" else None
    return {"status": status, "worker": worker, "deliveries": 1, "lease_until": None}


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (["queued"], "queued"),
        (["running"], "running"),
        (["queued", "running"], "running"),
        (["queued", "queued"], "queued"),
        ([], "running"),
    ],
)
def test_a_step_is_queued_until_a_worker_has_one_of_its_commands(rows: list[str], status: str) -> None:
    assert _status(RUN, [wait(row(name)) for name in rows]) == status


def test_the_commands_of_other_steps_do_not_count() -> None:
    assert _status({**RUN, "status": "delayed"}, [wait(row("running"), step="b")]) == "delayed"


def test_what_is_queued_and_what_runs_is_said() -> None:
    assert "queued; no worker has it yet" in _held(wait(row("queued")))
    assert "running; w-1 has it" in _held(wait(row("running")))
    assert _held(wait(None)) == ""
