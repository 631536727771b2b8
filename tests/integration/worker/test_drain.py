from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from tests.eventually import eventually
from tests.integration.worker.conftest import Yard, own

from noetl_serverless.protocol import ReportRequest
from noetl_serverless.worker.drain import reporter, slots
from noetl_serverless.worker.execution.executor import released


def chain(plane: Any, length: int) -> Any:
    """Each outcome is followed by the next command of its execution."""

    def follow(outcome: Any) -> list[Any]:
        number = int(outcome.command_id) + 1
        return [plane.command(str(number), outcome.execution_id)] if number < length else []

    return follow


# -- claiming and reporting


async def test_what_the_bus_points_to_is_run_and_reported(yard: Yard) -> None:
    await yard.send("a", "b", "c")
    summary = await yard.worker().drain(10)
    assert (summary["status"], summary["claimed"], summary["done"], summary["more"]) == ("drained", 3, 3, False)
    assert {outcome.command_id: outcome.data for outcome in yard.plane.outcomes} == {"a": "a", "b": "b", "c": "c"}
    assert len(yard.plane.claims) == 1
    assert await yard.notifier.pull("shared", 10, 0) == []
    assert yard.plane.unauthorised == 0


async def test_pointers_are_acknowledged(yard: Yard) -> None:
    await yard.send("a")
    await yard.worker().drain(10)
    assert yard.notifier._taken == {}


async def test_what_the_invocation_names_is_claimed_before_the_bus_points_to_it(yard: Yard) -> None:
    named = yard.plane.add(yard.plane.command("a"))
    draining = asyncio.create_task(yard.worker().drain(10, commands=named))
    await eventually(lambda: yard.plane.claims)
    await yard.notifier.publish("shared", named)
    assert (await draining)["done"] == 1
    assert [claim.commands for claim in yard.plane.claims] == [named]
    assert yard.notifier._taken == {}
    assert await yard.notifier.pull("shared", 10, 0) == []


async def test_what_is_pointed_to_a_second_time_is_claimed_again(yard: Yard) -> None:
    named = yard.plane.add(yard.plane.command("a"))
    await yard.notifier.publish("shared", named)
    worker = yard.worker()
    draining = asyncio.create_task(worker.drain(10, commands=named))
    await eventually(lambda: yard.plane.outcomes and not yard.notifier._taken)
    yard.plane.add(yard.plane.command("a", fence=2))
    await yard.notifier.publish("shared", named)
    assert (await draining)["done"] == 2
    assert len(yard.plane.claims) == 2


async def test_what_was_claimed_by_name_and_lost_is_claimed_again_when_it_is_pointed_to(yard: Yard) -> None:
    held = asyncio.Event()

    async def hang_once(n: Any) -> Any:
        if n == "other" or yard.tool.ran.count("a") == 1:
            await held.wait()

    yard.tool.behave = hang_once
    named = yard.plane.add(yard.plane.command("a"))
    await yard.send("other")
    draining = asyncio.create_task(yard.worker(lease=0.6).drain(10, commands=named))
    await eventually(lambda: yard.tool.running == 2)
    del yard.plane.claimed["1", "a"]
    await eventually(lambda: yard.tool.running == 1)
    yard.plane.add(yard.plane.command("a", fence=2))
    await yard.notifier.publish("shared", named)
    await eventually(lambda: len(yard.tool.ran) == 3 or not yard.notifier._waiting["shared"])
    held.set()
    summary = await draining
    assert (summary["lost"], summary["done"]) == (1, 2), "its pointer was acknowledged unread"
    assert yard.notifier._taken == {}


