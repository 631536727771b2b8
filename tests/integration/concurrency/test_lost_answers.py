"""A connection that is cut after its COMMIT was sent: the caller asks again, and what was done is done once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.integration.concurrency.cut import CutWire
from tests.integration.concurrency.harness import Harness, Plane, done

from noetl_serverless.engine import events as e
from noetl_serverless.errors import Unavailable
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.protocol import Held
from noetl_serverless.store.catalog import NewResource, PostgresCatalog
from noetl_serverless.store.schedules import Schedules

FORK = """
workflow:
  - step: a
    tool: {kind: noop}
    next: {spec: {mode: inclusive}, arcs: [{step: b}, {step: c}, {step: d}]}
  - {step: b, tool: {kind: noop}, next: {arcs: [{step: end}]}}
  - {step: c, tool: {kind: noop}, next: {arcs: [{step: end}]}}
  - {step: d, tool: {kind: noop}, next: {arcs: [{step: end}]}}
  - {step: end, tool: {kind: noop}}
"""
PARENT = """
workflow:
  - {step: below, tool: {kind: playbook, path: t/fork}}
"""


@pytest.fixture
async def wire(route: str) -> AsyncIterator[CutWire]:
    parts = urlsplit(route)
    wire = CutWire(parts.hostname or "", parts.port or 0)
    await wire.open()
    yield wire
    await wire.close()


@pytest.fixture
async def plane(harness: Harness, route: str, wire: CutWire) -> AsyncIterator[Plane]:
    """A control plane behind the wire; the playbooks are there."""
    await harness.add("t/fork", FORK)
    await harness.add("t/parent", PARENT)
    plane = Plane(route.replace(f":{urlsplit(route).port}/", f":{wire.port}/"), harness.bus)
    yield plane
    await plane.database.close()


async def lose(plane: Plane, wire: CutWire, ask: Callable[[], Awaitable[Any]]) -> None:
    """The answer to what is asked gets lost; the statements before it are answered."""
    before = wire.cuts
    with pytest.raises(Unavailable):
        await ask()
    assert wire.cuts == before + 1, "nothing was cut"


def before_commit(plane: Plane, wire: CutWire, nth: int = 1) -> None:
    """The answer to its nth commit gets lost."""

    async def whole() -> None:
        return None

    async def cut() -> None:
        wire.cut()

    plane.log.first = [*([whole] * (nth - 1)), cut]


async def test_a_start_whose_answer_is_lost_is_one_start_with_a_key(
    harness: Harness, plane: Plane, wire: CutWire
) -> None:
    async def start() -> Any:
        return await plane.orchestrator.start(path="t/fork", payload={"n": 1}, idempotency_key="k")

    before_commit(plane, wire)
    await lose(plane, wire, start)
    again = await start()
    assert again.replayed
    assert len(await harness.events(again.execution_id, e.STARTED)) == 1
    assert harness.findings() == []


async def test_a_restart_whose_answer_is_lost_is_one_restart_with_a_key(
    harness: Harness, plane: Plane, wire: CutWire
) -> None:
    """As one whose process dies before it can answer."""
    old = await harness.start("t/fork")
    (command,) = await plane.claim()
    boom = {"kind": "tool", "code": "boom", "message": "it broke", "retryable": False}
    await plane.report(done(command, status="error", error=boom))
    log = await harness.events(old)

    async def restart() -> Any:
        return await plane.orchestrator.restart(old, log, {}, idempotency_key="k")

    before_commit(plane, wire)
    await lose(plane, wire, restart)
    again = await restart()
    assert again.replayed
    assert await plane.log.is_descendant(old, again.execution_id)
    assert len(await harness.events(again.execution_id, e.RESTARTED)) == 1
    assert [found.command_id for found in await plane.claim()] == ["a#1"]
    assert harness.findings() == []


async def test_a_report_whose_answer_is_lost_counts_once_and_what_it_brought_is_found(
    harness: Harness, plane: Plane, wire: CutWire
) -> None:
    id = await harness.start("t/fork")
    (command,) = await plane.claim()
    before_commit(plane, wire)
    await lose(plane, wire, lambda: plane.report(done(command), capacity=3))

    again = await plane.report(done(command), capacity=3)

    assert [result.status for result in again.results] == ["stale"]
    assert again.commands == []
    recovered = await plane.claim(recover=True)
    assert [found.command_id for found in recovered] == ["b#1", "c#1", "d#1"]
    for found in recovered:
        assert await plane.tell(found) == "accepted"
    assert len(await harness.events(id, e.CALL_DONE)) == 4
    assert harness.findings() == []


async def test_a_fact_left_in_the_inbox_is_there_once_though_its_answer_is_lost(
    harness: Harness, plane: Plane, wire: CutWire
) -> None:
    id = await harness.start("t/fork")
    (command,) = await plane.claim()
    await plane.tell(command)
    b, c, d = await plane.claim()

    async def overtake() -> None:
        assert await harness.planes[1].tell(others.pop()) == "accepted"

    others = [c, d]
    plane.log.first = [overtake, overtake]
    plane.log.handing_in = wire.cut
    await lose(plane, wire, lambda: plane.tell(b))
    plane.log.handing_in = lambda: None

    assert await plane.tell(b) == "stale"
    await harness.reconcilers[0].reconcile()
    closed = [event.command_id or "" for event in await harness.events(id, e.CALL_DONE)]
    assert sorted(closed) == ["a#1", "b#1", "c#1", "d#1"]
    assert [event.command_id for event in await harness.events(id, e.ISSUED)].count("end#1") == 1
    assert harness.findings() == []


async def test_a_claim_whose_answer_is_lost_is_given_again_to_the_same_worker(
    harness: Harness, plane: Plane, wire: CutWire
) -> None:
    id = await harness.start("t/fork")
    await plane.claim(worker="somebody")  # the pool's first connection, and the playbook
    await harness.start("t/fork")

    async def claim() -> Any:
        wire.cut()
        return await plane.claim()

    await lose(plane, wire, claim)
    assert await plane.claim() == []
    (found,) = await plane.claim(recover=True)
    assert found.execution_id != id
    assert found.delivery == 1
    assert await plane.tell(found) == "accepted"


async def test_a_release_whose_answer_is_lost_gives_back_one_delivery(
    harness: Harness, plane: Plane, wire: CutWire
) -> None:
    await harness.start("t/fork")
    (command,) = await plane.claim()
    held = [Held(execution_id=command.execution_id, command_id=command.command_id, fence=command.fence)]

    async def release() -> Any:
        wire.cut()
        return await plane.log.release_leases("w", held)

    await lose(plane, wire, release)
    assert await plane.log.release_leases("w", held) == []
    (again,) = await plane.claim()
    assert again.delivery == 1


async def test_a_child_is_started_once_and_its_end_reported_once_though_both_answers_are_lost(
    harness: Harness, plane: Plane, wire: CutWire
) -> None:
    id = await harness.start("t/parent")
    (command,) = await plane.claim()
    parked = done(command, None, status="parked", child={"path": "t/fork"})
    before_commit(plane, wire)
    await lose(plane, wire, lambda: plane.report(parked))
    (child,) = await harness.planes[1].log.running_descendants(id)

    before_commit(plane, wire)
    await lose(plane, wire, lambda: plane.orchestrator.controls.cancel(child, "enough"))
    assert await plane.orchestrator.controls.cancel(child, "enough") == ("already_completed", [])
    await harness.reconcilers[0].reconcile()

    assert len(await harness.events(id, e.CHILD_STARTED)) == 1
    assert len(await harness.events(id, e.CHILD_ENDED)) == 1
    assert harness.findings() == []


async def test_a_version_whose_registration_is_not_answered_is_registered_once(
    harness: Harness, plane: Plane, wire: CutWire
) -> None:
    content = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: n, path: t/new}\n" + FORK
    document = NewResource(
        path="t/new", kind="Playbook", content=content, hash=load_plan(content).hash, meta={}, payload={}
    )
    database = plane.database
    whole = database.transaction

    async def cut_at_the_end(work: Any) -> Any:
        def then_cut(connection: Any) -> Any:
            result = work(connection)
            # its COMMIT is what comes next
            wire.cut()
            return result

        return await whole(then_cut)

    database.transaction = cut_at_the_end  # type: ignore[method-assign]
    await lose(plane, wire, lambda: PostgresCatalog(database).register(document))
    database.transaction = whole  # type: ignore[method-assign]
    entry, new = await PostgresCatalog(database).register(document)
    assert (entry.version, new) == (1, False)


async def test_a_due_run_of_a_schedule_starts_once_though_answers_are_lost(
    harness: Harness, plane: Plane, wire: CutWire
) -> None:
    now = datetime.now(UTC)
    schedules = Schedules(harness.planes[1].database)
    made = await schedules.create(now - timedelta(seconds=70), playbook_path="t/fork", interval_seconds=60)
    reconciler = plane.reconciler()
    before_commit(plane, wire)
    await reconciler.reconcile()
    assert wire.cuts == 1, "nothing was cut"
    for each in harness.reconcilers:
        await each.reconcile()
    # its lease has run out, and another takes it up
    await harness.planes[1].database.run("UPDATE noetl.schedule_fire SET lease_until = now() WHERE status = 'open'")
    for each in harness.reconcilers:
        await each.reconcile()

    runs = await schedules.runs(made.schedule_id)
    assert [run["status"] for run in runs] == ["started"]
    started = await harness.planes[1].database.run("SELECT execution_id::text FROM noetl.execution")
    assert started == [[str(runs[0]["execution_id"])]]
    assert harness.findings() == []
