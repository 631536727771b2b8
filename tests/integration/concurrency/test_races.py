"""Several reporters and one execution's row: who loses decides again, and who loses twice leaves its fact behind."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from tests.integration.concurrency.harness import Harness, done
from tests.integration.concurrency.sessions import Sessions

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.orchestrator.orchestrator import wall_clock
from noetl_serverless.orchestrator.transition import Transition

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
LOOP = """
workflow:
  - step: each
    loop: {in: "{{ range(30) | list }}", iterator: x, spec: {mode: parallel, max_in_flight: 30}}
    tool: {kind: noop}
"""


async def forked(harness: Harness) -> str:
    """An execution whose three branches are all claimed by the worker `w`."""
    await harness.add("t/fork", FORK)
    id = await harness.start("t/fork")
    (first,) = await harness.planes[0].claim()
    assert await harness.planes[0].tell(first) == "accepted"
    return id


@pytest.mark.parametrize("losses", [1, 2, 3, 6])
async def test_who_is_overtaken_decides_again_and_its_outcome_is_taken_in_once(harness: Harness, losses: int) -> None:
    await harness.add("t/loop", LOOP)
    id = await harness.start("t/loop")
    slow, quick, _ = harness.planes
    late, *others = await slow.claim()

    async def overtake() -> None:
        frame = others.pop()
        answer = await quick.report(done(frame, [1], frame=_whole(frame)))
        assert answer.results[0].status == "accepted"

    slow.log.first = [overtake] * losses
    answer = await slow.report(done(late, ["late"], frame=_whole(late)))

    assert answer.results[0].status == "accepted"
    assert slow.log.first == [], "it was overtaken as often as the test wants"
    assert slow.log.handed_in == (losses > 1), "after two lost races it no longer waits for the row"
    taken = Counter(event.command_id for event in await harness.events(id, e.FRAME_COMMITTED))
    assert taken[late.command_id] == 1
    assert set(taken.values()) == {1}
    assert harness.findings() == []


async def test_a_join_is_passed_once_however_its_branches_race(harness: Harness) -> None:
    id = await forked(harness)
    branches = await harness.planes[0].claim()
    statuses = await asyncio.gather(
        *(plane.tell(branch) for plane, branch in zip(harness.planes, branches, strict=True)),
    )
    assert statuses == ["accepted"] * 3
    await harness.planes[0].orchestrator.process_inbox(id)
    issued = Counter(event.command_id for event in await harness.events(id, e.ISSUED))
    assert issued == {"a#1": 1, "b#1": 1, "c#1": 1, "d#1": 1, "end#1": 1}
    assert harness.findings() == []


async def test_thirty_frames_reported_to_three_planes_at_once_are_each_taken_in_once(harness: Harness) -> None:
    await harness.add("t/loop", LOOP)
    id = await harness.start("t/loop")
    frames = await harness.planes[0].claim()
    answers = await asyncio.gather(
        *(
            harness.planes[number % 3].report(
                done(frame, [1] * (frame.frame.end - frame.frame.start), frame=_whole(frame))
            )
            for number, frame in enumerate(frames)
            if frame.frame is not None
        )
    )
    assert {answer.results[0].status for answer in answers} == {"accepted"}
    await harness.planes[0].orchestrator.process_inbox(id)
    taken = Counter(event.command_id for event in await harness.events(id, e.FRAME_COMMITTED))
    assert taken == Counter(frame.command_id for frame in frames)
    assert len(await harness.events(id, e.COMPLETED)) == 1
    assert harness.findings() == []


async def test_the_same_report_sent_to_all_planes_at_once_counts_once(harness: Harness) -> None:
    id = await forked(harness)
    branch, *_ = await harness.planes[0].claim()
    statuses = await asyncio.gather(*(plane.tell(branch) for plane in harness.planes))
    assert sorted(statuses) == ["accepted", "stale", "stale"]
    closed = [event for event in await harness.events(id, e.CALL_DONE) if event.command_id == branch.command_id]
    assert len(closed) == 1


async def test_an_inbox_that_all_planes_and_reconcilers_take_in_at_once_is_taken_in_once(harness: Harness) -> None:
    id = await forked(harness)
    slow, quick, third = harness.planes
    b, c, d = await slow.claim()

    async def overtake_with_c() -> None:
        assert await quick.tell(c) == "accepted"

    async def overtake_with_d() -> None:
        assert await third.tell(d) == "accepted"

    async def nobody_goes_on() -> None:
        raise asyncio.CancelledError

    # it loses twice, leaves its fact in the inbox, and is gone before it can take it in
    slow.log.first = [overtake_with_c, overtake_with_d, nobody_goes_on]
    with pytest.raises(asyncio.CancelledError):
        await slow.tell(b)
    assert await quick.log.executions_with_inbox(10) == [id]

    await asyncio.gather(
        *(plane.orchestrator.process_inbox(id) for plane in harness.planes),
        *(each.reconcile() for each in harness.reconcilers),
    )

    assert await quick.log.executions_with_inbox(10) == []
    assert Counter(event.command_id for event in await harness.events(id, e.ISSUED))["end#1"] == 1
    assert harness.findings() == []


def _whole(command: object) -> dict[str, int]:
    frame = command.frame  # type: ignore[attr-defined]
    return {"start": frame.start, "end": frame.end, "ok": frame.end - frame.start, "failed": 0}


async def test_who_finds_the_row_held_compares_with_what_stands_there_then(direct: Harness, sessions: Sessions) -> None:
    id = await forked(direct)
    first = sessions.begin()
    first.run("SELECT 1 FROM noetl.execution WHERE execution_id = :id FOR UPDATE", id=id)
    commits = []
    for waiters, plane in enumerate(direct.planes[:2], 1):
        turn = Transition((await plane.log.load([id]))[id], None)
        turn.apply(Event(e.CANCELLED, wall_clock(), payload={"reason": "enough"}))
        commits.append(await sessions.until_waiting(plane.log.commit([turn.to_commit()]), waiters))
    first.run("ROLLBACK")
    good = [(await each).committed for each in commits]
    assert sorted(map(len, good)) == [0, 1], "both were decided on the same head"
    assert direct.findings() == []