async def test_what_was_claimed_by_name_and_handed_back_is_claimed_again_when_it_is_pointed_to(yard: Yard) -> None:
    held = asyncio.Event()

    async def hold(n: Any) -> Any:
        if n == "other":
            await held.wait()

    yard.tool.behave = hold
    named = yard.plane.add(yard.plane.command("a"))
    await yard.send("other")
    worker = yard.worker()
    execute = worker.execute

    async def hand_back_once(command: Any, *more: Any) -> Any:
        return released(command) if (command.command_id, command.fence) == ("a", 1) else await execute(command, *more)

    worker.execute = hand_back_once
    draining = asyncio.create_task(worker.drain(10, commands=named))
    await eventually(lambda: yard.tool.running == 1 and yard.plane.outcomes)
    await yard.notifier.publish("shared", named)
    await eventually(lambda: "a" in yard.tool.ran or not yard.notifier._waiting["shared"])
    held.set()
    assert (await draining)["done"] == 2, "its pointer was acknowledged unread"
    assert [claim.commands for claim in yard.plane.claims].count(named) == 2


async def test_of_two_named_for_the_last_time_the_one_handed_back_is_claimed_when_it_is_pointed_to(yard: Yard) -> None:
    held = asyncio.Event()

    async def hold(n: Any) -> Any:
        await held.wait()

    yard.tool.behave = hold
    named = yard.plane.add(*(yard.plane.command(name, own(name), delivery=5) for name in "ab"))
    draining = asyncio.create_task(yard.worker().drain(10, commands=named))
    # the second goes back before the claim of both is over
    await eventually(lambda: [outcome.status for outcome in yard.plane.outcomes] == ["released"])
    await yard.notifier.publish("shared", named[1:])
    held.set()
    summary = await draining
    assert (summary["done"], yard.tool.ran) == (2, ["a", "b"]), "its pointer was acknowledged unread"


async def test_an_invocation_that_names_what_another_took_leads_to_nothing(yard: Yard) -> None:
    named = yard.plane.add(yard.plane.command("a"))
    yard.plane.pending.clear()
    summary = await yard.worker().drain(10, commands=named)
    assert (summary["status"], summary["claimed"], summary["more"]) == ("drained", 0, False)


async def test_no_more_is_claimed_by_name_than_it_may_run_at_once(yard: Yard) -> None:
    named = yard.plane.add(*(yard.plane.command(name, own(name)) for name in "abcde"))
    await yard.notifier.publish("shared", named)
    assert (await yard.worker(max_in_flight=2).drain(10, commands=named))["done"] == 5
    assert len(yard.plane.claims[0].commands) == 2


async def test_a_pointer_to_what_is_gone_is_acknowledged(yard: Yard) -> None:
    await yard.send("a")
    yard.plane.pending.clear()
    summary = await yard.worker().drain(10)
    assert summary["claimed"] == 0
    assert yard.notifier._taken == {}


async def test_a_chain_needs_one_claim_and_a_report_per_step(yard: Yard) -> None:
    yard.plane.follow = chain(yard.plane, 30)
    await yard.send("0", execution="7")
    await yard.worker().drain(10)
    assert len(yard.plane.outcomes) == 30
    assert len(yard.plane.claims) == 1
    assert len(yard.plane.reports) == 30


async def test_a_playbook_is_sent_once(yard: Yard) -> None:
    yard.plane.follow = chain(yard.plane, 3)
    worker = yard.worker()
    await yard.send("0", execution="7")
    await worker.drain(10)
    await yard.send("0", execution="8")
    await worker.drain(10)
    assert yard.plane.claims[0].plans == []
    assert yard.plane.claims[1].plans == ["h"]
    assert {tuple(report.plans) for report in yard.plane.reports} == {("h",)}


async def test_no_more_run_at_once_than_allowed(yard: Yard) -> None:
    async def slowly(n: Any) -> Any:
        await asyncio.sleep(0.01)

    yard.tool.behave = slowly
    await yard.send(*(f"c{i}" for i in range(30)))
    await yard.worker(max_in_flight=4).drain(10)
    assert len(yard.plane.outcomes) == 30
    assert 1 < yard.tool.most <= 4


