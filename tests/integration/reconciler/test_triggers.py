"""What a trigger starts, over a real PostgreSQL: once, whatever happens in between."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.control_plane.conftest import database  # noqa: F401

from noetl_serverless.control_plane.registration import document_of
from noetl_serverless.errors import NotFound, Problem, Unavailable
from noetl_serverless.limits import EVENT_BYTES, EVENT_DEPTH, TRIGGER_DEPTH
from noetl_serverless.orchestrator.notifications import Notifications
from noetl_serverless.orchestrator.orchestrator import Orchestrator
from noetl_serverless.orchestrator.plans import Plans
from noetl_serverless.orchestrator.triggers import MAX_ATTEMPTS, TriggerStarts
from noetl_serverless.reconciler.reconciler import Reconciler
from noetl_serverless.reconciler.triggers import READ_SECONDS, SourceEvent, SourceEvents, TriggerSources
from noetl_serverless.store.catalog import PostgresCatalog
from noetl_serverless.store.database import Database
from noetl_serverless.store.event_store import PostgresEventStore
from noetl_serverless.store.schedules import Schedules
from noetl_serverless.store.triggers import LEASE, PolledTrigger, ReceivedEvent, Trigger, Triggers

TEXT = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: on_order, path: orders/on_order}
triggers:
  - name: hook
    kind: webhook
    auth: shop
    when: "{{ event.data.total > 10 }}"
    input: {order: "{{ event.data.id }}", name: "order {{ event.data.id }}"}
workload: {order: null, name: null}
workflow:
  - {step: one, tool: {kind: python, code: "result = 1"}}
"""


def event(id: str = "e1", **data: Any) -> dict[str, Any]:
    return {
        "id": id,
        "source": "s",
        "type": "t",
        "time": "2025-07-01T12:00:00Z",
        "data": {"total": 20, "id": 7, **data},
    }


class Killed(BaseException):
    """The function ended here."""


@dataclass
class MemorySource:
    messages: list[dict[str, Any]] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    error: Exception | None = None
    problem: Problem | None = None

    async def read(self, trigger: PolledTrigger, limit: int) -> SourceEvents:
        if self.error is not None:
            raise self.error
        events = [self._event(message) for message in self.messages[:limit]]
        return SourceEvents(
            events=events, position={"seen": True}, more=len(self.messages) > limit, problem=self.problem
        )

    def _event(self, message: dict[str, Any]) -> SourceEvent:
        async def acknowledge() -> None:
            self.messages.remove(message)
            self.acknowledged.append(message["id"])

        return SourceEvent(event=message, acknowledge=acknowledge)


class Bed:
    def __init__(self, database: Database) -> None:  # noqa: F811
        self.database = database
        # how far the clock of the functions is ahead
        self.ahead = timedelta()
        self.catalog = PostgresCatalog(database)
        self.log = PostgresEventStore(database)
        self.notifications = Notifications(None, None)
        self.orchestrator = Orchestrator(self.log, Plans(self.catalog), self.notifications)
        self.triggers = Triggers(database)
        self.source = MemorySource()
        self.starts = TriggerStarts(self.triggers, self.orchestrator, self.now)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def reconciler(self) -> Reconciler:
        sources = TriggerSources(self.triggers, self.starts, {"nats": self.source}, self.now)
        return Reconciler(
            self.log,
            self.orchestrator,
            Schedules(self.database),
            self.notifications,
            max_deliveries=5,
            triggers=sources,
        )

    async def register(self, text: str = TEXT) -> None:
        await self.catalog.register(document_of(text))

    async def trigger(self, reference: str = "orders/on_order/hook") -> Trigger:
        return await self.triggers.get(reference)

    async def receive(self, one: dict[str, Any]) -> bool:
        return (await self.starts.receive(await self.trigger(), one)).new

    async def received(self, id: str = "e1", reference: str = "orders/on_order/hook") -> ReceivedEvent:
        return await self.triggers.event((await self.trigger(reference)).trigger_id, id)

    async def executions(self, path: str = "orders/on_order") -> list[dict[str, Any]]:
        return await self.database.rows(
            "SELECT execution_id, workload, principal, version FROM noetl.execution WHERE path = :path", path=path
        )

    async def lapse(self) -> None:
        """The attempt that is under way is given up: it is as if its time had passed."""
        await self.database.run("UPDATE noetl.trigger_event SET due_at = now() WHERE due_at < 'infinity'")


