"""An analysis of an execution, made from what it really did."""

from __future__ import annotations

from typing import Any

from tests.integration.control_plane.conftest import Client, FakeWorker


async def analysis(user: Client, id: str, **body: Any) -> dict[str, Any]:
    answer = await user.post(f"/api/executions/{id}/analyze", body)
    assert answer.status == 200, answer.body
    return answer.json  # type: ignore[no-any-return]


async def test_it_names_what_failed_and_the_attempts_before_it(user: Client, hands: FakeWorker, started: str) -> None:
    [command] = await hands.claim()
    error = {
        "kind": "python",
        "code": "http.timeout",
        "message": "too late: https://ann:abcdefgh12345678@api.example",
        "retryable": False,
    }
    attempts = [{"attempt": n, "task": "first", "error": error} for n in (1, 2)]
    meta = {"attempts": attempts, "duration_ms": 2500.0, "worker": "w-1"}
    await hands.report(command, status="error", error=error, meta=meta)
    found = await analysis(user, started, include_playbook_content=True, event_sample_size=2)
    summary = found["summary"]
    assert (summary["status"], summary["execution_id"], summary["complete"]) == ("FAILED", started, True)
    assert summary["events"] == summary["events_analyzed"] > 2
    [step] = summary["steps"]
    assert (step["step"], step["failed_attempts"], step["run_ms"]) == ("first", 2, 2500.0)
    found_codes = [(one["severity"], one["code"], one["step"]) for one in found["findings"]]
    assert found_codes == [("error", "http.timeout", "first"), ("warning", "attempts", "first")]
    assert any("timeout" in text for text in found["recommendations"])
    assert any(f"/api/executions/{started}/runs" in text for text in found["recommendations"])
    assert [event["seq"] for event in found["event_sample"]] == [summary["events"], summary["events"] - 1]
    assert found["playbook"]["steps"] == ["first", "second"]
    assert "path: demo/two" in found["playbook"]["content"] and not found["playbook"]["content_truncated"]
    assert found["cloud"]["total"]["invocations"] == 1 and found["cloud"]["total"]["cost"] > 0
    assert all(text in found["ai_prompt"] for text in ("http.timeout", "demo/two", found["recommendations"][0]))
    assert "abcdefgh12345678" not in str(found["findings"]) + found["ai_prompt"]


async def test_of_what_runs_it_says_what_it_waits_for(user: Client, started: str) -> None:
    found = await analysis(user, started, event_sample_size=0)
    [waits] = found["findings"]
    assert (waits["severity"], waits["code"], waits["step"]) == ("info", "waits.worker", "first")
    assert (found["event_sample"], found["playbook"]["content"]) == ([], None)


async def test_of_a_long_log_it_says_that_it_saw_a_part(user: Client, hands: FakeWorker, started: str) -> None:
    await hands.finish()
    found = await analysis(user, started, max_events=2)
    assert (found["summary"]["events_analyzed"], found["summary"]["complete"]) == (2, False)
    assert [one["code"] for one in found["findings"]] == ["incomplete"]
    whole = await analysis(user, started)
    assert (whole["findings"], whole["summary"]["complete"]) == ([], True), "an execution without a fault has findings"


async def test_what_is_not_there_is_not_found_and_no_model_is_called(user: Client, started: str) -> None:
    assert (await user.post("/api/executions/77/analyze", {})).status == 404
    assert (await user.post(f"/api/executions/{started}/analyze", {"max_events": 0})).status == 400
    refused = await user.post(f"/api/executions/{started}/analyze/ai", {})
    assert (refused.status, refused.json["code"]) == (400, "request.invalid")
    assert "ai_prompt" in refused.json["detail"]
