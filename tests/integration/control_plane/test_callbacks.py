"""Callback URLs over REST, on a real PostgreSQL: made for a command, read, and answered once."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any

import jwt
import pytest
from tests.integration.control_plane.conftest import TOKEN_KEY, Answer, Client, Clock, FakeWorker

from noetl_serverless.control_plane import recorded_signals
from noetl_serverless.control_plane.callback_tokens import AUDIENCE
from noetl_serverless.engine import evolve_waits
from noetl_serverless.settings import Settings

HEAD = (
    "apiVersion: noetl.io/v2\nkind: Playbook\n"
    "metadata: {name: order, path: demo/order, description: Orders of customers}\n"
)
# `ask` is begun again after a refusal
PLAYBOOK = """\
keychain:
  - {name: boss, kind: callback, approval: manager, ttl: 2d}
  - {name: deputy, kind: callback, approval: manager}
  - {name: paid, kind: callback, signal: "{{ workload.signal }}"}
  - {name: key, kind: static, map: {value: x}}
workload: {signal: paid}
workflow:
  - step: notify
    input: {a: "{{ keychain.boss.url }}", b: "{{ keychain.deputy.url }}", c: "{{ keychain.paid.url }}"}
    tool: {kind: http, url: "https://x.test"}
    next: {arcs: [{step: ask}]}
  - step: ask
    desc: May it be sent?
    tool: {kind: wait, approval: manager}
    next: {arcs: [{step: pay}, {step: notify, when: "{{ output.status == 'error' }}"}]}
  - step: pay
    tool: {kind: wait, signal: "{{ workload.signal }}"}
