"""What a sub-playbook is started with, when it is too large for the log and goes by reference."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import orjson
import pytest
from tests.unit.orchestrator.conftest import Engine, frame_of, outcome
from tests.unit.orchestrator.quarantined import CALLS

from noetl_serverless import limits
from noetl_serverless.commands.fact import PAYLOAD_PLACEHOLDER, fact_of
from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.errors import Busy, InvalidRequest, ResultStoreUnavailable, Unavailable
from noetl_serverless.limits import INLINE_BYTES, MIB, PAYLOADS_BYTES, WORKLOAD_BYTES
from noetl_serverless.orchestrator import payloads as module
from noetl_serverless.orchestrator.children import MAX_WAIT_MS
from noetl_serverless.orchestrator.reports import MAX_ATTEMPTS_WITH_REFERENCES
from noetl_serverless.orchestrator.start import initial_values
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.ports import ResultStore, StoredObject
from noetl_serverless.records import Claimant, CommitResult, ExecutionCommit, ReportedFact
from noetl_serverless.results.offload import Output, Place, externalise
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.results.whole import WholeObjects

CALL = "- {step: call, tool: {kind: playbook, path: t/child}}\n"
LOOP = """
- step: each
  loop: {in: "{{ [1, 2] }}", iterator: n, spec: {mode: parallel, max_in_flight: 2}}
  tool: {kind: playbook, path: t/child}
