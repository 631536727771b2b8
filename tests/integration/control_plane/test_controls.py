"""Pauses and signals over REST, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.audit import audit
from tests.integration.control_plane.conftest import Client, FakeWorker

WAITING = (
    "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: w, path: demo/waiting}\n"
    "workflow: [{step: hold, tool: {kind: wait, signal: paid}}]\n"
)
CYCLE = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: again, path: demo/again}
workload: {who: boss}
workflow:
  - step: ask
    tool: {kind: wait, approval: boss}
    next: {arcs: [{step: ask, when: "{{ output.status == 'ok' }}"}, {step: pay}]}
  - {step: pay, tool: {kind: wait, signal: paid}}
"""
ASKING = WAITING.replace("demo/waiting", "demo/asking").replace("signal: paid", "approval: boss")


@pytest.fixture
async def waiting(user: Client, hands: FakeWorker) -> str:
    """The id of an execution that waits for a signal."""
    assert (await user.post("/api/catalog/register", {"content": WAITING})).status == 200
    id = str((await user.post("/api/execute", {"path": "demo/waiting"})).json["execution_id"])
    await park(hands, {"signal": "paid"})
    return id


async def park(hands: FakeWorker, wait: dict[str, Any]) -> None:
    [command] = await hands.claim()
    await hands.report(command, status="parked", wait=wait)


async def entry(user: Client, id: str) -> Any:
    return (await user.get(f"/api/executions/{id}")).json


class TestPause:
    async def test_nothing_of_it_is_claimed_until_it_goes_on(
        self, user: Client, hands: FakeWorker, started: str
    ) -> None:
        answer = await user.post(f"/api/executions/{started}/pause", {"reason": "a fault"})
        assert (answer.status, answer.json) == (200, {"execution_id": started, "status": "paused"})
        assert await hands.claim() == [], "a command of a paused execution was claimed"
        again = await user.post(f"/api/executions/{started}/pause", {})
        assert again.json["status"] == "already_paused"

        answer = await user.post(f"/api/executions/{started}/resume")
        assert answer.json["status"] == "resumed"
        assert (await user.post(f"/api/executions/{started}/resume")).json["status"] == "not_paused"
        await hands.finish()
        assert (await entry(user, started))["status"] == "COMPLETED"

    @pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
    @pytest.mark.parametrize("body", [{"reason": 5}, {"why": "a fault"}])
    async def test_what_it_does_not_know_is_refused(
        self, user: Client, started: str, verb: str, body: dict[str, Any]
    ) -> None:
        answer = await user.post(f"/api/executions/{started}/{verb}", body)
        assert answer.status == 400 and f"{next(iter(body))}" in answer.json["detail"], answer.body
        assert (await entry(user, started))["status"] == "RUNNING"

    async def test_lists_and_the_status_say_since_when(self, user: Client, started: str) -> None:
        assert (await entry(user, started))["paused_since"] is None
        await user.post(f"/api/executions/{started}/pause", {})
        since = (await entry(user, started))["paused_since"]
        assert since is not None
        [listed] = (await user.get("/api/executions", status="PAUSED")).json
        status = (await user.get(f"/api/executions/{started}/status")).json
        assert [listed["paused_since"], status["paused_since"]] == [since, since]
        [under_way] = status["under_way"]
        assert (under_way["status"], under_way["queued"]) == ("paused", 1)
        await user.post(f"/api/executions/{started}/cancel", {})
        assert (await entry(user, started))["paused_since"] is None
        assert (await user.get("/api/executions", status="PAUSED")).json == []

    async def test_its_commands_are_paused(self, user: Client, started: str) -> None:
        await user.post(f"/api/executions/{started}/pause", {})
        [listed] = (await user.get(f"/api/executions/{started}/commands")).json["items"]
        [recorded] = (await user.get(f"/api/executions/{started}/recording")).json["commands"]
        assert [listed["status"], recorded["status"]] == ["paused", "paused"]

    async def test_what_a_worker_has_already_ends_and_nothing_follows(
        self, user: Client, hands: FakeWorker, started: str
    ) -> None:
        [command] = await hands.claim()
        await user.post(f"/api/executions/{started}/pause", {})
        answer = await hands.report(command, data=1)
        assert answer["commands"] == []
        types = [event["event_type"] for event in (await user.get(f"/api/executions/{started}/events")).json]
        assert types[-2:] == ["call.done", "command.issued"]
        assert (await user.get("/api/replay/validate", execution_id=started)).json["valid"]

    async def test_of_what_has_ended_it_is_a_conflict(self, user: Client, hands: FakeWorker, started: str) -> None:
        await hands.finish()
        for verb in ("pause", "resume"):
            answer = await user.post(f"/api/executions/{started}/{verb}", {} if verb == "pause" else None)
            assert (answer.status, answer.json["code"]) == (409, "resource.conflict"), verb

    async def test_of_none_it_is_not_found(self, user: Client) -> None:
        assert (await user.post("/api/executions/77/pause", {})).status == 404


