from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any, get_args

import pytest
from typer.testing import CliRunner, Result

from noetl_serverless.cli.commands import schedule
from noetl_serverless.cli.main import app
from noetl_serverless.store.overlap import OverlapPolicy
from noetl_serverless.store.schedule_spec import MissedPolicy

CREATE = ["schedule", "create", "daily", "t/a", "--every", "60"]


class ControlPlane:
    """Keeps what it is sent."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def post(self, path: str, body: dict[str, Any]) -> Any:
        self.calls.append((path, body))
        return self.answer

    def get(self, path: str, **query: Any) -> Any:
        self.calls.append((path, query))
        return self.answer


def run(monkeypatch: pytest.MonkeyPatch, answer: Any, *words: str) -> tuple[Result, list[tuple[str, dict[str, Any]]]]:
    plane = ControlPlane(answer)
    monkeypatch.setattr(schedule, "running_stack", lambda data: nullcontext(plane))
    return CliRunner().invoke(app, ["schedule", *words]), plane.calls


def test_the_policies_are_those_of_the_store() -> None:
    assert get_args(schedule.Missed) == get_args(MissedPolicy)
    assert get_args(schedule.Overlap) == get_args(OverlapPolicy)


def test_an_unknown_policy_is_refused_with_the_option_and_its_values() -> None:
    done = CliRunner().invoke(app, [*CREATE, "--missed", "sometimes"])
    assert (done.exit_code, "missed_policy" in done.output) == (2, False)
    assert all(word in done.output for word in ("--missed", "skip", "fire_once", "catch_up"))


def test_a_run_that_could_not_be_started_is_shown_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"code": "input.invalid", "message": "/w: must be an integer"}
    answer = {"name": "daily", "runs": [{"due_at": "2026-01-01", "status": "failed", "reason": None, "error": error}]}
    done, _ = run(monkeypatch, answer, "get", "daily", "--json")
    assert json.loads(done.output)["runs"][0]["error"] == error
    done, _ = run(monkeypatch, answer, "get", "daily")
    assert "must be an integer" in " ".join(done.output.split())


@pytest.mark.parametrize(("words", "policy"), [([], "fire_once"), (["--missed", "CATCH_UP"], "catch_up")])
def test_the_policy_is_sent(monkeypatch: pytest.MonkeyPatch, words: list[str], policy: str) -> None:
    bodies: list[dict[str, Any]] = []

    class ControlPlane:
        def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
            bodies.append(body)
            return {"name": "daily", "enabled": False}

    monkeypatch.setattr(schedule, "running_stack", lambda data: nullcontext(ControlPlane()))
    assert CliRunner().invoke(app, [*CREATE, *words]).exit_code == 0
    assert [body["missed_policy"] for body in bodies] == [policy]


def test_an_update_sends_what_its_options_name_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "update",
        "a b",
        "--every",
        "60",
        "--overlap",
        "queue",
        "--end",
        "2026-05-01",
        "--no-start",
        "--set",
        "n=1",
    ]
    answer = {"name": "a b", "enabled": True, "next_run_at": "soon", "playbook_path": "t/a", "playbook_version": 2}
    done, calls = run(monkeypatch, {**answer, "payload": {"n": 0}, "content": ""}, *words)
    assert done.exit_code == 0, done.output
    body = {"interval_seconds": 60, "overlap_policy": "queue", "end_at": "2026-05-01T00:00:00", "start_at": None}
    assert calls == [
        ("/api/schedules/a%20b", {**body, "input_payload": {"n": 1}}),
        # for what it does not use of the input
        ("/api/catalog/resource", {"path": "t/a", "version": 2}),
    ]
    assert done.output == "a b: next run at soon\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["update", "s"], "nothing is to be changed"),
        (["update", "s", "--cron", "0 * * * *", "--every", "5"], "either --cron or --every"),
        (["update", "s", "--end", "2026-05-01", "--no-end"], "end_at cannot be set and removed"),
        (["update", "s", "--start", "soon"], "--start 'soon': expected a time"),
        (["backfill", "s", "--from", "x", "--to", "2026-05-01"], "--from 'x': expected a time"),
        (["next"], "give the name of a schedule, --cron or --every"),
        (["next", "s", "--cron", "0 * * * *"], "give the name of a schedule, --cron or --every"),
        (["next", "s", "--timezone", "UTC"], "a schedule has its own"),
        (["next", "--every", "soon"], "or a time with a unit such as 15m, 2h or 1d"),
        (["next", "--every", "0"], "--every '0': expected whole seconds, at least 1, or"),
        (["update", "s", "--jitter", "-1"], "--jitter '-1': expected whole seconds, at least 0, or"),
        (["create", "s", "t/a", "--every", "20s", "--timezone", "Europe/Berlin"], "--timezone is for --cron"),
        (["update", "s", "--every", "500ms"], "--every '500ms': expected whole seconds"),
        (["next", "--cron", "nonsense"], "expected five fields"),
        (["next", "--every", "5", "--timezone", "Nowhere/Land"], "there is no time zone"),
        (["next", "--every", "5", "--after", "9999-01-01"], "the year must be"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    done, calls = run(monkeypatch, None, *words)
    assert (done.exit_code, calls) == (2, [])
    assert said in done.output


def test_a_backfill_shows_its_runs_and_how_many_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [{"due_at": "2026-05-01T00:00:00Z", "is_new": True}, {"due_at": "2026-05-02T00:00:00Z", "is_new": False}]
    words = ["backfill", "s", "--from", "2026-05-01", "--to", "2026-05-03T00:00+02:00", "--max", "5", "--dry-run"]
    done, calls = run(monkeypatch, {"new": 1, "runs": runs}, *words)
    sent = {"from": "2026-05-01T00:00:00", "to": "2026-05-03T00:00:00+02:00", "max_runs": 5, "dry_run": True}
    assert calls == [("/api/schedules/s/backfill", sent)]
    assert all(word in done.output for word in ("2026-05-02T00:00:00Z", "1 of 2 runs would be started"))


def test_the_due_times_of_a_line_need_no_stack() -> None:
    words = ["next", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--after", "2025-03-29T12:00", "-n", "2"]
    done = CliRunner().invoke(app, ["schedule", *words, "--json"])
    assert json.loads(done.output) == [
        {"due_at": "2025-03-30T01:00:00Z", "local": "2025-03-30T03:00:00+02:00"},
        {"due_at": "2025-03-31T00:30:00Z", "local": "2025-03-31T02:30:00+02:00"},
    ]
    ended = CliRunner().invoke(app, ["schedule", *words, "--end", "2025-03-29T13:00"])
    assert ended.output == "it is not due any more\n"


def test_a_schedule_is_shown_with_the_executions_of_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = {"due_at": "T1", "start_at": "T2", "status": "started", "backfill": False, "execution_id": "77"}
    skipped = {"due_at": "T0", "start_at": "T0", "status": "skipped", "backfill": False, "reason": "one was running"}
    entry = {"name": "s", "cron": "0 * * * *", "runs": [{**ran, "execution_status": "FAILED"}, skipped]}
    done, calls = run(monkeypatch, entry, "get", "s")
    assert calls == [("/api/schedules/s", {})]
    assert all(word in done.output for word in ("0 * * * *", "77", "FAILED", "one was running"))


@pytest.mark.parametrize(("text", "seconds"), [("10s", 10), ("90", 90), ("1h30m", 5400)])
def test_an_interval_has_units(monkeypatch: pytest.MonkeyPatch, text: str, seconds: int) -> None:
    done, calls = run(
        monkeypatch, {"name": "s", "enabled": True, "next_run_at": "soon"}, "update", "s", "--every", text
    )
    assert (done.output, calls[0][1]) == ("s: next run at soon\n", {"interval_seconds": seconds})


def test_a_jitter_has_units_and_a_zone_is_for_local_times(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["create", "s", "t/a", "--every", "1h", "--jitter", "10m", "--timezone", "Europe/Berlin"]
    done, calls = run(monkeypatch, {"name": "s", "enabled": False}, *words, "--start", "2026-05-01")
    assert done.exit_code == 0, done.output
    assert (calls[0][1]["jitter_seconds"], calls[0][1]["timezone"]) == (600, "Europe/Berlin")
    refused, calls = run(monkeypatch, None, *words, "--start", "2026-05-01T00:00Z")
    assert (refused.exit_code, calls) == (2, [])


def test_the_due_times_of_a_schedule_have_its_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    due = {"due_at": "2025-03-30T01:00:00Z", "start_at": "2025-03-30T01:00:09Z"}
    done, _ = run(monkeypatch, {"items": [due], "timezone": "Europe/Berlin"}, "next", "s", "--json")
    assert json.loads(done.output) == [{**due, "local": "2025-03-30T03:00:00+02:00"}]


def test_a_schedule_that_is_never_due_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"name": "s", "enabled": True, "next_run_at": None}
    done, _ = run(monkeypatch, answer, "create", "s", "t/a", "--every", "60", "--end", "2026-01-01")
    assert done.output == "s: never due: its end has passed, or no time fits\n"
    done, _ = run(monkeypatch, {**answer, "enabled": False}, "update", "s", "--jitter", "1")
    assert done.output == "s: disabled\n"


@pytest.mark.parametrize("words", [CREATE[1:], ["update", "daily"]])
def test_a_value_that_the_playbook_does_not_use_is_reported(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    answer = {
        "name": "daily",
        "enabled": True,
        "next_run_at": "2026-01-01",
        "playbook_path": "t/a",
        "playbook_version": None,
        "payload": {"limit": 1},
        "content": "workload: {limit: 1}\n",
    }
    done, calls = run(monkeypatch, answer, *words, "--set", "limt=2")
    assert done.output.splitlines()[-1] == "warning: the playbook does not use 'limt'; did you mean 'limit'?"
    assert calls[-1] == ("/api/catalog/resource", {"path": "t/a", "version": "latest"})
    assert "warning" not in run(monkeypatch, answer, *words, "--set", "limit=2")[0].output