"""
CHILD = "- {step: only, tool: {kind: noop}}\n"
BIG = {"rows": ["x" * 1000] * 200, "n": 1}


class Store(WholeObjects, ResultStore):
    """Keeps bytes, and fails when told to. `reading` is what reading a part does."""

    name = "memory"

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.fault: Exception | None = None
        self.reads: list[str] = []
        self.reading: Callable[[str, int, int], Awaitable[bytes]] = self._read

    async def put(self, key: str, data: bytes) -> StoredObject:
        self.kept[key] = data
        return StoredObject(self.name, key, len(data))

    async def get(self, key: str) -> bytes:
        return self.kept[key]

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        return await self.reading(key, offset, length)

    async def delete(self, key: str) -> None:
        self.kept.pop(key, None)

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        for key in sorted(key for key in self.kept if key.startswith(prefix) and key > after):
            yield key

    async def _read(self, key: str, offset: int, length: int) -> bytes:
        self.reads.append(key)
        if self.fault is not None:
            raise self.fault
        return self.kept[key][offset : offset + length]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def engine(store: Store) -> Engine:
    engine = Engine(results=lambda: ResultStores(store))
    engine.catalog.add("t/t", CALL)
    engine.catalog.add("t/child", CHILD, "workload: {n: 0, kept: true}\n")
    return engine


async def reference(store: Store, id: str, payload: Any, **meta: Any) -> dict[str, Any]:
    put = await externalise(
        payload, Place(execution_id=id, step="call", suffix="x"), ResultStores(store), Output(inline_bytes=0)
    )
    put["ref"]["meta"].update(meta)
    ref: dict[str, Any] = put["ref"]
    return ref


def parked(command: Any, ref: dict[str, Any]) -> Any:
    return outcome(command, status="parked", child={"path": "t/child", "payload_ref": ref})


async def state(engine: Engine, id: str) -> Any:
    return (await engine.log.load([id]))[id].state


async def test_a_child_begins_with_a_payload_by_reference_and_the_log_stays_small(engine: Engine, store: Store) -> None:
    id = await engine.start()
    (call,) = await engine.claim()
    await engine.report(parked(call, await reference(store, id, {**BIG, "ctx": {"c": 1}})))
    (child,) = await engine.log.running_descendants(id)
    began = await state(engine, child)
    assert began.workload == {"n": 1, "kept": True, "rows": BIG["rows"]}
    assert began.ctx == {"c": 1}
    events = [*engine.memory.executions[id].events, *engine.memory.executions[child].events]
    assert max(len(orjson.dumps(event.payload)) for event in events) < 8192
    assert store.reads == [call_key(store)]


def call_key(store: Store) -> str:
    (key,) = store.kept
    return key


async def bad_reference(store: Store, id: str, how: str) -> dict[str, Any]:
    match how:
        case "missing":
            ref = await reference(store, id, BIG)
            store.kept.clear()
        case "another's":
            ref = await reference(store, "77", BIG)
        case "another's key":
            ref = {**await reference(store, id, BIG), "key": (await reference(store, "77", BIG))["key"]}
        case "says it is too large":
            ref = await reference(store, id, BIG, bytes=WORKLOAD_BYTES + 1)
        case "is too large":
            ref = await reference(store, id, {"x": "y" * WORKLOAD_BYTES}, bytes=10)
        case "in no store of this deployment":
            ref = {**await reference(store, id, BIG), "store": "s3"}
        case "says it weighs nothing":
            ref = await reference(store, id, BIG, bytes=0)
        case "says no size":
            ref = await reference(store, id, BIG, bytes=str(len(orjson.dumps(BIG))))
        case "says it is smaller":
            ref = await reference(store, id, BIG, bytes=len(orjson.dumps(BIG)) - 1)
        case "says it is larger":
            ref = await reference(store, id, BIG, bytes=len(orjson.dumps(BIG)) + 1)
        case "no JSON":
            put = await store.put(f"{id}/x", b"[1, 2")
            meta = {"bytes": put.bytes, "sha256": hashlib.sha256(b"[1, 2").hexdigest()}
            ref = {**await reference(store, id, BIG, **meta), "key": put.key}
        case "no object":
            ref = await reference(store, id, ["x"] * 10)
        case "other bytes":
            ref = await reference(store, id, BIG, sha256="0" * 64)
        case "no digest":
            ref = await reference(store, id, BIG, sha256="")
        case "ctx":
            ref = await reference(store, id, {**BIG, "ctx": [1]})
        case _:
            ref = {"kind": "nothing"}
    return ref


BAD = {
    "missing": "not in the result store",
    "another's": "belongs to another execution",
    "another's key": "belongs to another execution",
    "says it is too large": f"the limit is {WORKLOAD_BYTES}",
    "is too large": "does not match its reference",
    "in no store of this deployment": "in the result store 's3', which this deployment does not have",
    "says it weighs nothing": "needs `store`, `key`, `meta.sha256` and `meta.bytes`",
    "says no size": "is not a valid reference",
    "says it is smaller": "does not match its reference",
    "says it is larger": "does not match its reference",
    "no JSON": "the payload cannot be stored",
    "no object": "must be an object",
    "other bytes": "does not match its reference",
    "no digest": "needs `store`, `key`, `meta.sha256` and `meta.bytes`",
    "ctx": "payload.ctx must be an object",
    "no reference": "is not a valid reference",
}


@pytest.mark.parametrize("how", BAD)
async def test_a_reference_that_gives_no_payload_is_an_error_of_the_step(
    engine: Engine, store: Store, how: str
) -> None:
    id = await engine.start()
    (call,) = await engine.claim()
    answer = await engine.report(parked(call, await bad_reference(store, id, how)))
    assert [result.status for result in answer.results] == ["accepted"]
    ended = await state(engine, id)
    assert ended.status == "failed"
    assert ended.error["code"] == "child.invalid"
    assert BAD[how] in ended.error["message"]
    assert await engine.log.running_descendants(id) == []


async def test_a_bad_reference_fails_its_item_of_a_loop_alone(engine: Engine, store: Store) -> None:
    engine.catalog.add("t/t", LOOP)
    id = await engine.start()
    first, second = await engine.claim()
    good, bad = await reference(store, id, BIG), await bad_reference(store, id, "another's")
    await engine.report(parked(first, good), parked(second, bad))
    assert len(await engine.log.running_descendants(id)) == 1
    committed = [event.payload for event in engine.memory.executions[id].events if event.type == "frame.committed"]
    assert [(frame["failed"], frame["error"]["code"]) for frame in committed] == [(1, "child.invalid")]


@pytest.mark.parametrize("fault", [OSError("no mount"), Unavailable("slow"), TimeoutError(), RuntimeError("?")])
async def test_a_store_that_is_away_is_no_failure(engine: Engine, store: Store, fault: Exception) -> None:
    id, other = await engine.start(), await engine.start()
    calls = {command.execution_id: command for command in await engine.claim()}
    outcomes = [
        parked(calls[other], await reference(store, other, {"n": 2})),
        parked(calls[id], await reference(store, id, BIG)),
    ]
    store.fault = fault
    before = engine.types(id), engine.types(other)
    with pytest.raises(Unavailable, match="does not answer"):
        await engine.report(*outcomes)
    assert (engine.types(id), engine.types(other)) == before
    store.fault = None
    answer = await engine.report(*outcomes)
    assert [result.status for result in answer.results] == ["accepted"] * 2
    assert len(await engine.log.running_descendants(id)) == 1


async def test_a_store_that_hangs_is_away(engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT_SECONDS", 0.0)
    id = await engine.start()
    (call,) = await engine.claim()

    async def hang(key: str, offset: int, length: int) -> bytes:
        await asyncio.sleep(60)
        return b""

    store.reading = hang
    with pytest.raises(Unavailable):
        await engine.report(parked(call, await reference(store, id, BIG)))


async def in_the_inbox(engine: Engine, *outcomes: Any) -> None:
    """As after a retry out of quarantine."""
    for each in outcomes:
        command = (await state(engine, each.execution_id)).commands[each.command_id]
        fact = fact_of(each, command, int(engine.seconds * 1000), "w-1")
        assert await engine.log.append_to_inbox(
            [ReportedFact(execution_id=each.execution_id, event=fact, fence=each.fence, worker="w-1", refs=[])]
        )


async def test_what_a_release_before_could_not_open_is_not_left_in_the_inbox(engine: Engine, store: Store) -> None:
    id, other = await engine.start(), await engine.start()
    calls = {command.execution_id: command for command in await engine.claim()}
    outcomes = [parked(calls[id], await reference(store, id, BIG)), outcome(calls[other], 1)]
    commit = engine.memory.committing

    async def lose(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        return CommitResult(frozenset(), [], [], [])

    engine.memory.committing = lose
    with pytest.raises(Busy):
        await engine.report(*outcomes)
    engine.memory.committing = commit
    assert [not (await engine.log.read_inbox(each)).facts for each in (id, other)] == [True, False]
    answer = await engine.report(*outcomes)
    assert [result.status for result in answer.results] == ["accepted", "stale"]
    assert len(await engine.log.running_descendants(id)) == 1


async def test_a_race_that_is_lost_often_is_won_in_the_end(engine: Engine, store: Store) -> None:
    id = await engine.start()
    (call,) = await engine.claim()
    commit, lost = engine.memory.committing, 0

    async def busy(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        nonlocal lost
        lost += 1
        return CommitResult(frozenset(), [], [], []) if lost < 6 else await commit(parts, claimant)

    engine.memory.committing = busy
    answer = await engine.report(parked(call, await reference(store, id, BIG)))
    assert [result.status for result in answer.results] == ["accepted"]
    assert len(store.reads) == 1


async def test_what_waits_in_the_inbox_is_opened_by_whoever_comes_next(engine: Engine, store: Store) -> None:
    id = await engine.start()
    (call,) = await engine.claim()
    await in_the_inbox(engine, parked(call, await reference(store, id, BIG)))
    store.fault = OSError("away")
    other = engine.another()
    with pytest.raises(Unavailable):
        await other.process_inbox(id)
    store.fault = None
    assert await other.process_inbox(id)
    (child,) = await engine.log.running_descendants(id)
    assert (await state(engine, child)).workload["rows"] == BIG["rows"]


async def test_a_payload_that_is_gone_when_the_inbox_is_taken_in_is_an_error_of_the_step(
    engine: Engine, store: Store
) -> None:
    id = await engine.start()
    (call,) = await engine.claim()
    await in_the_inbox(engine, parked(call, await reference(store, id, BIG)))
    store.kept.clear()
    assert await engine.another().process_inbox(id)
    assert (await state(engine, id)).error["code"] == "child.invalid"


@pytest.mark.parametrize("inbox", [False, True])
async def test_one_commit_has_no_more_payloads_than_there_is_room_for(
    engine: Engine, store: Store, inbox: bool
) -> None:
    engine.catalog.add("t/t", LOOP.replace("[1, 2]", "range(8) | list").replace("max_in_flight: 2", "max_in_flight: 8"))
    id = await engine.start()
    outcomes = [
        parked(command, await reference(store, id, {"x": "y" * (2 * MIB), "n": number}))
        for number, command in enumerate(await engine.claim())
    ]
    sizes: list[int] = []
    commit = engine.memory.committing

    async def weigh(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        sizes.append(sum(len(orjson.dumps(part.new_row["workload"])) for part in parts if part.new_row is not None))
        return await commit(parts, claimant)

    if inbox:
        await in_the_inbox(engine, *outcomes)
        store.reads.clear()
    engine.memory.committing = weigh
    if inbox:
        assert await engine.another().process_inbox(id)
    else:
        await engine.report(*outcomes)
    assert len(await engine.log.running_descendants(id)) == len(outcomes) == 8
    assert max(sizes) <= PAYLOADS_BYTES + INLINE_BYTES
    assert len(store.reads) == 8


@pytest.mark.parametrize(("facts", "bytes"), [(1000, 2500), (3, 10**6), (1000, 1)])
async def test_one_commit_takes_in_no_more_of_the_inbox_than_there_is_room_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, facts: int, bytes: int
) -> None:
    engine.catalog.add("t/t", LOOP.replace("[1, 2]", "range(9) | list").replace("max_in_flight: 2", "max_in_flight: 8"))
    id = await engine.start()
    commands = await engine.claim()
    held = {"ok": 1, "failed": 0, "item_ms": 1}
    outcomes = [
        outcome(command, ["x" * 1000], frame={"start": frame_of(command).start, "end": frame_of(command).end, **held})
        for command in commands
    ]
    await in_the_inbox(engine, *outcomes)
    monkeypatch.setattr(limits, "INBOX_FACTS", facts)
    monkeypatch.setattr(limits, "INBOX_BYTES", bytes)
    taken: list[int] = []
    commit = engine.memory.committing

    async def count(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        taken.append(sum(len(part.consumed) for part in parts))
        return await commit(parts, claimant)

    engine.memory.committing = count
    late = Event(e.TIMER_FIRED, int(engine.seconds * 1000), step="each", generation=1, payload={"timer": "none"})
    assert await engine.another()._commits.commit_fact(id, late)
    assert sum(taken) == 8
    assert max(taken) == {2500: 3, 10**6: 3, 1: 1}[bytes]
    log = [event for event in await engine.log.events(id) if event.type in (e.FRAME_COMMITTED, e.TIMER_FIRED)]
    assert [event.command_id for event in log] == [*(item.command_id for item in outcomes), None], (
        "it comes behind them"
    )


def test_a_release_that_knows_no_references_does_not_open_the_child() -> None:
    plan = load_plan("apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: t, path: t}\nworkflow:\n" + CHILD)
    with pytest.raises(InvalidRequest):
        initial_values(plan, PAYLOAD_PLACEHOLDER)


async def test_either_inline_or_by_reference(engine: Engine, store: Store) -> None:
    id = await engine.start()
    (call,) = await engine.claim()
    both = {"path": "t/child", "payload": {"n": 1}, "payload_ref": await reference(store, id, BIG)}
    answer = await engine.report(outcome(call, status="parked", child=both))
    assert answer.results[0].status == "refused"


@pytest.mark.parametrize(
    "fault", [KeyError("k"), ValueError("a NUL in a path"), UnicodeEncodeError("utf-8", "x", 0, 1, "?")]
)
async def test_a_key_that_nothing_can_have_is_an_error_of_the_step(
    engine: Engine, store: Store, fault: Exception
) -> None:
    id = await engine.start()
    (call,) = await engine.claim()
    ref = await reference(store, id, BIG)
    store.fault = fault
    with suppress(Unavailable):
        await engine.report(parked(call, ref))
    ended = await state(engine, id)
    assert (ended.status, (ended.error or {}).get("code")) == ("failed", "child.invalid")


async def test_what_cannot_be_read_for_long_is_not_waited_for_any_more(engine: Engine, store: Store) -> None:
    id = await engine.start()
    (call,) = await engine.claim()
    await in_the_inbox(engine, parked(call, await reference(store, id, BIG)))
    store.fault = PermissionError("this key is not for you")
    engine.seconds += MAX_WAIT_MS / 1000
    with pytest.raises(ResultStoreUnavailable):
        await engine.another().process_inbox(id)
    assert (await state(engine, id)).status == "running"
    engine.seconds += 1
    with suppress(Unavailable):
        await engine.another().process_inbox(id)
    ended = await state(engine, id)
    assert (ended.status, (ended.error or {}).get("code")) == ("failed", "child.invalid")
    assert "does not answer" in ended.error["message"]


@pytest.mark.parametrize("races", [0, 2])
async def test_a_payload_that_cannot_be_read_is_withheld_alone(engine: Engine, store: Store, races: int) -> None:
    engine.catalog.add("t/only", CHILD)
    bad, good, plain = await engine.start(), await engine.start(), await engine.start("t/only")
    calls = {command.execution_id: command for command in await engine.claim()}
    outcomes = [
        parked(calls[bad], await reference(store, bad, BIG)),
        parked(calls[good], await reference(store, good, BIG)),
        outcome(calls[plain], 1),
    ]
    read, commit, lost = store.reading, engine.memory.committing, 0

    async def refuse(key: str, offset: int, length: int) -> bytes:
        if key.startswith(bad):
            raise PermissionError("not for you")
        return await read(key, offset, length)

    async def lose(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        nonlocal lost
        lost += 1
        return CommitResult(frozenset(), [], [], []) if lost <= races else await commit(parts, claimant)

    store.reading = refuse
    engine.memory.committing = lose
    with pytest.raises(ResultStoreUnavailable):
        await engine.report(*outcomes, capacity=1)
    assert [len(await engine.log.running_descendants(id)) for id in (bad, good)] == [0, 1]
    assert (engine.status(bad), engine.status(plain)) == ("RUNNING", "COMPLETED")
    assert len(await engine.claim(worker="w-2")) == 1, "what the error did not bring is there for others"
    store.reading = read
    answer = await engine.report(*outcomes)
    assert [result.status for result in answer.results] == ["accepted", "stale", "stale"]
    assert len(await engine.log.running_descendants(bad)) == 1


async def test_a_store_that_hangs_is_waited_for_once(
    engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT_SECONDS", 0.0)
    ids = [await engine.start() for _ in range(3)]
    outcomes = [
        parked(call, await reference(store, call.execution_id, {**BIG, "n": n}))
        for n, call in enumerate(await engine.claim())
    ]
    fetched = []

    async def hang(key: str, offset: int, length: int) -> bytes:
        fetched.append(key)
        await asyncio.sleep(60)
        return b""

    store.reading = hang
    with pytest.raises(Unavailable):
        await engine.report(*outcomes)
    assert len(fetched) == 1, "each of many would wait for it"
    assert {engine.status(id) for id in ids} == {"RUNNING"}


async def test_a_payload_that_is_at_hand_is_taken_by_no_other_weight(engine: Engine, store: Store) -> None:
    engine.catalog.add("t/t", LOOP)
    id = await engine.start()
    first, second = await engine.claim()
    await engine.report(parked(first, await reference(store, id, BIG)))
    await engine.report(parked(second, await reference(store, id, BIG, bytes=1)))
    assert len(await engine.log.running_descendants(id)) == 1


async def test_without_a_result_store_nothing_is_by_reference() -> None:
    ref = {"store": "s3", "key": "7/call/0", "meta": {"sha256": "0" * 64, "bytes": 3}}
    with pytest.raises(InvalidRequest, match="no result store is configured"):
        await module.Payloads(None).load_value(ref)


async def test_what_was_read_last_is_kept_longest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAYLOADS_BYTES", 10)
    content = b'"123"'
    digest = hashlib.sha256(content).hexdigest()
    refs: dict[str, dict[str, Any]] = {}
    for name in ("a", "b", "c"):
        stored = await store.put(f"7/{name}", content)
        refs[name] = {"store": stored.store, "key": stored.key, "meta": {"sha256": digest, "bytes": stored.bytes}}
    payloads = module.Payloads(lambda: ResultStores(store))
    for name in ("a", "b", "a", "c", "a"):
        assert await payloads.load_value(refs[name]) == "123"
    assert store.reads == ["7/a", "7/b", "7/c"], "of two that there is room for, the one used last goes last"


async def test_what_is_reported_with_an_unreadable_payload_is_left_in_the_inbox_without_it(
    engine: Engine, store: Store
) -> None:
    engine.catalog.add("t/t", CALLS)
    id = await engine.start()
    (split,) = await engine.claim()
    call, beside = (await engine.report(outcome(split), capacity=10)).commands

    lost = 0

    async def lose(parts: Sequence[ExecutionCommit], claimant: Claimant | None = None) -> CommitResult:
        nonlocal lost
        lost += 1
        if lost == MAX_ATTEMPTS_WITH_REFERENCES:
            # by the time that it is left in the inbox, the payload is not at hand any more
            engine.orchestrator._commits._payloads._cached.clear()
            store.fault = PermissionError("not for you")
        return CommitResult(frozenset(), [], [], [])

    commit, engine.memory.committing = engine.memory.committing, lose
    with pytest.raises(ResultStoreUnavailable):
        await engine.report(parked(call, await reference(store, id, BIG)), outcome(beside, 1))
    facts = [fact.command_id for _, fact in (await engine.log.read_inbox(id)).facts]
    assert facts == [beside.command_id], "one that cannot be read holds up the others"
    engine.memory.committing = commit


@pytest.mark.parametrize(
    ("size", "counted"), [(5, 5), (WORKLOAD_BYTES, WORKLOAD_BYTES), (WORKLOAD_BYTES + 1, 0), (0, 0), (-5, 0), ("5", 0)]
)
def test_a_payload_counts_as_many_bytes_as_would_be_read(size: Any, counted: int) -> None:
    assert module.payload_bytes({"meta": {"bytes": size}}) == counted
    assert module.payload_bytes({"meta": None}) == module.payload_bytes({}) == module.payload_bytes(None) == 0