async def test_outcomes_that_are_ready_together_go_together(yard: Yard) -> None:
    gate = asyncio.Event()

    async def together(n: Any) -> Any:
        await gate.wait()

    yard.tool.behave = together
    await yard.send(*(f"c{i}" for i in range(8)))
    drain = asyncio.create_task(yard.worker().drain(10))
    await eventually(lambda: yard.tool.running == 8)
    gate.set()
    await drain
    assert len(yard.plane.reports) <= 3


async def test_an_errors_outcome_is_an_error(yard: Yard) -> None:
    def fail(n: Any) -> Any:
        raise RuntimeError("oops")

    yard.tool.behave = fail
    await yard.send("a")
    summary = await yard.worker().drain(10)
    assert summary["failed"] == 1
    assert yard.plane.outcomes[0].error["message"] == "RuntimeError: oops"


async def test_a_playbook_that_does_not_compile_here_fails_its_commands(yard: Yard) -> None:
    yard.plane.plans["bad"] = "kind: Nonsense"
    await yard.notifier.publish("shared", yard.plane.add(yard.plane.command("a", plan="bad")))
    await yard.worker().drain(10)
    assert yard.plane.outcomes[0].error["code"] == "worker.no_plan"


# -- trouble on the way


async def test_a_lost_report_answer_loses_nothing(yard: Yard) -> None:
    yard.plane.follow = chain(yard.plane, 6)
    yard.plane.lose = {"report": 2}
    await yard.send("0", execution="7")
    summary = await yard.worker().drain(10)
    assert sorted(yard.plane.done()) == [str(n) for n in range(6)]
    assert Counter(yard.tool.ran) == Counter([str(n) for n in range(6)])
    assert any(claim.recover for claim in yard.plane.claims)
    assert summary["unreported"] == 0


async def test_a_lost_claim_answer_loses_nothing(yard: Yard) -> None:
    yard.plane.lose = {"claim": 1}
    await yard.send("a", "b")
    await yard.worker().drain(10)
    assert yard.plane.done() == ["a", "b"]
    assert sorted(yard.tool.ran) == ["a", "b"]


async def test_recovery_does_not_run_twice_what_runs(yard: Yard) -> None:
    async def slowly(n: Any) -> Any:
        await asyncio.sleep(0.3 if n == "slow" else 0)

    yard.tool.behave = slowly
    await yard.send("slow", "quick")
    yard.plane.lose = {"report": 1}
    await yard.worker().drain(10)
    assert Counter(yard.tool.ran) == {"slow": 1, "quick": 1}
    recovery = next(claim for claim in yard.plane.claims if claim.recover)
    assert "slow" in [key.command_id for key in recovery.holding]


@pytest.mark.parametrize("path", ["claim", "report"])
async def test_a_busy_control_plane_is_asked_again(yard: Yard, path: str) -> None:
    yard.plane.refuse = {path: [503, 500]}
    await yard.send("a")
    await yard.worker().drain(10)
    assert yard.plane.done() == ["a"]


async def test_a_control_plane_that_is_gone_ends_the_drain(yard: Yard) -> None:
    await yard.send("a")
    worker = yard.worker()
    worker.client._url = "http://127.0.0.1:9"
    summary = await worker.drain(1.5)
    assert summary["more"] is True
    assert summary["claimed"] == 0
    # it is still pointed to
    assert len(yard.notifier._taken) == 1


async def test_a_report_that_is_too_large_is_sent_in_parts(yard: Yard) -> None:
    gate = asyncio.Event()

    async def together(n: Any) -> Any:
        await gate.wait()

    yard.tool.behave = together
    yard.plane.most_outcomes = 2
    await yard.send(*(f"c{i}" for i in range(8)))
    drain = asyncio.create_task(yard.worker().drain(10))
    await eventually(lambda: yard.tool.running == 8)
    gate.set()
    await drain
    assert len(yard.plane.done()) == 8


async def test_an_outcome_that_cannot_be_sent_is_reported_as_an_error(yard: Yard) -> None:
    yard.plane.refuse = {"report": [413]}
    await yard.send("a")
    await yard.worker().drain(10)
    assert [(outcome.status, outcome.error["code"]) for outcome in yard.plane.outcomes] == [
        ("error", "outcome.refused")
    ]


