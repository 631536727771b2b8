"""What the triggers in PostgreSQL and those in memory both do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from noetl_serverless.errors import Conflict, InvalidRequest, NotFound, TooLarge
from noetl_serverless.limits import EVENT_BYTES, EVENT_DEPTH
from noetl_serverless.orchestrator.triggers import TriggerInbox
from noetl_serverless.playbook.plan import Trigger as CompiledTrigger
from noetl_serverless.playbook.template import Place
from noetl_serverless.store.catalog import NewResource, PostgresCatalog
from noetl_serverless.store.database import Database
from noetl_serverless.store.triggers import LEASE, DueEvent, Trigger, Triggers
from noetl_serverless.testing.triggers import EndedExecution, MemoryTriggers

NOW = datetime(2025, 7, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
EVENT = {"id": "e1", "source": "webhook", "type": "webhook", "time": "2025-07-01T12:00:00Z", "data": {"n": 1}}


def hook(name: str = "hook", **keys: Any) -> CompiledTrigger:
    declared = {"name": name, "kind": "webhook", "source": "standard", "config": {}, "enabled": True, **keys}
    return CompiledTrigger(**declared, when=None, input={}, event_id=None, place=Place(1, 1))


class InPostgres:
    def __init__(self, database: Database) -> None:
        self._database = database
        self.triggers: Triggers | MemoryTriggers = Triggers(database)

    async def register(self, *triggers: CompiledTrigger, path: str = "demo") -> None:
        """As a new version."""
        catalog = PostgresCatalog(self._database)
        version = len(await catalog.entries(path=path, every_version=True, limit=100, offset=0)) + 1
        playbook = NewResource(
            path=path,
            kind="Playbook",
            content=f"v{version}",
            hash=f"{path}{version}",
            meta={},
            payload={},
            triggers=triggers,
        )
        await catalog.register(playbook)

    async def delete(self, path: str, version: int | None = None) -> None:
        await PostgresCatalog(self._database).delete(path, version)

    async def restore(self, path: str, version: int | None = None) -> None:
        await PostgresCatalog(self._database).restore(path, version)

    async def end(self, ended: EndedExecution) -> None:
        await self._database.run(
            """INSERT INTO noetl.execution (execution_id, catalog_id, path, version, plan_hash, status, workload, state,
                state_version, head, folded, parent_execution_id, result, error, principal, created_at, ended_at)
            VALUES (:id, 1, :path, :version, 'h', :status, '{}', '{}', 1, 1, 1, CAST(:parent AS bigint),
                CAST(:result AS json), CAST(:error AS json), CAST(:principal AS json), now(), :at)""",
            id=int(ended.execution_id),
            path=ended.path,
            version=ended.version,
            status=ended.status,
            parent=ended.parent_execution_id,
            at=ended.at,
            **{
                name: None if value is None else orjson.dumps(value).decode()
                for name, value in (("result", ended.result), ("error", ended.error), ("principal", ended.principal))
            },
        )


@dataclass
class InMemory:
    # of each path what each version declares, and the versions that are deleted
    versions: dict[str, dict[int, tuple[CompiledTrigger, ...]]] = field(default_factory=dict)
    deleted: dict[str, set[int]] = field(default_factory=dict)
    triggers: Triggers | MemoryTriggers = field(init=False)

    def __post_init__(self) -> None:
        self.triggers = self._memory = MemoryTriggers(self._newest)

    async def register(self, *triggers: CompiledTrigger, path: str = "demo") -> None:
        versions = self.versions.setdefault(path, {})
        versions[len(versions) + 1] = triggers
        self._declare(path)

    async def delete(self, path: str, version: int | None = None) -> None:
        self.deleted.setdefault(path, set()).update(self.versions[path] if version is None else [version])
        self._declare(path)

    async def restore(self, path: str, version: int | None = None) -> None:
        self.deleted[path] -= set(self.versions[path] if version is None else [version])
        self._declare(path)

    def _newest(self, path: str) -> int | None:
        return max(self.versions.get(path, {}).keys() - self.deleted.get(path, set()), default=None)

    def _declare(self, path: str) -> None:
        newest = self._newest(path)
        if newest is not None:
            self._memory.declare(path, newest, self.versions[path][newest], datetime.now(UTC))

    async def end(self, ended: EndedExecution) -> None:
        self._memory.record_end(ended)


Subject = InPostgres | InMemory


@pytest.fixture(params=["postgres", "memory"])
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == "memory":
        return InMemory()
    database: Database = request.getfixturevalue("database")
    return InPostgres(database)


@pytest.fixture
def triggers(subject: Subject) -> Triggers | MemoryTriggers:
    return subject.triggers


@pytest.fixture
async def trigger(subject: Subject) -> Trigger:
    await subject.register(hook())
    return await subject.triggers.get("demo/hook")


def test_both_are_what_the_start_of_an_event_needs(subject: Subject) -> None:
    inbox: TriggerInbox = subject.triggers
    assert inbox is subject.triggers


async def test_a_trigger_is_found_by_its_place_and_its_id(
    triggers: Triggers | MemoryTriggers, trigger: Trigger
) -> None:
    assert (trigger.path, trigger.name, trigger.version, trigger.is_effective) == ("demo", "hook", 1, True)
    assert await triggers.get(str(trigger.trigger_id)) == trigger
    assert await triggers.by_ids([trigger.trigger_id, 1_000_000]) == [trigger]
    assert await triggers.by_ids([]) == []
    with pytest.raises(NotFound, match="demo/none"):
        await triggers.get("demo/none")


async def test_the_newest_version_declares_the_triggers(
    subject: Subject, triggers: Triggers | MemoryTriggers, trigger: Trigger
) -> None:
    await subject.register(hook("other"))
    gone, other = await triggers.entries(path="demo", kind=None, limit=10)
    assert [(one.name, one.is_effective) for one in (gone, other)] == [("hook", False), ("other", True)]
    assert await triggers.receive(trigger, "e1", EVENT, NOW) is None
    await subject.register(hook(source="github"))
    back = await triggers.get("demo/hook")
    assert (back.trigger_id, back.source, back.version, back.is_effective) == (trigger.trigger_id, "github", 3, True)


async def test_a_playbook_that_is_deleted_has_no_effective_triggers(
    subject: Subject, triggers: Triggers | MemoryTriggers, trigger: Trigger
) -> None:
    await subject.delete("demo")
    assert await triggers.receive(trigger, "e1", EVENT, NOW) is None


async def test_the_triggers_of_the_version_that_is_then_the_newest_are_effective(
    subject: Subject, triggers: Triggers | MemoryTriggers, trigger: Trigger
) -> None:
    await subject.register(hook(source="github"), hook("other"))
    await subject.delete("demo", 2)
    back = await triggers.get("demo/hook")
    assert (back.trigger_id, back.source, back.version, back.is_effective) == (trigger.trigger_id, "standard", 1, True)
    assert not (await triggers.get("demo/other")).is_effective
    assert await triggers.receive(back, "e1", EVENT, NOW) is not None
    await subject.restore("demo", 2)
    again = await triggers.get("demo/hook")
    assert (again.source, again.version, again.is_effective) == ("github", 2, True)
    assert (await triggers.get("demo/other")).is_effective
    await subject.delete("demo")
    await subject.restore("demo")
    restored = await triggers.get("demo/hook")
    assert restored.is_effective and restored.updated_at > again.updated_at, "it listens from then on"


async def test_registering_the_same_text_again_declares_what_a_deletion_by_the_release_before_left_out(
    database: Database,
) -> None:
    subject, catalog = InPostgres(database), PostgresCatalog(database)
    await subject.register(hook())
    await subject.register(hook())
    await database.run("UPDATE noetl.catalog SET deleted_at = now() WHERE version = 2")
    assert not (await subject.triggers.get("demo/hook")).is_effective
    first = await catalog.get("demo")
    same = NewResource(path="demo", kind="Playbook", content="v1", hash=first.hash, meta={}, payload={})
    for _ in range(2):
        assert (await catalog.register(same))[1] is False
        found = await subject.triggers.get("demo/hook")
        assert found.is_effective
    before = found
    await catalog.register(same)
    assert await subject.triggers.get("demo/hook") == before, "nothing has changed"


async def test_what_the_newest_version_says_decides_unless_it_was_disabled_by_name(
    subject: Subject, triggers: Triggers | MemoryTriggers, trigger: Trigger
) -> None:
    due = await triggers.receive(trigger, "e1", EVENT, NOW)
    assert due is not None
    await subject.register(hook(enabled=False))
    off = await triggers.get("demo/hook")
    assert not off.enabled
    assert await triggers.claim_due(NOW + 100 * LEASE, 10) == [], "what it has received waits"
    await subject.register(hook())
    assert (await triggers.get("demo/hook")).enabled
    [again] = await triggers.claim_due(datetime.now(UTC) + LEASE, 10)
    assert again.event_id == "e1"
    await triggers.set_enabled(off, False, NOW)
    await subject.register(hook(enabled=True))
    assert not (await triggers.get("demo/hook")).enabled


async def test_one_that_is_disabled_stays_so_in_later_versions(
    subject: Subject, triggers: Triggers | MemoryTriggers, trigger: Trigger
) -> None:
    await triggers.set_enabled(trigger, False, NOW)
    await subject.register(hook(), hook("off", enabled=False))
    assert [one.enabled for one in await triggers.entries(path="demo", kind=None, limit=10)] == [False, False]
    await triggers.set_enabled(trigger, True, NOW)
    assert (await triggers.get("demo/hook")).is_effective


async def test_an_event_is_received_once(triggers: Triggers | MemoryTriggers, trigger: Trigger) -> None:
    received = await asyncio.gather(*(triggers.receive(trigger, "e1", EVENT, NOW) for _ in range(20)))
    [due] = [one for one in received if one is not None]
    assert (due.idempotency_key, due.event) == (f"trigger:{trigger.trigger_id}:e1", EVENT)
    assert await triggers.receive(trigger, "e2", EVENT, NOW) is not None


async def test_who_received_an_event_holds_it_for_a_while(
    triggers: Triggers | MemoryTriggers, trigger: Trigger
) -> None:
    due = await triggers.receive(trigger, "e1", EVENT, NOW)
    assert await triggers.claim_due(NOW + LEASE - SECOND, 10) == []
    [again] = await triggers.claim_due(NOW + LEASE, 10)
    assert due is not None and again == DueEvent(
        trigger_id=due.trigger_id, path="demo", name="hook", event_id="e1", event=EVENT, depth=1, attempts=2
    )


async def test_an_event_is_claimed_by_one(triggers: Triggers | MemoryTriggers, trigger: Trigger) -> None:
    for number in range(30):
        await triggers.receive(trigger, f"e{number}", EVENT, NOW)
    claimed = await asyncio.gather(*(triggers.claim_due(NOW + LEASE, 10) for _ in range(5)))
    ids = [due.event_id for part in claimed for due in part]
    assert len(ids) == len(set(ids)), "two claims have the same event"


async def test_the_first_who_settles_it_counts(triggers: Triggers | MemoryTriggers, trigger: Trigger) -> None:
    due = await triggers.receive(trigger, "e1", EVENT, NOW)
    assert due is not None
    await triggers.settle(due, "started", NOW, execution_id=7)
    await triggers.settle(due, "dead", NOW, error={"code": "late"})
    await triggers.postpone(due, {"code": "late"}, NOW)
    event = await triggers.event(trigger.trigger_id, "e1")
    assert (event.status, event.execution_id, event.error) == ("started", 7, None)
    assert await triggers.claim_due(NOW + 2 * LEASE, 10) == []


async def test_a_failed_attempt_is_repeated_when_it_is_due(
    triggers: Triggers | MemoryTriggers, trigger: Trigger
) -> None:
    due = await triggers.receive(trigger, "e1", EVENT, NOW)
    assert due is not None
    await triggers.postpone(due, {"code": "server.unavailable"}, NOW + SECOND)
    [listed] = await triggers.events(trigger.trigger_id, status="failed", limit=10)
    assert (listed.attempts, listed.error) == (1, {"code": "server.unavailable"})
    assert await triggers.claim_due(NOW, 10) == []
    assert [one.attempts for one in await triggers.claim_due(NOW + SECOND, 10)] == [2]


async def test_a_dead_letter_is_started_after_all_or_given_up(
    triggers: Triggers | MemoryTriggers, trigger: Trigger
) -> None:
    for id in ("e1", "e2"):
        due = await triggers.receive(trigger, id, EVENT, NOW)
        assert due is not None
        await triggers.settle(due, "dead", NOW, error={"code": "template.error"})
    assert (await triggers.retry(trigger.trigger_id, "e1", NOW)).status == "received"
    assert [(one.event_id, one.event, one.attempts) for one in await triggers.claim_due(NOW, 10)] == [("e1", EVENT, 1)]
    assert (await triggers.drop(trigger.trigger_id, "e2", NOW)).status == "dropped"
    for verb in (triggers.retry, triggers.drop):
        with pytest.raises(Conflict, match="no dead letter: it is dropped"):
            await verb(trigger.trigger_id, "e2", NOW)
        with pytest.raises(NotFound):
            await verb(trigger.trigger_id, "e3", NOW)
    assert await triggers.receive(trigger, "e2", EVENT, NOW) is None, "one that was given up is received again"


async def test_events_of_a_disabled_trigger_wait(triggers: Triggers | MemoryTriggers, trigger: Trigger) -> None:
    due = await triggers.receive(trigger, "e1", EVENT, NOW)
    assert due is not None
    off = await triggers.set_enabled(trigger, False, NOW)
    assert await triggers.receive(off, "e2", EVENT, NOW) is None
    assert await triggers.claim_due(NOW + 100 * LEASE, 10) == []
    await triggers.set_enabled(off, True, NOW)
    assert [one.event_id for one in await triggers.claim_due(NOW, 10)] == ["e1"]


async def test_an_attempt_that_fails_after_its_trigger_was_disabled_waits(
    triggers: Triggers | MemoryTriggers, trigger: Trigger
) -> None:
    due = await triggers.receive(trigger, "e1", EVENT, NOW)
    assert due is not None
    off = await triggers.set_enabled(trigger, False, NOW)
    await triggers.postpone(due, {"code": "server.unavailable"}, NOW)
    assert await triggers.claim_due(NOW, 10) == []
    assert (await triggers.event(trigger.trigger_id, "e1")).attempts == 1
    await triggers.set_enabled(off, True, NOW)
    assert [one.attempts for one in await triggers.claim_due(NOW, 10)] == [2]


async def test_a_dead_letter_of_a_disabled_trigger_waits(triggers: Triggers | MemoryTriggers, trigger: Trigger) -> None:
    due = await triggers.receive(trigger, "e1", EVENT, NOW)
    assert due is not None
    await triggers.settle(due, "dead", NOW, error={"code": "template.error"})
    off = await triggers.set_enabled(trigger, False, NOW)
    await triggers.retry(trigger.trigger_id, "e1", NOW)
    assert await triggers.claim_due(NOW, 10) == []
    await triggers.set_enabled(off, True, NOW)
    assert [one.event_id for one in await triggers.claim_due(NOW, 10)] == ["e1"]


async def test_events_are_listed_newest_first_in_pages(triggers: Triggers | MemoryTriggers, trigger: Trigger) -> None:
    for number in range(5):
        await triggers.receive(trigger, f"e{number}", EVENT, NOW + number // 2 * SECOND)
    first = await triggers.events(trigger.trigger_id, status=None, limit=3)
    last = first[-1]
    rest = await triggers.events(trigger.trigger_id, status=None, before=(last.received_at, last.event_id), limit=3)
    assert [one.event_id for one in first + rest] == ["e4", "e3", "e2", "e1", "e0"]


async def test_an_event_that_is_too_large_is_refused(triggers: Triggers | MemoryTriggers, trigger: Trigger) -> None:
    with pytest.raises(TooLarge, match=str(EVENT_BYTES)):
        await triggers.receive(trigger, "e1", {**EVENT, "data": "x" * EVENT_BYTES}, NOW)


async def test_an_event_that_cannot_be_recorded_is_refused(
    triggers: Triggers | MemoryTriggers, trigger: Trigger
) -> None:
    deep: Any = []
    for _ in range(EVENT_DEPTH - 1):
        deep = [deep]
    for data, reason in ((deep, f"nested deeper than {EVENT_DEPTH}"), ("\udcff", "not JSON")):
        with pytest.raises(InvalidRequest, match=reason):
            await triggers.receive(trigger, "e1", {**EVENT, "data": data}, NOW)
    assert await triggers.receive(trigger, "e1", {**EVENT, "data": deep[0]}, NOW) is not None


async def test_old_events_are_deleted_and_triggers_that_are_gone(
    subject: Subject, triggers: Triggers | MemoryTriggers, trigger: Trigger
) -> None:
    for id in ("old", "open"):
        due = await triggers.receive(trigger, id, EVENT, NOW)
        assert due is not None
        if id == "old":
            await triggers.settle(due, "filtered", NOW)
    later = datetime.now(UTC) + timedelta(days=1)
    assert await triggers.prune(later) == 1
    assert [one.event_id for one in await triggers.events(trigger.trigger_id, status=None, limit=10)] == ["open"]
    await subject.register()
    await triggers.prune(later)
    assert (await triggers.get("demo/hook")).trigger_id == trigger.trigger_id, "it still has an event"
    [due] = await triggers.claim_due(later, 10)
    await triggers.settle(due, "dropped", NOW)
    await triggers.prune(later)
    with pytest.raises(NotFound):
        await triggers.get("demo/hook")


async def test_a_source_is_read_by_one_and_remembers_how_far(
    subject: Subject, triggers: Triggers | MemoryTriggers
) -> None:
    queue = hook("queue", kind="message", source="nats:ORDERS", config={"stream": "ORDERS"})
    await subject.register(queue, hook())
    [polled] = await triggers.poll(NOW, NOW + LEASE, 10)
    assert (polled.name, polled.position) == ("queue", {})
    assert await triggers.poll(NOW, NOW + LEASE, 10) == []
    await triggers.record_polled(polled, {"seq": 7}, NOW + SECOND, {"code": "server.unavailable"})
    assert (await triggers.get("demo/queue")).error == {"code": "server.unavailable"}
    [again] = await triggers.poll(NOW + SECOND, NOW + LEASE, 10)
    assert again.position == {"seq": 7}
    await subject.register(queue, hook())
    assert (await triggers.poll(NOW + LEASE, NOW + 2 * LEASE, 10))[0].position == {"seq": 7}
    await subject.register(hook("queue", kind="message", source="nats:OTHER"))
    assert (await triggers.poll(NOW + 2 * LEASE, NOW + 3 * LEASE, 10))[0].position == {}, "of the source before"


async def test_a_bucket_is_not_polled(subject: Subject) -> None:
    folder = hook("files", kind="object", source="file:///in/")
    for bucket in ("s3://orders/in/", "gs://orders"):
        await subject.register(hook("files", kind="object", source=bucket))
        assert await subject.triggers.poll(NOW, NOW + LEASE, 10) == []
        await subject.register(folder)
        assert [one.source for one in await subject.triggers.poll(NOW, NOW + LEASE, 10)] == ["file:///in/"]


async def test_those_that_listen_to_a_source_are_found(subject: Subject, triggers: Triggers | MemoryTriggers) -> None:
    for number, url in enumerate(("s3://bucket/in/", "s3://bucket", "s3://bucket/out/", "s3://buck")):
        await subject.register(hook(f"t{number}", kind="object", source=url), path=f"p{number}")
    found = await triggers.listening("object", "s3://bucket/in/a.csv")
    assert [one.name for one in found] == ["t0", "t1", "t3"], "which of them mean the bucket is for the caller to see"


# -- ends of executions

AFTER = {"kind": "playbook", "source": "first", "config": {"statuses": ["completed", "cancelled"]}}


def ended(id: str = "7", **more: Any) -> EndedExecution:
    at = datetime.now(UTC) + SECOND
    given = {"path": "first", "version": 3, "status": "COMPLETED", "at": at, "result": {"data": 5}, **more}
    return EndedExecution(execution_id=id, **given)


async def due(subject: Subject) -> list[DueEvent]:
    return await subject.triggers.claim_due(datetime.now(UTC) + timedelta(days=1), 100)


async def test_the_end_of_a_playbook_is_an_event_with_its_result(subject: Subject) -> None:
    await subject.register(hook("after", **AFTER))
    end = ended(parent_execution_id="5")
    await subject.end(end)
    [event] = await due(subject)
    at = end.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert (event.event_id, event.depth, event.attempts) == ("7", 1, 1)
    assert event.event == {
        "id": "7",
        "source": "playbook:first",
        "type": "playbook.completed",
        "time": at,
        "data": {
            "execution_id": "7",
            "path": "first",
            "version": 3,
            "status": "completed",
            "parent_execution_id": "5",
            "result": {"data": 5},
            "result_bytes": 10,
            "error": None,
        },
    }


async def test_only_ends_of_that_playbook_with_these_statuses_are_events(subject: Subject) -> None:
    await subject.register(hook("after", **AFTER), hook())
    others: list[dict[str, Any]] = [{"status": "FAILED"}, {"path": "other"}, {"status": "CANCELLED", "result": None}]
    for id, more in enumerate(others, 1):
        await subject.end(ended(str(id), **more))
    [event] = await due(subject)
    assert (event.event_id, event.event["type"]) == ("3", "playbook.cancelled")
    assert (event.event["data"]["result"], event.event["data"]["result_bytes"]) == (None, None)


async def test_an_end_that_a_trigger_has_led_to_is_one_further_along(subject: Subject) -> None:
    await subject.register(hook("after", **AFTER))
    await subject.end(ended("1", principal={"kind": "trigger", "name": "x/y", "depth": 4}))
    await subject.end(ended("2", principal={"kind": "schedule", "depth": 4}))
    assert [event.depth for event in await due(subject)] == [5, 1]


async def test_what_follows_from_one_end_is_counted(subject: Subject) -> None:
    await subject.register(hook("after", **AFTER))
    triggers = subject.triggers
    await subject.end(ended("1"))
    await subject.end(ended("2", principal={"kind": "trigger", "name": "x/y", "depth": 1, "chain": "1"}))
    await subject.end(ended("3", principal={"kind": "trigger", "name": "x/webhook", "depth": 1}))
    first, second, third = sorted(await due(subject), key=lambda one: one.event_id)
    assert [one.chain for one in (first, second, third)] == [1, 1, 3]
    assert await triggers.started_by(1, 10) == 0
    for one in (first, second):
        await triggers.settle(one, "started", NOW, execution_id=7)
    await triggers.settle(third, "filtered", NOW)
    assert [await triggers.started_by(chain, 10) for chain in (1, 3)] == [2, 0]
    assert await triggers.started_by(1, 1) == 1


async def test_a_large_result_is_no_part_of_the_event(subject: Subject) -> None:
    await subject.register(hook("after", **AFTER))
    await subject.end(ended(result="x" * 65_535))
    [event] = await due(subject)
    assert (event.event["data"]["result"], event.event["data"]["result_bytes"]) == (None, 65_537)


async def test_ends_before_the_registration_and_while_it_is_off_are_no_events(subject: Subject) -> None:
    await subject.end(ended("1"))
    await subject.register(hook("after", **AFTER))
    await subject.end(ended("2", at=datetime.now(UTC) - timedelta(hours=1)))
    await subject.triggers.set_enabled(await subject.triggers.get("demo/after"), False, datetime.now(UTC))
    await subject.end(ended("3"))
    assert await due(subject) == []
