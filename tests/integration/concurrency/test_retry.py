"""An execution that leaves quarantine while its child ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.integration.concurrency.harness import Harness, done
from tests.integration.concurrency.sessions import Sessions

from noetl_serverless.engine import decide
from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.errors import Conflict, NotFound, Unavailable
from noetl_serverless.orchestrator.transition import Transition
from noetl_serverless.store.event_store import _params
from noetl_serverless.store.queries import load

PARENT = """
workflow:
  - {step: split, tool: {kind: noop}, next: {spec: {mode: inclusive}, arcs: [{step: call}, {step: b}]}}
  - {step: call, tool: {kind: playbook, path: t/child}}
  - {step: b, tool: {kind: noop}}
"""
CHILD = "workflow: [{step: only, tool: {kind: noop}}]\n"


async def apart_from_its_child(direct: Harness) -> tuple[str, str]:
    """A parent in quarantine, and the child that it waits for."""
    await direct.add("t/parent", PARENT)
    await direct.add("t/child", CHILD)
    id = await direct.start("t/parent")
    plane = direct.planes[0]
    (split,) = await plane.claim()
    both = {command.step: command for command in (await plane.report(done(split), capacity=2)).commands}
    await plane.report(done(both["call"], None, status="parked", child={"path": "t/child"}))

    def broken(decider: decide.Decider) -> None:
        raise RuntimeError("no idea what follows")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(decide.DECIDE, e.CALL_DONE, broken)
        await plane.report(done(both["b"]))
    (child,) = await plane.log.running_descendants(id)
    return id, child


async def test_the_end_of_a_child_that_is_being_written_meanwhile_is_not_lost(
    direct: Harness, sessions: Sessions
) -> None:
    id, child = await apart_from_its_child(direct)
    plane, other, _ = direct.planes
    ending = Transition((await other.log.load([child]))[child], None)
    ending.apply(Event(e.CANCELLED, 1_800_000_000_000, payload={"reason": "enough"}))
    part = ending.to_commit()
    session = sessions.begin()
    # it finds that its parent does not run, and tells it nothing
    session.run(load("event_store")["commit"], **_params([part], other.log._project([part])))
    retrying = await sessions.until_waiting(plane.orchestrator.retry_quarantined(id))
    session.run("COMMIT")
    await retrying

    child_ends = await direct.events(id, e.CHILD_ENDED)
    assert [event.payload["execution_id"] for event in child_ends] == [child]


async def test_a_child_that_ends_while_its_parent_leaves_quarantine_notifies_it(
    direct: Harness, sessions: Sessions
) -> None:
    id, child = await apart_from_its_child(direct)
    session = sessions.begin()
    # the retry has got as far as the child
    session.run("SELECT 1 FROM noetl.execution WHERE execution_id = :id FOR SHARE", id=int(child))
    ending = await sessions.until_waiting(direct.planes[1].orchestrator.controls.cancel(child, "enough"))
    await direct.planes[0].orchestrator.retry_quarantined(id)
    session.run("COMMIT")
    await ending

    child_ends = await direct.events(id, e.CHILD_ENDED)
    assert [event.payload["execution_id"] for event in child_ends] == [child]


async def test_what_is_dropped_while_it_leaves_quarantine_loses_nothing(direct: Harness, sessions: Sessions) -> None:
    id, child = await apart_from_its_child(direct)
    session = sessions.begin()
    # the retry has read what is kept, and waits for the child
    session.run("SELECT 1 FROM noetl.execution WHERE execution_id = :id FOR UPDATE", id=int(child))
    retrying = await sessions.until_waiting(direct.planes[0].orchestrator.retry_quarantined(id))
    dropping = await sessions.until_waiting(direct.planes[1].orchestrator.drop_quarantined(id), waiters=2)
    session.run("COMMIT")
    await retrying
    await asyncio.wait([dropping])

    assert "b#1" in [event.command_id for event in await direct.events(id, e.CALL_DONE)]
    assert isinstance(dropping.exception(), NotFound), "it had left"
    assert await direct.planes[0].log.running_descendants(id) == [child]
    assert direct.findings() == []


async def test_what_is_to_leave_quarantine_while_it_is_dropped_stays_as_it_ended(
    direct: Harness, sessions: Sessions
) -> None:
    id, _ = await apart_from_its_child(direct)
    session = sessions.begin()
    _drop(session, id)
    retrying = await sessions.until_waiting(direct.planes[0].orchestrator.retry_quarantined(id))
    session.run("COMMIT")
    await asyncio.wait([retrying])

    assert isinstance(retrying.exception(), Conflict)
    assert await direct.events(id, e.RETRIED) == []
    assert (await direct.planes[1].orchestrator.state(id)).status == "failed"


async def test_what_is_cancelled_while_it_is_dropped_stays_as_it_ended(direct: Harness, sessions: Sessions) -> None:
    id, _ = await apart_from_its_child(direct)
    session = sessions.begin()
    _drop(session, id)
    cancelling = await sessions.until_waiting(
        direct.planes[0].orchestrator.controls.cancel(id, "enough", cascade=False)
    )
    session.run("COMMIT")

    assert await cancelling == ("already_completed", [])
    assert (await direct.planes[1].orchestrator.state(id)).status == "failed"


async def test_the_children_of_what_is_dropped_end_though_who_drops_it_does_not_come_to_it(
    direct: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, child = await apart_from_its_child(direct)
    plane, other, _ = direct.planes

    async def away(*_: object) -> None:
        raise Unavailable("the database went away")

    monkeypatch.setattr(plane.orchestrator._commits, "process_inbox", away)
    await plane.orchestrator.drop_quarantined(id)
    await direct.reconcilers[0].reconcile()

    assert (await other.orchestrator.state(child)).status == "cancelled", "nobody will ever end it: its parent is gone"


def _drop(session: Any, id: str) -> None:
    """As far as whoever drops it has got before the commit."""
    session.run("SELECT 1 FROM noetl.execution WHERE execution_id = :id FOR UPDATE", id=int(id))
    session.run("DELETE FROM noetl.quarantine WHERE execution_id = :id", id=int(id))