SETS = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t, path: t/t}
workflow:
  - step: work
    tool:
      kind: python
      input: {n: "{{ workload.n }}"}
      code: "result = 1"
      spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.big: "{{ output.data }}"}}}}]}}
"""


@pytest.mark.parametrize(("times", "status"), [(3, "done"), (100, "error")])
async def test_what_one_control_plane_does_not_know_may_be_known_to_the_next_behind_its_address(
    yard: Yard, times: int, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "FIRST_PAUSE_SECONDS", 0.01)
    yard.plane.plans = {"h": SETS}
    yard.tool.behave = lambda n: "x" * 100_000
    left = times

    def old(report: ReportRequest) -> int | None:
        nonlocal left
        left -= any(outcome.set_refs for outcome in report.outcomes)
        return 400 if left >= 0 and any(outcome.set_refs for outcome in report.outcomes) else None

    yard.plane.stumble = old
    await yard.send("a")
    await yard.worker().drain(10)
    (taken,) = yard.plane.outcomes
    assert (taken.status, list(taken.set_refs)) == (status, ["big"] if status == "done" else [])
    if status == "error":
        assert taken.error["code"] == "outcome.refused", "it is sent for ever to who does not know it"


async def test_a_turn_that_one_control_plane_does_not_know_costs_no_outcome(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "FAIR_CLAIM_SECONDS", 0.0)
    asked: list[bool] = []

    def old(report: ReportRequest) -> int | None:
        asked.append(report.turn)
        return 400 if report.turn else None

    yard.plane.stumble = old
    await yard.send("a")
    await yard.send("b")
    await yard.worker(max_in_flight=1).drain(10)
    assert [taken.status for taken in yard.plane.outcomes] == ["done", "done"]
    assert asked == [True, False] * 2


async def test_a_refused_outcome_is_counted(yard: Yard) -> None:
    yard.plane.refused = {(own("a"), "a")}
    await yard.send("a")
    assert (await yard.worker().drain(10))["refused"] == 1


async def test_without_a_bus_pending_commands_are_claimed(yard: Yard) -> None:
    class Broken:
        async def pull(self, pool: str, limit: int, wait: float) -> Any:
            raise ConnectionError("no bus")

    yard.plane.follow = chain(yard.plane, 3)
    yard.plane.add(yard.plane.command("0", "7"), yard.plane.command("0", "8"))
    yard.notifier = Broken()
    summary = await yard.worker().drain(10)
    assert summary["done"] == 6


async def test_a_sweep_claims_what_nobody_pointed_to(yard: Yard) -> None:
    yard.plane.add(yard.plane.command("a"))
    worker = yard.worker()
    assert (await worker.drain(10))["claimed"] == 0
    assert (await worker.drain(10, sweep=True))["done"] == 1


# -- leases


async def test_heartbeats_keep_what_runs_and_what_is_reported(yard: Yard) -> None:
    async def slowly(n: Any) -> Any:
        await asyncio.sleep(0.35)

    yard.tool.behave = slowly
    await yard.send("a", "b")
    await yard.worker(lease=0.3).drain(10)
    assert len(yard.plane.heartbeats) >= 2
    assert {key.command_id for key in yard.plane.heartbeats[0].commands} == {"a", "b"}
    assert yard.plane.heartbeats[0].commands[0].fence == 1
    assert yard.plane.done() == ["a", "b"]


async def test_a_lost_command_is_stopped_and_not_reported(yard: Yard) -> None:
    async def hang(n: Any) -> Any:
        await asyncio.sleep(60 if n == "a" else 0.3)

    yard.tool.behave = hang
    await yard.send("a", "b")
    drain = asyncio.create_task(yard.worker(lease=0.3).drain(10))
    await eventually(lambda: yard.tool.running == 2)
    del yard.plane.claimed[(own("a"), "a")]
    summary = await drain
    assert summary["lost"] == 1
    assert [outcome.command_id for outcome in yard.plane.outcomes] == ["b"]
    assert yard.tool.running == 0


async def test_a_command_claimed_again_under_a_new_fence_replaces_the_old_one(yard: Yard) -> None:
    first = asyncio.Event()

    async def hang_once(n: Any) -> Any:
        if not first.is_set():
            first.set()
            await asyncio.sleep(60)

    yard.tool.behave = hang_once
    await yard.send("a")
    drain = asyncio.create_task(yard.worker().drain(20))
    await first.wait()
    del yard.plane.claimed[(own("a"), "a")]
    keys = yard.plane.add(yard.plane.command("a", own("a"), fence=2))
    await yard.notifier.publish("shared", keys)
    await drain
    assert [(outcome.status, outcome.fence) for outcome in yard.plane.outcomes] == [("done", 2)]


async def test_what_is_claimed_a_second_time_under_the_same_fence_runs_once(yard: Yard) -> None:
    done = asyncio.Event()

    async def wait(n: Any) -> Any:
        await done.wait()

    yard.tool.behave = wait
    await yard.send("a")
    drain = asyncio.create_task(yard.worker().drain(20))
    await eventually(lambda: yard.tool.running == 1)
    # as if the answer to the claim had come twice
    await yard.notifier.publish("shared", yard.plane.add(yard.plane.command("a", own("a"))))
    await eventually(lambda: len(yard.plane.claims) == 2 and not yard.plane.pending)
    # what the second answer leads to has happened once a third is there
    await yard.send("b")
    await eventually(lambda: "b" in yard.tool.ran)
    done.set()
    summary = await drain
    assert yard.tool.ran == ["a", "b"]
    assert (summary["claimed"], summary["done"], summary["lost"]) == (2, 2, 0)


async def test_a_late_lost_does_not_take_what_has_come_back_under_a_new_fence(yard: Yard) -> None:
    done = asyncio.Event()

    async def wait(n: Any) -> Any:
        await done.wait()

    yard.tool.behave = wait
    yard.plane.hold["heartbeat"] = asyncio.Event()
    await yard.send("a")
    drain = asyncio.create_task(yard.worker(lease=3.0).drain(20))
    await eventually(lambda: yard.tool.running == 1)
    del yard.plane.claimed[(own("a"), "a")]
    await eventually(lambda: yard.plane.heartbeats)
    # while that answer is on its way, the command is claimed again
    await yard.notifier.publish("shared", yard.plane.add(yard.plane.command("a", own("a"), fence=2)))
    await eventually(lambda: yard.tool.ran == ["a", "a"])
    yard.plane.hold.pop("heartbeat").set()
    # the next heartbeat comes after it has been heard, unless nothing is left
    await eventually(lambda: len(yard.plane.heartbeats) == 2 or drain.done())
    done.set()
    summary = await drain
    assert [(outcome.status, outcome.fence) for outcome in yard.plane.outcomes] == [("done", 2)]
    assert summary["lost"] == 1


# -- ending


async def test_stopped_it_claims_no_more_and_lets_short_things_end(yard: Yard) -> None:
    async def slowly(n: Any) -> Any:
        await asyncio.sleep(0.1)

    yard.tool.behave = slowly
    yard.plane.follow = chain(yard.plane, 100)
    await yard.send("0", execution="7")
    worker = yard.worker(grace=5)
    drain = asyncio.create_task(worker.drain(60))
    await eventually(lambda: yard.tool.running == 1)
    worker.stop()
    summary = await drain
    assert (summary["status"], summary["done"], summary["released"]) == ("stopped", 1, 0)
    assert len(yard.tool.ran) == 1
    assert len(yard.plane.pending) == 1
    assert await worker.drain(10) == {"status": "stopped"}


async def test_stopped_it_hands_back_what_does_not_end(yard: Yard) -> None:
    async def hang(n: Any) -> Any:
        await asyncio.sleep(60)

    yard.tool.behave = hang
    await yard.send("a", "b")
    worker = yard.worker(grace=0.1)
    drain = asyncio.create_task(worker.drain(60))
    await eventually(lambda: yard.tool.running == 2)
    worker.stop()
    summary = await drain
    assert summary["released"] == 2
    assert {outcome.status for outcome in yard.plane.outcomes} == {"released"}
    assert set(yard.plane.pending) == {(own("a"), "a"), (own("b"), "b")}


async def test_closing_ends_what_is_under_way(yard: Yard) -> None:
    async def hang(n: Any) -> Any:
        await asyncio.sleep(60)

    yard.tool.behave = hang
    await yard.send("a")
    worker = yard.worker(grace=0.1)
    drain = asyncio.create_task(worker.drain(60))
    await eventually(lambda: yard.tool.running == 1)
    async with asyncio.timeout(20):
        await worker.close()
    assert (await drain)["status"] == "stopped"
    assert set(yard.plane.pending) == {(own("a"), "a")}


async def test_closing_closes_the_python_processes_and_the_client(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = yard.worker()
    closed: list[str] = []
    close = worker.client.close

    async def close_client() -> None:
        closed.append("client")
        await close()

    monkeypatch.setattr(worker.client, "close", close_client)
    await worker.close()
    assert yard.pool.closed
    assert closed == ["client"]


async def test_near_the_end_of_its_budget_it_hands_back(yard: Yard) -> None:
    async def hang(n: Any) -> Any:
        await asyncio.sleep(60 if n == "late" else 0.5)

    yard.tool.behave = hang
    await yard.send("early")
    drain = asyncio.create_task(yard.worker().drain(1.5))
    await eventually(lambda: yard.tool.running == 1)
    await asyncio.sleep(0.4)
    await yard.send("late")
    summary = await drain
    assert summary["more"] is True
    assert {outcome.command_id: outcome.status for outcome in yard.plane.outcomes} == {
        "early": "done",
        "late": "released",
    }


async def test_a_command_that_needs_more_than_a_whole_budget_fails(yard: Yard) -> None:
    async def hang(n: Any) -> Any:
        await asyncio.sleep(60)

    yard.tool.behave = hang
    await yard.send("a")
    await yard.worker().drain(1)
    assert yard.plane.outcomes[0].error["code"] == "worker.time_budget"


async def test_a_second_invocation_makes_the_first_look_again(yard: Yard) -> None:
    gate = asyncio.Event()

    async def wait(n: Any) -> Any:
        await gate.wait()

    yard.tool.behave = wait
    await yard.send("a")
    worker = yard.worker()
    drain = asyncio.create_task(worker.drain(10))
    await eventually(lambda: yard.tool.running == 1)
    assert await worker.drain(10) == {"status": "draining"}
    yard.plane.add(yard.plane.command("b"))
    assert await worker.drain(10, sweep=True) == {"status": "draining"}
    await eventually(lambda: yard.tool.running == 2)
    gate.set()
    assert (await drain)["done"] == 2


async def test_a_worker_drains_again(yard: Yard) -> None:
    worker = yard.worker()
    for name in ("a", "b"):
        await yard.send(name)
        assert (await worker.drain(10))["done"] == 1


async def test_in_a_wide_fan_out_each_command_runs_once(yard: Yard) -> None:
    names = [f"n{i}" for i in range(200)]
    yard.plane.follow = lambda outcome: (
        [yard.plane.command(name, "7") for name in names] if outcome.command_id == "root" else []
    )
    yard.plane.lose = {"report": 3, "claim": 2}
    await yard.send("root", execution="7")
    worker = yard.worker()
    first = await worker.drain(20)
    await worker.drain(20, sweep=True)
    while yard.plane.pending:
        await worker.drain(20, sweep=True)
    assert first["unreported"] == 0
    assert Counter(yard.tool.ran) == Counter(["root", *names])
    assert yard.plane.claimed == {}
