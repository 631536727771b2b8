"""Where the steps of an execution stand, and how its commands went."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Client, Upstream
from .test_graphql import Ask, entry


@pytest.fixture
def ask(call: Client, viewer: str) -> Ask:
    return Ask(call, viewer)


async def test_where_the_steps_of_an_execution_stand_can_be_asked_for(ask: Ask, upstream: Upstream) -> None:
    steps = [
        {
            "step": "load",
            "generation": 1,
            "status": status,
            **dict.fromkeys(("queued", "running", "delayed", "parked"), 0),
            **dict.fromkeys(("queued_since", "running_since", "queued_ms", "due_at", "worker")),
            "deliveries": 0,
            "children": ["8"] if status == "parked" else [],
            "signals": ["approve"] if status == "parked" else [],
            "limits": [{"unit": "command", "kind": "rate", "key": "api", "limit": 2, "used": 2, "per": 1.5}]
            if status == "queued"
            else [],
        }
        for status in ("queued", "running", "delayed", "parked", "waiting")
    ]
    upstream.answers["GET /api/executions/7"] = entry(7)
    upstream.answers["GET /api/executions/7/status"] = {"under_way": steps}
    found = await ask.data(
        """{ execution(id: "7") { underWay { step generation status queued running delayed parked queuedSince
            runningSince queuedMs dueAt worker deliveries children signals
            limits { kind key used limit per nextStart } } } }"""
    )
    shown = found["execution"]["underWay"]
    assert [step["status"] for step in shown] == ["queued", "running", "delayed", "parked", "waiting"]
    assert (shown[3]["children"], shown[3]["signals"]) == (["8"], ["approve"])
    assert shown[0]["limits"] == [{"kind": "rate", "key": "api", "used": 2, "limit": 2, "per": 1.5, "nextStart": None}]


async def test_kept_signals_and_variables_are_read(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions/7"] = entry(7)
    upstream.answers["GET /api/executions/7/status"] = {"under_way": [], "kept_signals": ["go"]}
    variable = {"value": {"n": 1}, "type": "computed", "source_step": "a", "access_count": 2, "expires_at": None}
    upstream.answers["GET /api/vars/7"] = {"variables": {"limit": {**variable, "created_at": "2026-01-01T00:00:00Z"}}}
    found = await ask.data(
        """{ execution(id: "7") { keptSignals underWay { step }
            variables { name value type sourceStep createdAt expiresAt accessCount } } }"""
    )
    named = {"name": "limit", "value": {"n": 1}, "type": "computed", "sourceStep": "a", "accessCount": 2}
    named |= {"createdAt": "2026-01-01T00:00:00Z", "expiresAt": None}
    assert found["execution"] == {"keptSignals": ["go"], "underWay": [], "variables": [named]}
    assert [seen.path for seen in upstream.seen].count("/api/executions/7/status") == 1


async def test_the_stored_results_of_an_execution_are_read_page_by_page(ask: Ask, upstream: Upstream) -> None:
    stored: dict[str, Any] = {
        "kind": "result_ref",
        "ref": "noetl://execution/7/result/a/00",
        "name": "a",
        "step": "a",
        "store": "disk",
    }
    stored |= {"scope": "execution", "created_at": "2026-01-01T00:00:00Z", "expires_at": None, "sha256": "0" * 64}
    stored |= {"content_type": "application/json", "bytes": 3 * 2**31, "stored_bytes": 9, "compression": "gzip"}
    stored |= {"put_by": None, "extracted": {"n": 1}, "correlation": {}, "preview": "[1", "row_count": 2}
    upstream.answers["GET /api/executions/7"] = entry(7)
    upstream.answers["GET /api/result/7/list"] = {"results": [stored], "next": "there"}
    found = await ask.data(
        """{ execution(id: "7") { results(first: 1, after: "here", step: "a") { next nodes { ref bytes storedBytes
            compression extracted preview rowCount putBy createdAt } } } }"""
    )
    page = found["execution"]["results"]
    assert (page["next"], page["nodes"][0]["ref"]) == ("there", stored["ref"])
    names = {"bytes": 3 * 2**31, "storedBytes": 9, "compression": "gzip", "extracted": {"n": 1}, "rowCount": 2}
    assert page["nodes"][0].items() >= names.items()
    (seen,) = [seen for seen in upstream.seen if seen.path == "/api/result/7/list"]
    assert dict(seen.query) == {"limit": "1", "after": "here", "step": "a"}


async def test_the_runs_of_an_execution_are_paged(ask: Ask, upstream: Upstream) -> None:
    def run(seq: int) -> dict[str, Any]:
        failed = {
            "attempt": 1,
            "task": "a",
            "index": 4,
            "error": {"code": "http.status"},
            "started_at": "2026-01-01T00:00:00Z",
            "ended_at": "2026-01-01T00:00:01Z",
            "worker": "w-1",
        }
        return {
            "seq": seq,
            "event_type": "frame.committed",
            "step": "each",
            "generation": 1,
            "command_id": "each#1",
            "first_item": 0,
            "end_item": 9,
            "worker": "w-1",
            "issued_at": None,
            "started_at": None,
            "ended_at": "2026-01-01T00:00:02Z",
            "queued_ms": 20,
            "run_ms": 30.5,
            "waited_ms": 0.0,
            "attempts": [failed],
            "attempts_dropped": 2,
            "lost": [{"worker": "w-0", "delivery": 1, "claimed_at": None, "lease_until": None, "given_back_at": None}],
        }

    upstream.answers["GET /api/executions/7"] = entry(7)
    upstream.answers["GET /api/executions/7/runs"] = {"items": [run(3), run(5)], "next": None}
    found = await ask.data(
        """{ execution(id: "7") { runs(first: 1, step: "each", failed: true) {
            nodes { seq queuedMs runMs waitedMs firstItem endItem attemptsDropped
                attempts { attempt task index error startedAt endedAt worker }
                lost { worker delivery claimedAt leaseUntil givenBackAt } }
            pageInfo { hasNextPage endCursor } } } }"""
    )
    assert upstream.last.query == {"after": "0", "limit": "2", "step": "each", "failed": "true"}
    page = found["execution"]["runs"]
    [shown] = page["nodes"]
    assert (shown["queuedMs"], shown["runMs"], shown["attemptsDropped"]) == (20, 30.5, 2)
    assert shown["attempts"] == [
        {
            "attempt": 1,
            "task": "a",
            "index": 4,
            "error": {"code": "http.status"},
            "worker": "w-1",
            "startedAt": "2026-01-01T00:00:00Z",
            "endedAt": "2026-01-01T00:00:01Z",
        }
    ]
    assert shown["lost"] == [
        {"worker": "w-0", "delivery": 1, "claimedAt": None, "leaseUntil": None, "givenBackAt": None}
    ]
    assert page["pageInfo"]["hasNextPage"]
    query = """query ($after: String) { execution(id: "7") { runs(after: $after) { nodes { seq } } } }"""
    await ask.data(query, after=page["pageInfo"]["endCursor"])
    assert upstream.last.query == {"after": "3", "limit": "51"}


WARNING = {"code": "routing.no_match", "step": "first", "message": "no arc of step 'first' was taken"}
KEPT = {
    "execution_id": "7",
    "path": "etl/load",
    "version": 2,
    "seq": 3,
    "at": "2026-01-01T00:00:00Z",
    "error": {"code": "engine.undecidable", "message": "no idea", "place": "engine/decide.py:1 in finish"},
    "fact_count": 1,
    "facts": [
        {
            "type": "call.done",
            "step": "first",
            "generation": 1,
            "command_id": "first#1",
            "at": "2026-01-01T00:00:00Z",
            "payload": None,
            "payload_bytes": 9000,
            "beginning": '{"data":',
        }
    ],
}
APART = """warnings { code message step } quarantined quarantine { seq at factCount error { code message place }
    facts { type step generation commandId at payload payloadBytes beginning } }"""


async def test_an_execution_shows_its_warnings(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions/7"] = {**entry(7), "warnings": [WARNING], "quarantined": False}
    found = (await ask.data(f'{{ execution(id: "7") {{ {APART} }} }}'))["execution"]
    assert found == {"warnings": [WARNING], "quarantined": False, "quarantine": None}
    assert [seen.path for seen in upstream.seen] == ["/api/executions/7"], "it was asked for more than once"


async def test_an_execution_shows_that_it_is_in_quarantine_and_why(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions/7"] = {**entry(7), "warnings": [], "quarantined": True}
    upstream.answers["GET /api/quarantine/7"] = KEPT
    found = (await ask.data(f'{{ execution(id: "7") {{ {APART} }} }}'))["execution"]
    assert (found["warnings"], found["quarantined"]) == ([], True)
    assert found["quarantine"]["error"] == KEPT["error"]
    assert (found["quarantine"]["seq"], found["quarantine"]["factCount"]) == (3, 1)
    [fact] = found["quarantine"]["facts"]
    assert (fact["commandId"], fact["payload"], fact["payloadBytes"]) == ("first#1", None, 9000)
    upstream.answers["GET /api/quarantine/7"] = None
    found = (await ask.data(f'{{ execution(id: "7") {{ {APART} }} }}'))["execution"]
    assert found["quarantine"] is None, "it left quarantine meanwhile"


async def test_those_of_a_list_are_asked_for_once_each(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions"] = [entry(8), entry(7)]
    for id, warnings in ((8, []), (7, [WARNING])):
        upstream.answers[f"GET /api/executions/{id}"] = {**entry(id), "warnings": warnings, "quarantined": False}
    found = await ask.data("{ executions { nodes { warnings { step } quarantined principal } } }")
    shown = found["executions"]["nodes"]
    assert [node["warnings"] for node in shown] == [[], [{"step": "first"}]]
    assert [node["quarantined"] for node in shown] == [False, False]
    assert sorted(seen.path for seen in upstream.seen[1:]) == ["/api/executions/7", "/api/executions/8"]


async def test_a_list_is_narrowed_as_over_rest(ask: Ask, upstream: Upstream) -> None:
    upstream.answers["GET /api/executions"] = []
    since, until = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00+01:00"
    query = """query ($since: String, $until: String) { executions(
        since: $since, until: $until, principal: "ada", principalKind: "user", status: FAILED) { nodes { id } } }"""
    await ask.data(query, since=since, until=until)
    filters = {"since": since, "until": until, "principal": "ada", "principal_kind": "user", "status": "FAILED"}
    assert upstream.last.query == {**filters, "page_size": "21"}


async def test_they_cost_what_a_call_costs(ask: Ask) -> None:
    query = (
        "{ executions(first: 100) { nodes { a: warnings { code } b: warnings { code } c: quarantined d: quarantined "
    )
    query += "e: quarantined f: quarantine { seq } } } }"
    assert "The query costs" in (await ask.error(query, 400))["message"]