"""
BOSS = {"approved": True, "comment": "as agreed"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, public_url="https://gw.test/")


@dataclass
class Order:
    """An execution whose step `notify` runs."""

    id: str
    user: Client
    hands: FakeWorker
    command: dict[str, Any]

    async def make(self, name: str = "boss", **changed: str) -> Answer:
        named = {"execution_id": self.id, "command_id": self.command["command_id"], "name": name}
        return await self.hands.client.post("/api/callbacks", {**named, **changed})

    async def token(self, name: str = "boss") -> str:
        made = await self.make(name)
        assert made.status == 200, made.body
        return str(made.json["token"])

    async def ask(self) -> list[str]:
        """Let it wait for the approval; the steps that follow at once."""
        [command] = (await self.hands.report(self.command, data=1))["commands"]
        wait = {"signal": "manager", "approval": True}
        return [c["step"] for c in (await self.hands.report(command, status="parked", wait=wait))["commands"]]

    async def again(self) -> None:
        """After a refusal `notify` runs again."""
        [self.command] = await self.hands.claim()
        assert self.command["step"] == "notify"

    async def answer(self, token: str, data: Any = BOSS) -> Answer:
        return await self.user.post("/api/callbacks/answer", {"token": token, "data": data})

    async def read(self, token: str) -> Answer:
        return await self.user.post("/api/callbacks/read", {"token": token})

    async def events(self, type: str) -> list[Any]:
        found = (await self.user.get(f"/api/executions/{self.id}/events")).json
        return [event for event in found if event["event_type"] == type]


@pytest.fixture
async def order(user: Client, hands: FakeWorker) -> Order:
    assert (await user.post("/api/catalog/register", {"content": HEAD + PLAYBOOK})).status == 200
    id = str((await user.post("/api/execute", {"path": "demo/order"})).json["execution_id"])
    [command] = await hands.claim()
    return Order(id, user, hands, command)


def code_of(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["code"]


class TestDescriptions:
    async def test_it_says_what_is_approved(self, order: Order) -> None:
        found = (await order.read(await order.token())).json
        assert (found["description"], found["step_descriptions"]) == ("Orders of customers", ["May it be sent?"])
        found = (await order.read(await order.token("paid"))).json
        assert found["step_descriptions"] == [], "the step that waits for it has none"


class TestMaking:
    async def test_it_is_a_url_of_the_gateway_that_expires(self, order: Order, clock: Clock) -> None:
        made = (await order.make()).json
        assert made["url"] == f"https://gw.test/callbacks/{made['token']}"
        claims = jwt.decode(made["token"], options={"verify_signature": False})
        assert claims["exp"] - clock.now().timestamp() == pytest.approx(2 * 86_400, abs=30)
        assert (claims["sub"], claims["signal"], claims["aud"]) == (order.id, "manager", AUDIENCE)

    async def test_the_name_may_be_a_template_over_the_workload(self, order: Order) -> None:
        assert (await order.read(await order.token("paid"))).json["signal"] == "paid"

    @pytest.mark.parametrize(
        ("changed", "status"),
        [({"name": "key"}, 404), ({"name": "none"}, 404), ({"execution_id": "77"}, 404), ({"execution_id": "x"}, 400)],
    )
    async def test_only_of_a_callback_of_the_executions_playbook(
        self, order: Order, changed: dict[str, str], status: int
    ) -> None:
        assert (await order.make(**changed)).status == status

    async def test_not_for_what_has_ended(self, order: Order) -> None:
        await order.user.post(f"/api/executions/{order.id}/cancel", {})
        assert code_of(await order.make()) == (403, "auth.forbidden")

    async def test_not_for_users(self, order: Order) -> None:
        named = {"execution_id": order.id, "command_id": "c", "name": "boss"}
        assert code_of(await order.user.post("/api/callbacks", named)) == (403, "auth.forbidden")

    async def test_a_worker_may_not_answer(self, order: Order) -> None:
        answer = await order.hands.client.post("/api/callbacks/answer", {"token": await order.token(), "data": BOSS})
        assert answer.status == 403

    @pytest.mark.parametrize("name", ["a/b", 7])
    async def test_a_name_that_is_none_is_refused(
        self, user: Client, hands: FakeWorker, order: Order, name: Any
    ) -> None:
        id = (await user.post("/api/execute", {"path": "demo/order", "payload": {"signal": name}})).json["execution_id"]
        assert code_of(await order.make("paid", execution_id=id)) == (400, "request.invalid")


class TestWithoutPublicUrl:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, public_url="")

    async def test_none_is_made_and_the_setting_is_named(self, order: Order) -> None:
        made = await order.make()
        assert code_of(made) == (501, "server.unsupported")
        assert "NOETL_PUBLIC_URL" in made.json["detail"]


class TestAnswering:
    async def test_it_ends_the_wait(self, order: Order) -> None:
        token = await order.token()
        await order.ask()
        details = (await order.read(token)).json
        assert (details["path"], details["approval"], details["status"]) == ("demo/order", True, "open")
        given = await order.answer(token)
        assert (given.status, given.json["status"], given.json["answer"]) == (200, "accepted", BOSS)
        assert len(await order.events("wait.ended")) == 1
        assert [command["step"] for command in await order.hands.claim()] == ["pay"]
        assert (await order.user.get("/api/replay/validate", execution_id=order.id)).json["valid"]

    async def test_a_refusal_fails_the_wait(self, order: Order) -> None:
        token = await order.token()
        await order.ask()
        assert (await order.answer(token, {"approved": False})).json["status"] == "accepted"
        await order.again()

    async def test_before_the_wait_it_is_kept(self, order: Order) -> None:
        await order.answer(await order.token())
        assert await order.ask() == ["pay"]

    async def test_while_it_is_paused_it_is_kept(self, order: Order) -> None:
        token = await order.token()
        await order.ask()
        await order.user.post(f"/api/executions/{order.id}/pause", {})
        assert (await order.read(token)).json["paused"] is True
        assert (await order.answer(token)).status == 200
        assert await order.hands.claim() == []
        await order.user.post(f"/api/executions/{order.id}/resume")
        assert [command["step"] for command in await order.hands.claim()] == ["pay"]

    async def test_a_plain_signal_takes_any_value(self, order: Order) -> None:
        token = await order.token("paid")
        assert (await order.read(token)).json["approval"] is False
        assert (await order.answer(token, [1, {"a": None}])).json["answer"] == [1, {"a": None}]
        [signal] = await order.events("signal.received")
        assert signal["payload"]["data"] == [1, {"a": None}]
        by = {"kind": "callback", "name": "paid"}
        assert signal["payload"]["by"].items() >= by.items()

    @pytest.mark.parametrize(
        "data",
        [
            None,
            True,
            {},
            {"approved": "yes"},
            {"approved": 1},
            {"approved": True, "x": 1},
            {"approved": True, "comment": 7},
            {"approved": True, "comment": "x" * 2001},
            {"approved": True, "comment": "a\0b"},
        ],
    )
    async def test_an_approval_takes_a_decision_alone(self, order: Order, data: Any) -> None:
        token = await order.token()
        assert code_of(await order.answer(token, data)) == (400, "request.invalid")
        assert (await order.read(token)).json["status"] == "open"

    async def test_data_that_cannot_be_kept_is_refused(self, order: Order) -> None:
        token = await order.token("paid")
        assert (await order.answer(token, "x" * 300_000)).status in (400, 413)
        assert (await order.answer(token, "a\0b")).status == 400


class TestOfAnotherKind:
    """The entry asks for a decision where a value is waited for, or the other way round."""

    async def order_of(self, user: Client, hands: FakeWorker, entry: str, wait: str) -> Order:
        text = HEAD + PLAYBOOK.replace(
            "kind: callback, approval: manager, ttl", f"kind: callback, {entry}: manager, ttl"
        )
        text = text.replace("tool: {kind: wait, approval: manager}", f"tool: {{kind: wait, {wait}: manager}}")
        assert (await user.post("/api/catalog/register", {"content": text})).status == 200
        id = str((await user.post("/api/execute", {"path": "demo/order"})).json["execution_id"])
        [command] = await hands.claim()
        return Order(id, user, hands, command)

    @pytest.mark.parametrize("waits", [True, False])
    async def test_a_value_does_not_reject_an_approval(self, user: Client, hands: FakeWorker, waits: bool) -> None:
        order = await self.order_of(user, hands, "signal", "approval")
        token = await order.token()
        if waits:
            await order.ask()
        refused = await order.answer(token, "yes")
        assert code_of(refused) == (400, "request.invalid")
        assert refused.json["detail"].startswith("'manager' is an approval: answer with a decision")
        assert await order.events("signal.received") == []
        assert (await order.answer(token, {"approved": True})).json["status"] == "accepted"

    @pytest.mark.parametrize("waits", [True, False])
    async def test_a_decision_is_no_value(self, user: Client, hands: FakeWorker, waits: bool) -> None:
        order = await self.order_of(user, hands, "approval", "signal")
        token = await order.token()
        if waits:
            [command] = (await order.hands.report(order.command, data=1))["commands"]
            await order.hands.report(command, status="parked", wait={"signal": "manager"})
        refused = await order.answer(token)
        assert code_of(refused) == (409, "resource.conflict")
        assert refused.json["detail"].startswith("'manager' is a signal, not an approval")
        assert await order.events("signal.received") == []


class TestTimes:
    async def test_the_answer_and_what_is_read_later_have_one_time(self, order: Order, clock: Clock) -> None:
        token = await order.token()
        clock.minutes = 3
        given = await order.answer(token)
        [event] = await order.events("signal.received")
        again, details = await order.answer(token), await order.read(token)
        assert [each.json["answered_at"] for each in (given, again, details)] == [given.json["answered_at"]] * 3
        assert given.json["answered_at"][:23] == event["timestamp"][:23]

    async def test_it_is_valid_as_long_as_its_wait(self, order: Order) -> None:
        token = await order.token()
        of_url = (await order.read(token)).json["expires_at"]
        [command] = (await order.hands.report(order.command, data=1))["commands"]
        wait = {"signal": "manager", "approval": True, "timeout": 60}
        await order.hands.report(command, status="parked", wait=wait)
        assert (await order.read(token)).json["expires_at"] < of_url
        await order.user.post(f"/api/executions/{order.id}/pause", {})
        assert (await order.read(token)).json["expires_at"] == of_url, "the time of the wait stands still"

    async def test_not_longer_than_its_own_time(self, order: Order) -> None:
        token = await order.token()
        of_url = (await order.read(token)).json["expires_at"]
        [command] = (await order.hands.report(order.command, data=1))["commands"]
        wait = {"signal": "manager", "approval": True, "timeout": 3 * 86_400}
        await order.hands.report(command, status="parked", wait=wait)
        assert (await order.read(token)).json["expires_at"] == of_url


class TestOnce:
    async def test_another_answer_is_refused_with_what_was_answered(self, order: Order) -> None:
        token = await order.token()
        await order.ask()
        await order.answer(token)
        second = await order.answer(token, {"approved": False})
        assert code_of(second) == (409, "callback.answered")
        assert second.json["answer"] == BOSS and second.json["answered_at"]
        details = (await order.read(token)).json
        assert (details["status"], details["answer"]) == ("answered", BOSS)
        assert len(await order.events("signal.received")) == 1

    async def test_the_same_answer_again_changes_nothing(self, order: Order) -> None:
        token = await order.token()
        first, again = await order.answer(token), await order.answer(token)
        assert (first.json["status"], again.status, again.json["status"]) == ("accepted", 200, "duplicate")
        assert len(await order.events("signal.received")) == 1

    async def test_also_when_the_execution_has_ended_since(self, order: Order) -> None:
        token = await order.token()
        await order.answer(token)
        await order.user.post(f"/api/executions/{order.id}/cancel", {})
        assert (await order.answer(token)).json["status"] == "duplicate"
        assert code_of(await order.answer(token, {"approved": False})) == (409, "callback.answered")
        assert (await order.read(token)).json["status"] == "answered"

    async def test_urls_of_one_entry_give_one_answer_together(self, order: Order, clock: Clock) -> None:
        one = await order.token()
        clock.minutes = 5
        other = await order.token()
        assert one != other
        await order.answer(one)
        late = await order.token()
        for token in (other, late):
            assert code_of(await order.answer(token, {"approved": False})) == (409, "callback.answered")
            assert (await order.read(token)).json["answer"] == BOSS
        assert len(await order.events("signal.received")) == 1

    async def test_the_first_of_two_persons_decides(self, order: Order) -> None:
        boss, deputy = await order.token(), await order.token("deputy")
        await order.answer(boss)
        # kept for the wait
        assert code_of(await order.answer(deputy)) == (409, "callback.answered")
        assert (await order.read(deputy)).json["status"] == "answered"
        await order.ask()
        # past the wait
        assert code_of(await order.answer(deputy)) == (410, "callback.over")
        assert code_of(await order.read(deputy)) == (410, "callback.over")
        assert len(await order.events("signal.received")) == 1

    async def test_at_once_one_is_accepted(self, order: Order) -> None:
        boss, deputy = await order.token(), await order.token("deputy")
        await order.ask()
        answers = await asyncio.gather(*(order.answer(token) for token in [boss, deputy] * 5))
        accepted = [answer for answer in answers if answer.status == 200 and answer.json["status"] == "accepted"]
        assert len(accepted) == 1
        assert len(await order.events("signal.received")) == 1


class TestAmongManySignals:
    @pytest.fixture
    def few(self, monkeypatch: pytest.MonkeyPatch) -> int:
        """More ids of signals than an execution knows, and more signals than are read at once."""
        monkeypatch.setattr(evolve_waits, "SIGNAL_IDS", 4)
        monkeypatch.setattr(recorded_signals, "_PAGE", 3)
        return 8

    async def send(self, order: Order, count: int) -> None:
        for number in range(count):
            sent = await order.user.post(f"/api/executions/{order.id}/signals/other", {}, Idempotency_Key=f"k{number}")
            assert sent.status == 200, sent.body

    async def test_between_the_answer_and_the_next_it_is_still_one(self, order: Order, few: int) -> None:
        token = await order.token("paid")
        assert (await order.answer(token, 1)).json["status"] == "accepted"
        await self.send(order, few)
        assert (await order.answer(token, 1)).json["status"] == "duplicate"
        assert code_of(await order.answer(token, 2)) == (409, "callback.answered")
        names = [event["payload"]["signal"] for event in await order.events("signal.received")]
        assert names.count("paid") == 1

    async def test_between_the_url_and_its_answer_the_answer_is_found(self, order: Order, few: int) -> None:
        token = await order.token()
        await self.send(order, few)
        await order.answer(token)
        assert (await order.answer(token)).json["status"] == "duplicate"
        details = (await order.read(token)).json
        assert (details["status"], details["answer"]) == ("answered", BOSS)
        second = await order.answer(token, {"approved": False})
        assert (code_of(second), second.json["answer"]) == ((409, "callback.answered"), BOSS)
        late = await order.token()
        assert (await order.read(late)).json["answered_at"] == details["answered_at"]


class TestRounds:
    async def test_an_answer_to_an_earlier_round_decides_nothing_later(self, order: Order) -> None:
        boss, deputy = await order.token(), await order.token("deputy")
        await order.ask()
        await order.answer(boss, {"approved": False})
        await order.again()
        # who has not seen the new version must not approve it
        assert code_of(await order.answer(deputy)) == (410, "callback.over")
        assert code_of(await order.answer(boss)) == (409, "callback.answered")
        new = await order.token()
        await order.ask()
        assert (await order.answer(new)).json["status"] == "accepted"
        assert [command["step"] for command in await order.hands.claim()] == ["pay"]

    async def test_a_signal_from_elsewhere_ends_the_round_too(self, order: Order) -> None:
        token = await order.token()
        await order.ask()
        await order.user.post(f"/api/executions/{order.id}/signals/manager", {"data": {"approved": True}})
        assert code_of(await order.answer(token)) == (410, "callback.over")


class TestRefusals:
    async def test_an_expired_one(self, order: Order, clock: Clock) -> None:
        token = await order.token()
        clock.minutes = 2 * 24 * 60 + 1
        for refused in (await order.answer(token), await order.read(token)):
            assert code_of(refused) == (410, "callback.expired")
        clock.minutes = 0
        assert (await order.answer(token)).status == 200

    async def test_of_an_execution_that_has_ended(self, order: Order) -> None:
        token = await order.token()
        await order.user.post(f"/api/executions/{order.id}/cancel", {})
        for refused in (await order.answer(token), await order.read(token)):
            assert code_of(refused) == (410, "callback.over")

    async def test_a_forged_one(self, order: Order) -> None:
        token = await order.token()
        head, body, signature = token.split(".")
        claims = jwt.decode(token, options={"verify_signature": False})
        forged = [
            f"{head}.{body}.{signature[:-4]}AAAA",
            f"{head}.{body}.",
            f"{head}.{body}",
            "",
            "x" * 8000,
            jwt.encode(claims, TOKEN_KEY, "HS256"),
            jwt.encode(claims, "", "none"),
            # a service token
            order.user.token,
        ]
        for one in forged:
            assert code_of(await order.answer(one)) == (404, "callback.invalid"), one[:80]
        assert await order.events("signal.received") == []

    async def test_a_callback_token_is_no_service_token(self, order: Order) -> None:
        token = await order.token()
        assert (await Client(order.user.app, token).get("/api/executions")).status == 401

    async def test_the_log_has_who_answered_and_never_the_token(
        self, order: Order, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        token = await order.token()
        await order.ask()
        await order.answer(token)
        await order.answer(token, {"approved": False})
        await order.answer(token + "x")
        await order.read(token)
        id = jwt.decode(token, options={"verify_signature": False})["jti"]
        audited = [record.__dict__ for record in caplog.records if record.getMessage() == "audit"]
        answered = [line for line in audited if line["operation"] == "answerCallback"]
        assert {(line["execution_id"], line["callback"]) for line in answered} == {(order.id, id)}
        for record in caplog.records:
            assert token.split(".")[2] not in str(record.__dict__), record
        events = (await order.user.get(f"/api/executions/{order.id}/events")).json
        assert token.split(".")[2] not in str(events)

    async def test_it_is_over_while_the_step_that_waited_has_more_to_do(self, order: Order) -> None:
        """Two tasks: the wait, and one that is still under way."""
        text = HEAD + PLAYBOOK.replace(
            "tool: {kind: wait, approval: manager}",
            "tool: [{name: w, kind: wait, approval: manager}, {name: after, kind: http, url: 'https://x.test'}]",
        )
        assert (await order.user.post("/api/catalog/register", {"content": text})).status == 200
        order.id = str((await order.user.post("/api/execute", {"path": "demo/order"})).json["execution_id"])
        [order.command] = [it for it in await order.hands.claim() if it["execution_id"] == order.id]
        token = await order.token()
        [command] = (await order.hands.report(order.command, data=1))["commands"]
        await order.hands.report(
            command, status="parked", wait={"signal": "manager", "approval": True}, resume={"task": "after"}
        )
        sent = await order.user.post(f"/api/executions/{order.id}/signals/manager", {"data": BOSS})
        assert sent.status == 200, sent.body
        [order.command] = [it for it in await order.hands.claim() if it["execution_id"] == order.id]
        assert (order.command["step"], order.command["resume"]["task"]) == ("ask", "after")
        assert code_of(await order.read(token)) == (410, "callback.over")
        assert code_of(await order.answer(token)) == (410, "callback.over")
        # that of the task behind the wait is for the next round
        assert (await order.read(await order.token())).json["status"] == "open"
        assert len(await order.events("signal.received")) == 1