class TestSignal:
    async def test_it_ends_the_wait_with_its_data(self, user: Client, waiting: str) -> None:
        [under_way] = (await user.get(f"/api/executions/{waiting}/status")).json["under_way"]
        assert (under_way["status"], under_way["signals"]) == ("parked", ["paid"])
        answer = await user.post(f"/api/executions/{waiting}/signals/paid", {"data": {"sum": 7}})
        taken = {"status": "accepted", "kept": False, "waiting_for": [], "advice": None}
        assert answer.json == {"execution_id": waiting, "signal": "paid", **taken}
        ended = await entry(user, waiting)
        assert (ended["status"], ended["result"]) == ("COMPLETED", {"data": {"sum": 7}})
        assert (await user.get("/api/replay/validate", execution_id=waiting)).json["valid"]

    @pytest.mark.parametrize("limit", [{}, {"timeout": 60}])
    async def test_its_wait_is_parked_with_or_without_a_time_limit(
        self, user: Client, hands: FakeWorker, postgres_url: str, limit: dict[str, Any]
    ) -> None:
        await user.post("/api/catalog/register", {"content": WAITING})
        id = (await user.post("/api/execute", {"path": "demo/waiting"})).json["execution_id"]
        await park(hands, {"signal": "paid", **limit})
        for paused in (False, True):
            if paused:
                await user.post(f"/api/executions/{id}/pause", {})
            [found] = (await user.get(f"/api/executions/{id}/status")).json["under_way"]
            assert (found["status"], found["delayed"], found["parked"]) == ("parked", 0, 1)
            assert (found["due_at"] is not None) == (bool(limit) and not paused)
            assert audit(postgres_url, {id}) == []

    async def test_a_wait_until_a_time_is_delayed_and_then_paused(self, user: Client, hands: FakeWorker) -> None:
        await user.post("/api/catalog/register", {"content": WAITING})
        id = (await user.post("/api/execute", {"path": "demo/waiting"})).json["execution_id"]
        await park(hands, {"delay": 60})
        statuses = []
        for _ in range(2):
            [found] = (await user.get(f"/api/executions/{id}/status")).json["under_way"]
            statuses.append((found["status"], found["delayed"]))
            await user.post(f"/api/executions/{id}/pause", {})
        assert statuses == [("delayed", 1), ("paused", 1)]

    async def test_of_one_key_one_is_recorded(self, user: Client, waiting: str) -> None:
        place, key = f"/api/executions/{waiting}/signals/other", {"Idempotency-Key": "k-1"}
        answers = [await user.post(place, {"data": {"a": 1, "b": 2}}, **key) for _ in (1, 2)]
        assert [answer.json["status"] for answer in answers] == ["accepted", "duplicate"]
        elsewhere = place.replace("other", "paid")
        for at, data in ((place, {"a": 1}), (place, {"a": True, "b": 2}), (elsewhere, {"a": 1, "b": 2})):
            refused = await user.post(at, {"data": data}, **key)
            assert (refused.status, refused.json["code"]) == (409, "resource.conflict"), (at, data)
            assert "with another signal or other data; use a new key" in refused.json["detail"]
        assert (await user.get(f"/api/executions/{waiting}/status")).json["kept_signals"] == ["other"]
        assert (await user.post(place, {"data": {"b": 2, "a": 1}}, **key)).json["status"] == "duplicate"

    async def test_of_one_that_a_sub_playbook_waits_for_it_says_which(self, user: Client, hands: FakeWorker) -> None:
        await user.post("/api/catalog/register", {"content": WAITING})
        parent = WAITING.replace("demo/waiting", "demo/parent")
        parent = parent.replace("{kind: wait, signal: paid}", "{kind: playbook, path: demo/waiting}")
        assert (await user.post("/api/catalog/register", {"content": parent})).status == 200
        id = (await user.post("/api/execute", {"path": "demo/parent"})).json["execution_id"]
        [command] = await hands.claim()
        call = {"path": "demo/waiting", "payload": {}}
        [of_child] = (await hands.report(command, status="parked", child=call))["commands"]
        await hands.report(of_child, status="parked", wait={"signal": "paid"})
        [child] = (await user.get(f"/api/executions/{id}/status")).json["under_way"][0]["children"]
        answer = (await user.post(f"/api/executions/{id}/signals/paid", {})).json
        assert answer["advice"] == (
            f"no step of the playbook waits for 'paid', but its sub-playbook does: send it to execution {child}"
        )
        other = (await user.post(f"/api/executions/{id}/signals/x", {})).json
        assert other["advice"] == "no step of the playbook waits for 'x'"

    async def test_one_that_nothing_waits_for_is_kept_and_it_says_what_does(
        self, user: Client, hands: FakeWorker, waiting: str
    ) -> None:
        answer = await user.post(f"/api/executions/{waiting}/signals/payed", {"data": 1})
        assert (answer.json["status"], answer.json["kept"], answer.json["waiting_for"]) == ("accepted", True, ["paid"])
        assert answer.json["advice"] == "no step of the playbook waits for 'payed'; did you mean 'paid'?"
        assert (await user.get(f"/api/executions/{waiting}/status")).json["kept_signals"] == ["payed"]
        again = await user.post(f"/api/executions/{waiting}/signals/x", {}, **{"Idempotency-Key": "k-2"})
        once_more = await user.post(f"/api/executions/{waiting}/signals/x", {}, **{"Idempotency-Key": "k-2"})
        assert (again.json["kept"], once_more.json["kept"], once_more.json["waiting_for"]) == (True, False, [])

    @pytest.mark.parametrize("waits", [True, False])
    async def test_what_is_no_decision_does_not_reject_an_approval(
        self, user: Client, hands: FakeWorker, waits: bool
    ) -> None:
        await user.post("/api/catalog/register", {"content": ASKING})
        id = (await user.post("/api/execute", {"path": "demo/asking"})).json["execution_id"]
        if waits:
            await park(hands, {"signal": "boss", "approval": True})
        place = f"/api/executions/{id}/signals/boss"
        wrong: list[Any] = [None, "sure", {}, {"approved": "true"}, {"approvd": True}, {"approved": True, "by": "me"}]
        for data in (*wrong, {"approved": True, "comment": 7}):
            answer = await user.post(place, {"data": data})
            assert (answer.status, answer.json["code"]) == (400, "request.invalid"), data
            assert answer.json["detail"].startswith("'boss' is an approval: "), data
            assert "noetls approve" in answer.json["detail"], data
        assert (await user.post(place, {"data": {"approved": True}})).status == 200
        if not waits:
            await park(hands, {"signal": "boss", "approval": True})
        assert (await entry(user, id))["status"] == "COMPLETED"

    @pytest.mark.parametrize("waits", [True, False])
    async def test_a_decision_is_no_value_of_a_signal(self, user: Client, hands: FakeWorker, waits: bool) -> None:
        await user.post("/api/catalog/register", {"content": WAITING})
        id = (await user.post("/api/execute", {"path": "demo/waiting"})).json["execution_id"]
        if waits:
            await park(hands, {"signal": "paid"})
        place, decision = f"/api/executions/{id}/signals/paid", {"data": {"approved": False}, "decision": True}
        refused = await user.post(place, decision)
        assert (refused.status, refused.json["code"]) == (409, "resource.conflict")
        assert refused.json["detail"] == "'paid' is a signal, not an approval: use noetls signal"
        assert (await entry(user, id))["status"] == "RUNNING"
        # a name that the playbook does not have may be that of an approval in a later version
        assert (await user.post(f"/api/executions/{id}/signals/other", decision)).json["kept"]
        assert (await user.post(place, {"data": {"approved": False}})).status == 200
        if not waits:
            await park(hands, {"signal": "paid"})
        assert (await entry(user, id))["result"] == {"data": {"approved": False}}

    async def test_what_is_sent_as_a_decision_is_one(self, user: Client, waiting: str) -> None:
        refused = await user.post(f"/api/executions/{waiting}/signals/x", {"data": "yes", "decision": True})
        assert (refused.status, refused.json["code"]) == (400, "request.invalid")
        assert (await user.get(f"/api/executions/{waiting}/status")).json["kept_signals"] == []

    async def test_what_comes_before_an_approval_with_a_template_as_its_name_does_not_reject_it(
        self, user: Client, hands: FakeWorker
    ) -> None:
        templated = ASKING.replace("approval: boss", "approval: '{{ workload.who }}'").replace(
            "workflow", "workload: {who: boss}\nworkflow"
        )
        assert (await user.post("/api/catalog/register", {"content": templated})).status == 200
        id = (await user.post("/api/execute", {"path": "demo/asking"})).json["execution_id"]
        place = f"/api/executions/{id}/signals/boss"
        assert (await user.post(place, {"data": "yes"})).json["kept"]
        await park(hands, {"signal": "boss", "approval": True})
        status = (await user.get(f"/api/executions/{id}/status")).json
        assert (status["status"], status["kept_signals"]) == ("RUNNING", ["boss"])
        [under_way] = status["under_way"]
        assert under_way["signals"] == ["boss"]
        refused = await user.post(place, {"data": "yes"})
        assert (refused.status, refused.json["code"]) == (400, "request.invalid")
        taken = await user.post(place, {"data": {"approved": True}, "decision": True})
        assert (taken.status, taken.json["kept"]) == (200, False)
        assert (await entry(user, id))["status"] == "COMPLETED"
        assert (await user.get("/api/replay/validate", execution_id=id)).json["valid"]

    @pytest.mark.parametrize("name", ["boss", "'{{ workload.who }}'"])
    async def test_of_two_decisions_at_once_the_second_does_not_decide_the_next_round(
        self, user: Client, hands: FakeWorker, name: str
    ) -> None:
        again = CYCLE.replace("approval: boss", f"approval: {name}")
        assert (await user.post("/api/catalog/register", {"content": again})).status == 200
        id = (await user.post("/api/execute", {"path": "demo/again"})).json["execution_id"]
        await park(hands, {"signal": "boss", "approval": True})
        place = f"/api/executions/{id}/signals/boss"
        answers = await asyncio.gather(*(user.post(place, {"data": {"approved": True}}) for _ in range(4)))
        assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]
        for answer in answers:
            if answer.status == 409:
                assert answer.json["code"] == "resource.conflict"
                detail = answer.json["detail"]
                assert detail.startswith("'boss' has been answered already, at 20") and " by " in detail, detail
        assert (await user.get(f"/api/executions/{id}/status")).json["kept_signals"] == []
        # the same request again is no second decision
        await park(hands, {"signal": "boss", "approval": True})
        key = {"Idempotency-Key": "k-1"}
        sent = [await user.post(place, {"data": {"approved": True}}, **key) for _ in range(2)]
        assert [answer.json["status"] for answer in sent] == ["accepted", "duplicate"]

    async def test_before_the_first_is_decided_they_are_kept_and_signals_always_are(
        self, user: Client, hands: FakeWorker
    ) -> None:
        assert (await user.post("/api/catalog/register", {"content": CYCLE})).status == 200
        id = (await user.post("/api/execute", {"path": "demo/again"})).json["execution_id"]
        boss, paid = (f"/api/executions/{id}/signals/{name}" for name in ("boss", "paid"))
        key = {"Idempotency-Key": "k-1"}
        first = [await user.post(boss, {"data": {"approved": True}, "decision": True}, **key) for _ in range(2)]
        assert [(answer.json["status"], answer.json["kept"]) for answer in first] == [
            ("accepted", True),
            ("duplicate", False),
        ]
        second = await user.post(boss, {"data": {"approved": False}, "decision": True})
        assert (second.status, "the answer is kept for the question" in second.json["detail"]) == (409, True)
        await park(hands, {"signal": "boss", "approval": True})
        assert (await user.post(boss, {"data": {"approved": True}})).status == 409
        for _ in range(2):
            assert (await user.post(paid, {"data": {"approved": True}})).json["kept"]

    async def test_of_decisions_for_what_may_have_been_a_signal_one_decides_and_the_others_are_none_of_the_next_round(
        self, user: Client, hands: FakeWorker
    ) -> None:
        again = CYCLE.replace("approval: boss", "approval: '{{ workload.who }}'")
        assert (await user.post("/api/catalog/register", {"content": again})).status == 200
        id = (await user.post("/api/execute", {"path": "demo/again"})).json["execution_id"]
        place = f"/api/executions/{id}/signals/boss"
        for data in ({"approved": True}, "junk", {"approved": False}):
            assert (await user.post(place, {"data": data})).json["kept"]
        wait = {"signal": "boss", "approval": True}
        [first] = await hands.claim()
        [second] = (await hands.report(first, status="parked", wait=wait))["commands"]
        assert (await hands.report(second, status="parked", wait=wait))["commands"] == []
        status = (await user.get(f"/api/executions/{id}/status")).json
        assert [one["signals"] for one in status["under_way"]] == [["boss"]], "nobody has seen the second question"
        assert status["kept_signals"] == ["boss"], "the one that is no decision"
        assert (await user.get("/api/replay/validate", execution_id=id)).json["valid"]

    async def test_while_it_is_paused_the_signal_is_kept(self, user: Client, waiting: str) -> None:
        await user.post(f"/api/executions/{waiting}/pause", {})
        await user.post(f"/api/executions/{waiting}/signals/paid", {"data": 1})
        await user.post(f"/api/executions/{waiting}/resume")
        assert (await entry(user, waiting))["status"] == "COMPLETED"

    async def test_to_what_has_ended_it_is_a_conflict(self, user: Client, hands: FakeWorker, started: str) -> None:
        await hands.finish()
        answer = await user.post(f"/api/executions/{started}/signals/paid", {})
        assert (answer.status, answer.json["code"]) == (409, "resource.conflict")

    @pytest.mark.parametrize("name", ["x" * 201, "a\0b", "a\nb"])
    async def test_a_name_that_is_none_is_refused(self, user: Client, waiting: str, name: str) -> None:
        assert (await user.post(f"/api/executions/{waiting}/signals/{name}", {})).status == 400

    @pytest.mark.parametrize("data", ["a\u0000b", "x" * 300_000])
    async def test_data_that_cannot_be_kept_is_refused(self, user: Client, waiting: str, data: str) -> None:
        answer = await user.post(f"/api/executions/{waiting}/signals/paid", {"data": data})
        assert answer.status in (400, 413), answer.body
        assert (await entry(user, waiting))["status"] == "RUNNING"
