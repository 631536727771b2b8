"""A fence that is no longer the current one changes nothing, whatever stands beside it in the same call."""

from __future__ import annotations

import time

import pytest
from tests.integration.concurrency.harness import Harness, done
from tests.integration.concurrency.sessions import Sessions

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.protocol import ClaimedCommand
from noetl_serverless.records import ReportedFact

PAY = """
workflow:
  - step: order
    tool: {kind: noop}
    next: {spec: {mode: inclusive}, arcs: [{step: charge}, {step: other}, {step: third}]}
  - {step: charge, tool: {kind: noop}, next: {arcs: [{step: pay}]}}
  - {step: other, tool: {kind: noop}}
  - {step: third, tool: {kind: noop}}
  - {step: pay, tool: {kind: noop}}
"""
REF = {"step": "charge", "store": "memory", "bytes": 1, "sha256": "0" * 64, "content_type": "a/b", "scope": "execution"}


async def charged_twice(
    harness: Harness, sessions: Sessions
) -> tuple[str, ClaimedCommand, ClaimedCommand, list[ClaimedCommand]]:
    """The same worker has `charge` under a fence of before its lease ran out, and under the current one."""
    await harness.add("t/pay", PAY)
    id = await harness.start("t/pay")
    plane = harness.planes[0]
    (order,) = await plane.claim()
    assert await plane.tell(order) == "accepted"
    first = {command.step: command for command in await plane.claim()}
    sessions.ask(
        "UPDATE noetl.command SET lease_until = now() - interval '1 s' WHERE command_id = 'charge#1' RETURNING 1"
    )
    await harness.reconcilers[0].reconcile()
    (second,) = await plane.claim()
    assert second.fence > first["charge"].fence
    return id, first["charge"], second, [first["other"], first["third"]]


def fact(command: ClaimedCommand, data: int) -> ReportedFact:
    at = time.time_ns() // 1_000_000
    event = Event(
        e.CALL_DONE,
        at,
        step=command.step,
        generation=command.generation,
        command_id=command.command_id,
        payload={"data": data},
    )
    ref = {**REF, "ref": f"noetl://{data}", "key": f"k{data}"}
    return ReportedFact(execution_id=command.execution_id, event=event, fence=command.fence, worker="w", refs=[ref])


@pytest.mark.parametrize("stale_first", [True, False])
async def test_of_two_facts_of_one_command_the_one_with_the_current_fence_is_appended(
    direct: Harness, sessions: Sessions, stale_first: bool
) -> None:
    id, stale, current, _ = await charged_twice(direct, sessions)
    facts = [fact(stale, 1), fact(current, 2)]

    accepted = await direct.planes[0].log.append_to_inbox(facts if stale_first else facts[::-1])

    assert accepted == {(id, "charge#1", current.fence)}
    inbox = await direct.planes[0].log.read_inbox(id)
    assert [event.payload["data"] for _, event in inbox.facts] == [2], "the stale fact came in beside the current one"
    assert sessions.ask("SELECT key FROM noetl.result_ref") == [["k2"]], "the stale fact's result was registered"


async def test_the_same_fact_twice_in_one_append_is_appended_once(direct: Harness, sessions: Sessions) -> None:
    id, _, current, _ = await charged_twice(direct, sessions)
    accepted = await direct.planes[0].log.append_to_inbox([fact(current, 2), fact(current, 2)])
    assert accepted == {(id, "charge#1", current.fence)}
    assert len((await direct.planes[0].log.read_inbox(id)).facts) == 1


@pytest.mark.parametrize("stale_first", [True, False])
async def test_a_step_that_a_batch_reports_under_two_fences_leads_on_once(
    direct: Harness, sessions: Sessions, stale_first: bool
) -> None:
    id, stale, current, others = await charged_twice(direct, sessions)
    slow, quick, _ = direct.planes

    async def overtake() -> None:
        assert await quick.tell(others.pop()) == "accepted"

    slow.log.first = [overtake, overtake]
    outcomes = [done(stale, "stale"), done(current, "current")]
    await slow.report(*(outcomes if stale_first else outcomes[::-1]))
    await slow.orchestrator.process_inbox(id)

    closed = [event.payload["data"] for event in await direct.events(id, e.CALL_DONE) if event.command_id == "charge#1"]
    assert closed == ["current"]
    issued = [event.command_id for event in await direct.events(id, e.ISSUED) if event.step == "pay"]
    assert issued == ["pay#1"], "the step was decided twice"
    assert direct.findings() == []


async def test_a_stale_fence_refuses_itself_alone(direct: Harness, sessions: Sessions) -> None:
    id, stale, _, others = await charged_twice(direct, sessions)
    answer = await direct.planes[0].report(done(stale), *(done(other) for other in others))
    statuses = {result.command_id: result.status for result in answer.results}
    assert statuses == {"charge#1": "stale", "other#1": "accepted", "third#1": "accepted"}
    assert [event for event in await direct.events(id, e.CALL_DONE) if event.command_id == "charge#1"] == []


PROLONG = "UPDATE noetl.command SET lease_until = now() + interval '1 min' WHERE command_id = 'charge#1'"
EXPIRE = """
    UPDATE noetl.command SET status = 'pending', worker = NULL, lease_until = NULL WHERE command_id = 'charge#1'"""


@pytest.mark.parametrize("by", ["report", "append"])
@pytest.mark.parametrize(("change", "status"), [(PROLONG, "accepted"), (EXPIRE, "stale")], ids=["prolonged", "expired"])
async def test_who_waits_for_a_command_goes_by_what_stands_there_then(
    direct: Harness, sessions: Sessions, change: str, status: str, by: str
) -> None:
    id, _, charge, _ = await charged_twice(direct, sessions)
    other = sessions.begin()
    other.run(change)
    plane = direct.planes[0]
    work = plane.report(done(charge)) if by == "report" else plane.log.append_to_inbox([fact(charge, 1)])

    waiting = await sessions.until_waiting(work)

    assert not waiting.done(), "the schedule means nothing if it did not wait"
    other.run("COMMIT")
    answer = await waiting
    if by == "report":
        assert [result.status for result in answer.results] == [status]
    else:
        assert len(answer) == (status == "accepted")
    rows = sessions.ask("SELECT count(*) FROM noetl.command WHERE command_id = 'charge#1'")
    assert rows[0][0] == (status == "stale"), "a command is closed if and only if its report was taken"
    assert len(await direct.events(id, e.CALL_DONE)) == 1 + (status == "accepted" and by == "report")


async def test_a_later_lease_has_the_greater_fence_whichever_session_gave_it(
    direct: Harness, sessions: Sessions
) -> None:
    """A worker that is told of both goes by that, and so does whoever has the outcomes of both."""
    await direct.add("t/pay", PAY)
    id = await direct.start("t/pay")
    first, second, _ = direct.planes
    (order,) = await first.claim()
    assert await first.tell(order) == "accepted"
    before = {command.step: command for command in await second.claim()}["charge"]
    sessions.ask(
        "UPDATE noetl.command SET lease_until = now() - interval '1 s' WHERE command_id = 'charge#1' RETURNING 1"
    )
    await direct.reconcilers[0].reconcile()
    (current,) = await first.claim()

    answer = await first.report(done(before, "before"), done(current, "current"))

    assert [result.status for result in answer.results] == ["stale", "accepted"]
    closed = [event.payload["data"] for event in await direct.events(id, e.CALL_DONE) if event.step == "charge"]
    assert closed == ["current"]