@pytest.fixture
async def bed(database: Database) -> Bed:  # noqa: F811
    bed = Bed(database)
    await bed.register()
    return bed


async def test_an_event_starts_one_execution_however_often_it_is_delivered(bed: Bed) -> None:
    assert [await bed.receive(event()) for _ in range(3)] == [True, False, False]
    [execution] = await bed.executions()
    assert execution["workload"] == {"order": 7, "name": "order 7"}
    assert execution["principal"] == {"kind": "trigger", "name": "orders/on_order/hook", "event_id": "e1", "depth": 1}
    received = await bed.received()
    assert (received.status, received.execution_id) == ("started", execution["execution_id"])


async def test_a_hundred_deliveries_at_once_start_one(bed: Bed) -> None:
    new = await asyncio.gather(*(bed.receive(event()) for _ in range(100)))
    assert sum(new) == 1
    assert len(await bed.executions()) == 1


async def test_a_condition_that_does_not_hold_starts_nothing(bed: Bed) -> None:
    await bed.receive(event(total=5))
    assert (await bed.received()).status == "filtered"
    assert await bed.executions() == []


@pytest.mark.parametrize("moment", ["before the start", "after the start"])
async def test_a_function_that_is_killed_in_between_loses_nothing(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    start = bed.orchestrator.start

    async def killed(**arguments: Any) -> Any:
        if moment == "after the start":
            await start(**arguments)
        raise Killed

    monkeypatch.setattr(bed.orchestrator, "start", killed)
    with pytest.raises(Killed):
        await bed.receive(event())
    monkeypatch.undo()
    assert (await bed.received()).status == "received"
    assert not await bed.receive(event()), "a second delivery is not another event"
    done = await bed.reconciler().reconcile()
    assert "trigger_events" not in done, "the attempt may still be under way"
    await bed.lapse()
    assert (await bed.reconciler().reconcile())["trigger_events"] == 1
    [execution] = await bed.executions()
    assert (await bed.received()).execution_id == execution["execution_id"]


async def test_a_new_version_between_two_attempts_does_not_start_it_again(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = bed.triggers.settle

    async def killed(*arguments: Any, **named: Any) -> None:
        raise Killed

    monkeypatch.setattr(bed.triggers, "settle", killed)
    with pytest.raises(Killed):
        await bed.receive(event())
    monkeypatch.setattr(bed.triggers, "settle", settle)
    # which would start nothing for it, and something else
    await bed.register(TEXT.replace("order {{", "number {{").replace("total > 10", "total > 100"))
    await bed.lapse()
    await bed.reconciler().reconcile()
    [execution] = await bed.executions()
    assert (execution["version"], execution["workload"]["name"]) == (1, "order 7")
    assert (await bed.received()).status == "started"


async def test_reconcilers_at_once_start_each_event_once(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    async def killed(**arguments: Any) -> Any:
        raise Killed

    monkeypatch.setattr(bed.orchestrator, "start", killed)
    for number in range(20):
        with pytest.raises(Killed):
            await bed.receive(event(f"e{number}"))
    monkeypatch.undo()
    await bed.lapse()
    await asyncio.gather(*(bed.reconciler().reconcile() for _ in range(4)))
    assert len(await bed.executions()) == 20


async def test_a_condition_that_raises_is_a_dead_letter_with_its_place(bed: Bed) -> None:
    await bed.starts.receive(await bed.trigger(), {**event(), "data": {"id": 7}})
    dead = await bed.received()
    assert dead.status == "dead"
    assert dead.error is not None
    assert (dead.error["code"], dead.error["line"], dead.error["column"]) == ("template.error", 8, 26)
    assert "total" in dead.error["message"]
    assert await bed.executions() == []


async def test_a_dead_letter_is_retried_with_the_version_that_is_the_newest_then(bed: Bed) -> None:
    await bed.starts.receive(await bed.trigger(), {**event(), "data": {"id": 7}})
    await bed.register(TEXT.replace("event.data.total > 10", "event.data.get('total', 11) > 10"))
    await bed.triggers.retry((await bed.trigger()).trigger_id, "e1", bed.now())
    await bed.reconciler().reconcile()
    assert [(one["version"], one["workload"]["order"]) for one in await bed.executions()] == [(2, 7)]


async def test_a_trigger_that_is_gone_leaves_a_dead_letter(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(**arguments: Any) -> Any:
        raise Unavailable("the database is away")

    monkeypatch.setattr(bed.orchestrator, "start", away)
    await bed.receive(event())
    assert (await bed.received()).status == "failed"
    monkeypatch.undo()
    await bed.register(TEXT.replace("name: hook", "name: other"))
    await bed.lapse()
    await bed.reconciler().reconcile()
    dead = await bed.received()
    assert (dead.status, (dead.error or {})["code"]) == ("dead", "trigger.gone")


async def test_an_event_that_ends_every_attempt_is_given_up(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    async def killed(**arguments: Any) -> Any:
        raise Killed

    monkeypatch.setattr(bed.orchestrator, "start", killed)
    with pytest.raises(Killed):
        await bed.receive(event())
    for _ in range(MAX_ATTEMPTS - 1):
        await bed.lapse()
        with pytest.raises(Killed):
            await bed.starts.start_due(10)
    await bed.lapse()
    await bed.starts.start_due(10)
    dead = await bed.received()
    assert (dead.status, (dead.error or {})["code"]) == ("dead", "trigger.attempts")


async def test_an_unavailable_service_is_tried_again_later_and_not_for_ever(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(**arguments: Any) -> Any:
        raise Unavailable("away")

    monkeypatch.setattr(bed.orchestrator, "start", away)
    await bed.receive(event())
    waits: list[timedelta] = []
    while (received := await bed.received()).status == "failed":
        [(due_at,)] = await bed.database.run("SELECT due_at FROM noetl.trigger_event")
        waits.append(due_at - bed.now())
        bed.ahead += waits[-1] + timedelta(milliseconds=1)
        await bed.starts.start_due(10)
    assert (received.status, received.attempts, len(waits)) == ("dead", MAX_ATTEMPTS, MAX_ATTEMPTS - 1)
    assert waits == sorted(waits) and waits[0] < waits[-1], "each wait is longer than the one before"


# -- the end of another playbook

FIRST = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: first, path: chain/first}
workflow:
  - {step: one, tool: {kind: python, code: "result = 1"}}
"""
SECOND = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: second, path: chain/second}
triggers:
  - name: after
    kind: playbook
    path: chain/first
    statuses: [completed, cancelled]
    input: {id: "{{ event.data.execution_id }}", how: "{{ event.type }}", result: "{{ event.data.result }}"}
workload: {id: null, how: null, result: null}
workflow:
  - {step: one, tool: {kind: python, code: "result = 1"}}
"""


async def run_out(bed: Bed, result: Any = 1, status: str = "done") -> None:
    """Run whatever waits to its end."""
    from noetl_serverless.protocol import ClaimRequest, Outcome, ReportRequest

    while commands := (await bed.orchestrator.claim(ClaimRequest(worker_id="w", pool="shared", limit=10))).commands:
        for command in commands:
            named = {"execution_id": command.execution_id, "command_id": command.command_id, "fence": command.fence}
            error = None if status == "done" else {"kind": "x", "code": "tool.failed", "message": "no"}
            outcome = Outcome(**named, status=status, data=result if error is None else None, error=error)
            await bed.orchestrator.report(ReportRequest(worker_id="w", outcomes=[outcome]))


async def test_the_end_of_a_playbook_starts_another(bed: Bed) -> None:
    await bed.register(FIRST)
    await bed.register(SECOND)
    started = await bed.orchestrator.start(path="chain/first")
    await run_out(bed, {"rows": 3})
    await bed.reconciler().reconcile()
    [execution] = await bed.executions("chain/second")
    workload = execution["workload"]
    assert (workload["id"], workload["how"]) == (started.execution_id, "playbook.completed")
    assert workload["result"] == {"data": {"rows": 3}}
    await bed.reconciler().reconcile()
    assert len(await bed.executions("chain/second")) == 1


async def test_only_ends_that_are_meant_start_it(bed: Bed) -> None:
    await bed.register(FIRST)
    await bed.orchestrator.start(path="chain/first")
    await run_out(bed)
    await bed.register(SECOND)
    failed = await bed.orchestrator.start(path="chain/first")
    await run_out(bed, status="error")
    cancelled = await bed.orchestrator.start(path="chain/first")
    await bed.orchestrator.controls.cancel(cancelled.execution_id, "enough")
    await bed.reconciler().reconcile()
    found = [one["workload"]["id"] for one in await bed.executions("chain/second")]
    assert found == [cancelled.execution_id], f"not the end before it was registered, nor {failed.execution_id}"


async def test_playbooks_that_start_each_other_come_to_an_end(bed: Bed) -> None:
    await bed.register(SECOND)
    await bed.register(
        FIRST.replace("workflow:", "triggers: [{name: back, kind: playbook, path: chain/second}]\nworkflow:")
    )
    await bed.orchestrator.start(path="chain/first")
    for _ in range(TRIGGER_DEPTH + 2):
        await run_out(bed)
        await bed.reconciler().reconcile()
    ends = await bed.database.rows("SELECT depth, status, error FROM noetl.trigger_event ORDER BY depth")
    assert [end["depth"] for end in ends] == list(range(1, TRIGGER_DEPTH + 2))
    assert {end["status"] for end in ends[:-1]} == {"started"}
    assert (ends[-1]["status"], ends[-1]["error"]["code"]) == ("dead", "trigger.too_deep")


async def test_playbooks_that_multiply_come_to_an_end(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.orchestrator.triggers.TRIGGER_CHAIN", 5)

    def text(name: str, other: str) -> str:
        listen = "".join(f"{{name: t{n}, kind: playbook, path: chain/{other}}}, " for n in range(2))
        renamed = FIRST.replace("name: first, path: chain/first", f"name: {name}, path: chain/{name}")
        return renamed.replace("workflow:", f"triggers: [{listen}]\nworkflow:")

    await bed.register(text("first", "second"))
    await bed.register(text("second", "first"))
    for _ in range(3):
        await bed.orchestrator.start(path="chain/first")
    for _ in range(5):
        await run_out(bed)
        await bed.reconciler().reconcile()
    rows = await bed.database.rows("SELECT chain, status, error FROM noetl.trigger_event")
    for chain in {row["chain"] for row in rows}:
        of = [row for row in rows if row["chain"] == chain]
        assert sum(row["status"] == "started" for row in of) == 5
        assert {row["error"]["code"] for row in of if row["status"] == "dead"} == {"trigger.too_many"}
    assert len({row["chain"] for row in rows}) == 3, "each end that nothing has led to has its own"
    assert len(await bed.executions("chain/first")) + len(await bed.executions("chain/second")) == 3 + 3 * 5


async def test_a_large_result_is_left_out_of_the_event(bed: Bed) -> None:
    await bed.register(FIRST)
    await bed.register(SECOND)
    await bed.orchestrator.start(path="chain/first")
    await bed.database.run(
        "UPDATE noetl.execution SET status = 'COMPLETED', result = to_json(repeat('x', 70000)), ended_at = now()"
    )
    [(data,)] = await bed.database.run("SELECT event->'data' FROM noetl.trigger_event")
    assert (data["result"], data["result_bytes"]) == (None, 70002)


# -- sources that are polled

MESSAGES = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: on_message, path: orders/on_message}
triggers:
  - name: queue
    kind: message
    source: nats
    stream: ORDERS
    id: "{{ event.data.order }}"
    input: {n: "{{ event.data.n }}"}
workload: {n: null}
workflow:
  - {step: one, tool: {kind: python, code: "result = 1"}}
"""


def message(id: str, **data: Any) -> dict[str, Any]:
    return {"id": id, "source": "nats:ORDERS", "type": "message", "time": "2025-07-01T12:00:00Z", "data": data}


async def test_messages_are_acknowledged_once_they_are_recorded(bed: Bed) -> None:
    await bed.register(MESSAGES)
    bed.source.messages = [message("1", order="a", n=1), message("2", order="a", n=2), message("3", order=5, n=3)]
    assert (await bed.reconciler().reconcile())["trigger_messages"] == 2
    assert bed.source.acknowledged == ["1", "2", "3"]
    assert sorted(one["workload"]["n"] for one in await bed.executions("orders/on_message")) == [1, 3]
    assert (await bed.received("a", "orders/on_message/queue")).status == "started"


async def test_a_source_that_has_more_is_read_again_in_the_same_pass(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.reconciler.triggers.MAX_EVENTS", 2)
    await bed.register(MESSAGES)
    bed.source.messages = [message(str(number), order=number, n=number) for number in range(5)]
    assert (await bed.reconciler().reconcile())["trigger_messages"] == 5
    assert bed.source.messages == []


async def test_a_pass_reads_for_a_while_and_leaves_the_rest_to_the_next(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.reconciler.triggers.MAX_EVENTS", 2)
    # each look at it is that many seconds later
    clock = itertools.count(step=0.4 * READ_SECONDS)
    monkeypatch.setattr("noetl_serverless.reconciler.triggers.monotonic", lambda: next(clock))
    await bed.register(MESSAGES)
    bed.source.messages = [message(str(number), order=number, n=number) for number in range(5)]
    passes = 0
    while bed.source.messages:
        await bed.reconciler().reconcile()
        passes += 1
    assert passes == 3


async def test_a_message_without_an_id_is_a_dead_letter_and_holds_up_nothing(bed: Bed) -> None:
    await bed.register(MESSAGES)
    bed.source.messages = [message("1", n=1), message("2", order="x" * 2_000_000, n=2), message("3", order="b", n=3)]
    await bed.reconciler().reconcile()
    assert bed.source.acknowledged == ["1", "2", "3"]
    for id, code in (("1", "template.error"), ("2", "request.too_large")):
        dead = await bed.received(id, "orders/on_message/queue")
        assert (dead.status, (dead.error or {})["code"]) == ("dead", code)
    assert [one["workload"]["n"] for one in await bed.executions("orders/on_message")] == [3]


def nested(levels: int) -> dict[str, Any]:
    """Such that the whole event has this many levels."""
    value: Any = []
    for _ in range(levels - 3):
        value = [value]
    return {"order": "n", "n": value}


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"data": nested(EVENT_DEPTH + 1)}, "request.invalid"),
        ({"data": nested(300)}, "request.invalid"),
        ({"data": None, "data_base64": "/" * EVENT_BYTES}, "template.error"),
        ({"data": {"order": "b"}, "data_base64": "/" * EVENT_BYTES}, "request.too_large"),
        ({"data": {"order": "b"}, "headers": {"x": "y" * EVENT_BYTES}}, "request.too_large"),
        ({"data": {"order": "b"}, "headers": {"x": "\udcff"}}, "request.invalid"),
        ({"data": {"order": "\udcff"}}, "request.invalid"),
    ],
)
async def test_a_message_that_cannot_be_recorded_is_a_dead_letter_without_its_content(
    bed: Bed, wrong: dict[str, Any], code: str
) -> None:
    await bed.register(MESSAGES)
    bed.source.messages = [{**message("1"), **wrong}, message("2", order="a", n=2)]
    await bed.reconciler().reconcile()
    assert bed.source.acknowledged == ["1", "2"]
    dead = await bed.received("1", "orders/on_message/queue")
    assert (dead.status, (dead.error or {})["code"]) == ("dead", code)
    assert [one["workload"]["n"] for one in await bed.executions("orders/on_message")] == [2]


async def test_a_message_that_fails_for_an_unknown_reason_is_a_dead_letter(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bed.register(MESSAGES)
    receive = bed.triggers.receive

    async def failing(trigger: Trigger, event_id: str, content: dict[str, Any], now: datetime) -> Any:
        if content["data"]:
            raise RuntimeError("no")
        return await receive(trigger, event_id, content, now)

    monkeypatch.setattr(bed.triggers, "receive", failing)
    bed.source.messages = [message("1", order="a", n=1)]
    await bed.reconciler().reconcile()
    dead = await bed.received("1", "orders/on_message/queue")
    assert (dead.status, (dead.error or {})["code"]) == ("dead", "server.internal")


async def test_a_message_that_cannot_even_be_a_dead_letter_does_not_hold_up_the_next(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bed.register(MESSAGES)
    receive = bed.starts.receive_message

    async def failing(trigger: PolledTrigger, content: dict[str, Any]) -> bool:
        if content["id"] == "1":
            raise RuntimeError("no")
        return await receive(trigger, content)

    monkeypatch.setattr(bed.starts, "receive_message", failing)
    bed.source.messages = [message("1", order="a", n=1), message("2", order="b", n=2)]
    await bed.reconciler().reconcile()
    assert bed.source.acknowledged == ["2"]
    assert (await bed.trigger("orders/on_message/queue")).error is not None, "it is shown"


async def test_a_message_that_comes_while_its_trigger_is_disabled_is_not_acknowledged(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bed.register(MESSAGES)
    read = bed.source.read

    async def disabled_meanwhile(trigger: PolledTrigger, limit: int) -> SourceEvents:
        found = await read(trigger, limit)
        await bed.triggers.set_enabled(await bed.trigger("orders/on_message/queue"), False, bed.now())
        return found

    monkeypatch.setattr(bed.source, "read", disabled_meanwhile)
    bed.source.messages = [message("1", order="a", n=1)]
    await bed.reconciler().reconcile()
    assert bed.source.acknowledged == []
    assert await bed.executions("orders/on_message") == []


async def test_a_source_that_cannot_be_read_is_shown_and_left_alone_for_a_while(bed: Bed) -> None:
    await bed.register(MESSAGES)
    bed.source.error = NotFound("there is no stream ORDERS")
    await bed.reconciler().reconcile()
    assert ((await bed.trigger("orders/on_message/queue")).error or {})["detail"] == "there is no stream ORDERS"
    bed.source.error, bed.source.messages = None, [message("1", order="a", n=1)]
    await bed.reconciler().reconcile()
    assert bed.source.acknowledged == []
    await bed.database.run("UPDATE noetl.trigger SET polled_until = now()")
    bed.ahead = LEASE
    await bed.reconciler().reconcile()
    assert bed.source.acknowledged == ["1"]
    assert (await bed.trigger("orders/on_message/queue")).error is None


async def test_what_of_a_source_cannot_be_read_is_shown_and_does_not_hold_up_the_rest(bed: Bed) -> None:
    await bed.register(MESSAGES)
    bed.source.problem = NotFound("one of them has a name that is no text")
    for id in ("1", "2"):
        bed.source.messages = [message(id, order=id, n=1)]
        await bed.reconciler().reconcile()
        assert ((await bed.trigger("orders/on_message/queue")).error or {})["detail"] == bed.source.problem.detail
        bed.ahead += LEASE
        await bed.database.run("UPDATE noetl.trigger SET polled_until = now()")
    assert bed.source.acknowledged == ["1", "2"]
    bed.source.problem = None
    await bed.reconciler().reconcile()
    assert (await bed.trigger("orders/on_message/queue")).error is None


async def test_a_source_that_cannot_be_read_is_in_the_log_once(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    await bed.register(MESSAGES)
    for detail in ("there is no stream ORDERS", "there is no stream ORDERS", "there are no rights to it"):
        bed.source.error = NotFound(detail)
        await bed.database.run("UPDATE noetl.trigger SET polled_until = now()")
        await bed.reconciler().reconcile()
    said = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert [line.partition("cannot be read: ")[2] for line in said] == [
        "NotFound('there is no stream ORDERS')",
        "NotFound('there are no rights to it')",
    ]
