from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from tests.eventually import eventually
from tests.integration.worker.conftest import WorkerHarness, own

from noetl_serverless.ports import Pointer
from noetl_serverless.protocol import Outcome, ReportRequest
from noetl_serverless.testing.bus import MemoryNotifier
from noetl_serverless.worker.drain import reporter, slots
from noetl_serverless.worker.execution.executor import released


def error_of(outcome: Outcome) -> dict[str, Any]:
    assert outcome.error is not None
    return outcome.error


def chain(plane: Any, length: int) -> Any:
    """Each outcome is followed by the next command of its execution."""

    def follow(outcome: Any) -> list[Any]:
        number = int(outcome.command_id) + 1
        return [plane.command(str(number), outcome.execution_id)] if number < length else []

    return follow


# -- claiming and reporting


async def test_what_the_bus_points_to_is_run_and_reported(harness: WorkerHarness) -> None:
    await harness.send("a", "b", "c")
    summary = await harness.worker().drain(10)
    assert (summary["status"], summary["claimed"], summary["done"], summary["more"]) == ("drained", 3, 3, False)
    assert {outcome.command_id: outcome.data for outcome in harness.plane.outcomes} == {"a": "a", "b": "b", "c": "c"}
    assert len(harness.plane.claims) == 1
    assert await harness.notifier.pull("shared", 10, 0) == []
    assert harness.plane.unauthorised == 0


async def test_pointers_are_acknowledged(harness: WorkerHarness) -> None:
    await harness.send("a")
    await harness.worker().drain(10)
    assert harness.notifier._taken == {}


async def test_what_the_invocation_names_is_claimed_before_the_bus_points_to_it(harness: WorkerHarness) -> None:
    named = harness.plane.add(harness.plane.command("a"))
    draining = asyncio.create_task(harness.worker().drain(10, commands=named))
    await eventually(lambda: harness.plane.claims)
    await harness.notifier.publish("shared", named)
    assert (await draining)["done"] == 1
    assert [claim.commands for claim in harness.plane.claims] == [named]
    assert harness.notifier._taken == {}
    assert await harness.notifier.pull("shared", 10, 0) == []


async def test_what_is_pointed_to_a_second_time_is_claimed_again(harness: WorkerHarness) -> None:
    named = harness.plane.add(harness.plane.command("a"))
    await harness.notifier.publish("shared", named)
    worker = harness.worker()
    draining = asyncio.create_task(worker.drain(10, commands=named))
    await eventually(lambda: harness.plane.outcomes and not harness.notifier._taken)
    harness.plane.add(harness.plane.command("a", fence=2))
    await harness.notifier.publish("shared", named)
    assert (await draining)["done"] == 2
    assert len(harness.plane.claims) == 2


async def test_what_was_claimed_by_name_and_lost_is_claimed_again_when_it_is_pointed_to(harness: WorkerHarness) -> None:
    held = asyncio.Event()

    async def hang_once(n: Any) -> Any:
        if n == "other" or harness.tool.ran.count("a") == 1:
            await held.wait()

    harness.tool.behave = hang_once
    named = harness.plane.add(harness.plane.command("a"))
    await harness.send("other")
    draining = asyncio.create_task(harness.worker(lease=0.6).drain(10, commands=named))
    await eventually(lambda: harness.tool.running == 2)
    del harness.plane.claimed["1", "a"]
    await eventually(lambda: harness.tool.running == 1)
    harness.plane.add(harness.plane.command("a", fence=2))
    await harness.notifier.publish("shared", named)
    await eventually(lambda: len(harness.tool.ran) == 3 or not harness.notifier._waiting["shared"])
    held.set()
    summary = await draining
    assert (summary["lost"], summary["done"]) == (1, 2), "its pointer was acknowledged unread"
    assert harness.notifier._taken == {}


async def test_what_was_claimed_by_name_and_handed_back_is_claimed_again_when_it_is_pointed_to(
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = asyncio.Event()

    async def hold(n: Any) -> Any:
        if n == "other":
            await held.wait()

    harness.tool.behave = hold
    named = harness.plane.add(harness.plane.command("a"))
    await harness.send("other")
    worker = harness.worker()
    execute = worker.execute

    async def hand_back_once(command: Any, *more: Any) -> Any:
        return released(command) if (command.command_id, command.fence) == ("a", 1) else await execute(command, *more)

    monkeypatch.setattr(worker, "execute", hand_back_once)
    draining = asyncio.create_task(worker.drain(10, commands=named))
    await eventually(lambda: harness.tool.running == 1 and harness.plane.outcomes)
    await harness.notifier.publish("shared", named)
    await eventually(lambda: "a" in harness.tool.ran or not harness.notifier._waiting["shared"])
    held.set()
    assert (await draining)["done"] == 2, "its pointer was acknowledged unread"
    assert [claim.commands for claim in harness.plane.claims].count(named) == 2


async def test_of_two_named_for_the_last_time_the_one_handed_back_is_claimed_when_it_is_pointed_to(
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = asyncio.Event()

    async def hold(n: Any) -> Any:
        await held.wait()

    harness.tool.behave = hold
    named = harness.plane.add(*(harness.plane.command(name, own(name), delivery=5) for name in "ab"))
    draining = asyncio.create_task(harness.worker().drain(10, commands=named))
    # the second goes back before the claim of both is over
    await eventually(lambda: [outcome.status for outcome in harness.plane.outcomes] == ["released"])
    await harness.notifier.publish("shared", named[1:])
    held.set()
    summary = await draining
    assert (summary["done"], harness.tool.ran) == (2, ["a", "b"]), "its pointer was acknowledged unread"


async def test_an_invocation_that_names_what_another_took_leads_to_nothing(harness: WorkerHarness) -> None:
    named = harness.plane.add(harness.plane.command("a"))
    harness.plane.pending.clear()
    summary = await harness.worker().drain(10, commands=named)
    assert (summary["status"], summary["claimed"], summary["more"]) == ("drained", 0, False)


async def test_no_more_is_claimed_by_name_than_it_may_run_at_once(harness: WorkerHarness) -> None:
    named = harness.plane.add(*(harness.plane.command(name, own(name)) for name in "abcde"))
    await harness.notifier.publish("shared", named)
    assert (await harness.worker(max_in_flight=2).drain(10, commands=named))["done"] == 5
    assert len(harness.plane.claims[0].commands) == 2


async def test_a_pointer_to_what_is_gone_is_acknowledged(harness: WorkerHarness) -> None:
    await harness.send("a")
    harness.plane.pending.clear()
    summary = await harness.worker().drain(10)
    assert summary["claimed"] == 0
    assert harness.notifier._taken == {}


async def test_a_chain_needs_one_claim_and_a_report_per_step(harness: WorkerHarness) -> None:
    harness.plane.follow = chain(harness.plane, 30)
    await harness.send("0", execution="7")
    await harness.worker().drain(10)
    assert len(harness.plane.outcomes) == 30
    assert len(harness.plane.claims) == 1
    assert len(harness.plane.reports) == 30


async def test_a_playbook_is_sent_once(harness: WorkerHarness) -> None:
    harness.plane.follow = chain(harness.plane, 3)
    worker = harness.worker()
    await harness.send("0", execution="7")
    await worker.drain(10)
    await harness.send("0", execution="8")
    await worker.drain(10)
    assert harness.plane.claims[0].plans == []
    assert harness.plane.claims[1].plans == ["h"]
    assert {tuple(report.plans) for report in harness.plane.reports} == {("h",)}


async def test_no_more_run_at_once_than_allowed(harness: WorkerHarness) -> None:
    async def slowly(n: Any) -> Any:
        await asyncio.sleep(0.01)

    harness.tool.behave = slowly
    await harness.send(*(f"c{i}" for i in range(30)))
    await harness.worker(max_in_flight=4).drain(10)
    assert len(harness.plane.outcomes) == 30
    assert 1 < harness.tool.most <= 4


async def test_outcomes_that_are_ready_together_go_together(harness: WorkerHarness) -> None:
    gate = asyncio.Event()

    async def together(n: Any) -> Any:
        await gate.wait()

    harness.tool.behave = together
    await harness.send(*(f"c{i}" for i in range(8)))
    drain = asyncio.create_task(harness.worker().drain(10))
    await eventually(lambda: harness.tool.running == 8)
    gate.set()
    await drain
    assert len(harness.plane.reports) <= 3


async def test_an_errors_outcome_is_an_error(harness: WorkerHarness) -> None:
    def fail(n: Any) -> Any:
        raise RuntimeError("oops")

    harness.tool.behave = fail
    await harness.send("a")
    summary = await harness.worker().drain(10)
    assert summary["failed"] == 1
    assert error_of(harness.plane.outcomes[0])["message"] == "RuntimeError: oops"


async def test_a_playbook_that_does_not_compile_here_fails_its_commands(harness: WorkerHarness) -> None:
    harness.plane.plans["bad"] = "kind: Nonsense"
    await harness.notifier.publish("shared", harness.plane.add(harness.plane.command("a", plan="bad")))
    await harness.worker().drain(10)
    assert error_of(harness.plane.outcomes[0])["code"] == "worker.no_plan"


# -- trouble on the way


async def test_a_lost_report_answer_loses_nothing(harness: WorkerHarness) -> None:
    harness.plane.follow = chain(harness.plane, 6)
    harness.plane.lose = {"report": 2}
    await harness.send("0", execution="7")
    summary = await harness.worker().drain(10)
    assert sorted(harness.plane.done()) == [str(n) for n in range(6)]
    assert Counter(harness.tool.ran) == Counter([str(n) for n in range(6)])
    assert any(claim.recover for claim in harness.plane.claims)
    assert summary["unreported"] == 0


async def test_a_lost_claim_answer_loses_nothing(harness: WorkerHarness) -> None:
    harness.plane.lose = {"claim": 1}
    await harness.send("a", "b")
    await harness.worker().drain(10)
    assert harness.plane.done() == ["a", "b"]
    assert sorted(harness.tool.ran) == ["a", "b"]


async def test_recovery_does_not_run_twice_what_runs(harness: WorkerHarness) -> None:
    async def slowly(n: Any) -> Any:
        await asyncio.sleep(0.3 if n == "slow" else 0)

    harness.tool.behave = slowly
    await harness.send("slow", "quick")
    harness.plane.lose = {"report": 1}
    await harness.worker().drain(10)
    assert Counter(harness.tool.ran) == {"slow": 1, "quick": 1}
    recovery = next(claim for claim in harness.plane.claims if claim.recover)
    assert "slow" in [key.command_id for key in recovery.holding]


@pytest.mark.parametrize("path", ["claim", "report"])
async def test_a_busy_control_plane_is_asked_again(harness: WorkerHarness, path: str) -> None:
    harness.plane.refuse = {path: [503, 500]}
    await harness.send("a")
    await harness.worker().drain(10)
    assert harness.plane.done() == ["a"]


async def test_a_control_plane_that_is_gone_ends_the_drain(harness: WorkerHarness) -> None:
    await harness.send("a")
    worker = harness.worker()
    worker.client._url = "http://127.0.0.1:9"
    summary = await worker.drain(1.5)
    assert summary["more"] is True
    assert summary["claimed"] == 0
    # it is still pointed to
    assert len(harness.notifier._taken) == 1


async def test_a_report_that_is_too_large_is_sent_in_parts(harness: WorkerHarness) -> None:
    gate = asyncio.Event()

    async def together(n: Any) -> Any:
        await gate.wait()

    harness.tool.behave = together
    harness.plane.most_outcomes = 2
    await harness.send(*(f"c{i}" for i in range(8)))
    drain = asyncio.create_task(harness.worker().drain(10))
    await eventually(lambda: harness.tool.running == 8)
    gate.set()
    await drain
    assert len(harness.plane.done()) == 8


async def test_an_outcome_that_cannot_be_sent_is_reported_as_an_error(harness: WorkerHarness) -> None:
    harness.plane.refuse = {"report": [413]}
    await harness.send("a")
    await harness.worker().drain(10)
    assert [(outcome.status, error_of(outcome)["code"]) for outcome in harness.plane.outcomes] == [
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
    harness: WorkerHarness, times: int, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "FIRST_PAUSE_SECONDS", 0.01)
    harness.plane.plans = {"h": SETS}
    harness.tool.behave = lambda n: "x" * 100_000
    left = times

    def old(report: ReportRequest) -> int | None:
        nonlocal left
        left -= any(outcome.set_refs for outcome in report.outcomes)
        return 400 if left >= 0 and any(outcome.set_refs for outcome in report.outcomes) else None

    harness.plane.stumble = old
    await harness.send("a")
    await harness.worker().drain(10)
    (taken,) = harness.plane.outcomes
    assert (taken.status, list(taken.set_refs)) == (status, ["big"] if status == "done" else [])
    if status == "error":
        assert error_of(taken)["code"] == "outcome.refused", "it is sent for ever to who does not know it"


async def test_a_turn_that_one_control_plane_does_not_know_costs_no_outcome(
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "FAIR_CLAIM_SECONDS", 0.0)
    turns: list[bool] = []

    def old(report: ReportRequest) -> int | None:
        turns.append(report.turn)
        return 400 if report.turn else None

    harness.plane.stumble = old
    await harness.send("a")
    await harness.send("b")
    await harness.worker(max_in_flight=1).drain(10)
    assert [taken.status for taken in harness.plane.outcomes] == ["done", "done"]
    assert turns == [True, False] * 2


async def test_a_refused_outcome_is_counted(harness: WorkerHarness) -> None:
    harness.plane.refused = {(own("a"), "a")}
    await harness.send("a")
    assert (await harness.worker().drain(10))["refused"] == 1


async def test_without_a_bus_pending_commands_are_claimed(harness: WorkerHarness) -> None:
    class Broken(MemoryNotifier):
        async def pull(self, pool: str, limit: int, wait: float) -> list[Pointer]:
            raise ConnectionError("no bus")

    harness.plane.follow = chain(harness.plane, 3)
    harness.plane.add(harness.plane.command("0", "7"), harness.plane.command("0", "8"))
    harness.notifier = Broken()
    summary = await harness.worker().drain(10)
    assert summary["done"] == 6


async def test_a_sweep_claims_what_nobody_pointed_to(harness: WorkerHarness) -> None:
    harness.plane.add(harness.plane.command("a"))
    worker = harness.worker()
    assert (await worker.drain(10))["claimed"] == 0
    assert (await worker.drain(10, sweep=True))["done"] == 1


# -- leases


async def test_heartbeats_keep_what_runs_and_what_is_reported(harness: WorkerHarness) -> None:
    async def until_the_second(n: Any) -> Any:
        await eventually(lambda: len(harness.plane.heartbeats) >= 2)

    harness.tool.behave = until_the_second
    await harness.send("a", "b")
    await harness.worker(lease=0.3).drain(10)
    assert {key.command_id for key in harness.plane.heartbeats[0].commands} == {"a", "b"}
    assert harness.plane.heartbeats[0].commands[0].fence == 1
    assert harness.plane.done() == ["a", "b"]


async def test_a_lost_command_is_stopped_and_not_reported(harness: WorkerHarness) -> None:
    async def hang(n: Any) -> Any:
        await asyncio.sleep(60 if n == "a" else 0.3)

    harness.tool.behave = hang
    await harness.send("a", "b")
    drain = asyncio.create_task(harness.worker(lease=0.3).drain(10))
    await eventually(lambda: harness.tool.running == 2)
    del harness.plane.claimed[(own("a"), "a")]
    summary = await drain
    assert summary["lost"] == 1
    assert [outcome.command_id for outcome in harness.plane.outcomes] == ["b"]
    assert harness.tool.running == 0


async def test_a_command_claimed_again_under_a_new_fence_replaces_the_old_one(harness: WorkerHarness) -> None:
    first = asyncio.Event()

    async def hang_once(n: Any) -> Any:
        if not first.is_set():
            first.set()
            await asyncio.sleep(60)

    harness.tool.behave = hang_once
    await harness.send("a")
    drain = asyncio.create_task(harness.worker().drain(20))
    await first.wait()
    del harness.plane.claimed[(own("a"), "a")]
    keys = harness.plane.add(harness.plane.command("a", own("a"), fence=2))
    await harness.notifier.publish("shared", keys)
    await drain
    assert [(outcome.status, outcome.fence) for outcome in harness.plane.outcomes] == [("done", 2)]


async def test_what_is_claimed_a_second_time_under_the_same_fence_runs_once(harness: WorkerHarness) -> None:
    done = asyncio.Event()

    async def wait(n: Any) -> Any:
        await done.wait()

    harness.tool.behave = wait
    await harness.send("a")
    drain = asyncio.create_task(harness.worker().drain(20))
    await eventually(lambda: harness.tool.running == 1)
    # as if the answer to the claim had come twice
    await harness.notifier.publish("shared", harness.plane.add(harness.plane.command("a", own("a"))))
    await eventually(lambda: len(harness.plane.claims) == 2 and not harness.plane.pending)
    # what the second answer leads to has happened once a third is there
    await harness.send("b")
    await eventually(lambda: "b" in harness.tool.ran)
    done.set()
    summary = await drain
    assert harness.tool.ran == ["a", "b"]
    assert (summary["claimed"], summary["done"], summary["lost"]) == (2, 2, 0)


async def test_a_late_lost_does_not_take_what_has_come_back_under_a_new_fence(harness: WorkerHarness) -> None:
    done = asyncio.Event()

    async def wait(n: Any) -> Any:
        await done.wait()

    harness.tool.behave = wait
    harness.plane.hold["heartbeat"] = asyncio.Event()
    await harness.send("a")
    drain = asyncio.create_task(harness.worker(lease=3.0).drain(20))
    await eventually(lambda: harness.tool.running == 1)
    del harness.plane.claimed[(own("a"), "a")]
    await eventually(lambda: harness.plane.heartbeats)
    # while that answer is on its way, the command is claimed again
    await harness.notifier.publish("shared", harness.plane.add(harness.plane.command("a", own("a"), fence=2)))
    await eventually(lambda: harness.tool.ran == ["a", "a"])
    harness.plane.hold.pop("heartbeat").set()
    # the next heartbeat comes after it has been heard, unless nothing is left
    await eventually(lambda: len(harness.plane.heartbeats) == 2 or drain.done())
    done.set()
    summary = await drain
    assert [(outcome.status, outcome.fence) for outcome in harness.plane.outcomes] == [("done", 2)]
    assert summary["lost"] == 1


# -- ending


async def test_stopped_it_claims_no_more_and_lets_short_things_end(harness: WorkerHarness) -> None:
    async def slowly(n: Any) -> Any:
        await asyncio.sleep(0.1)

    harness.tool.behave = slowly
    harness.plane.follow = chain(harness.plane, 100)
    await harness.send("0", execution="7")
    worker = harness.worker(grace=5)
    drain = asyncio.create_task(worker.drain(60))
    await eventually(lambda: harness.tool.running == 1)
    worker.stop()
    summary = await drain
    assert (summary["status"], summary["done"], summary["released"]) == ("stopped", 1, 0)
    assert len(harness.tool.ran) == 1
    assert len(harness.plane.pending) == 1
    assert await worker.drain(10) == {"status": "stopped"}


async def test_stopped_it_hands_back_what_does_not_end(harness: WorkerHarness) -> None:
    async def hang(n: Any) -> Any:
        await asyncio.sleep(60)

    harness.tool.behave = hang
    await harness.send("a", "b")
    worker = harness.worker(grace=0.1)
    drain = asyncio.create_task(worker.drain(60))
    await eventually(lambda: harness.tool.running == 2)
    worker.stop()
    summary = await drain
    assert summary["released"] == 2
    assert {outcome.status for outcome in harness.plane.outcomes} == {"released"}
    assert set(harness.plane.pending) == {(own("a"), "a"), (own("b"), "b")}


async def test_closing_ends_what_is_under_way(harness: WorkerHarness) -> None:
    async def hang(n: Any) -> Any:
        await asyncio.sleep(60)

    harness.tool.behave = hang
    await harness.send("a")
    worker = harness.worker(grace=0.1)
    drain = asyncio.create_task(worker.drain(60))
    await eventually(lambda: harness.tool.running == 1)
    async with asyncio.timeout(20):
        await worker.close()
    assert (await drain)["status"] == "stopped"
    assert set(harness.plane.pending) == {(own("a"), "a")}


async def test_closing_closes_the_python_processes_and_the_client(
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = harness.worker()
    closed: list[str] = []
    close = worker.client.close

    async def close_client() -> None:
        closed.append("client")
        await close()

    monkeypatch.setattr(worker.client, "close", close_client)
    await worker.close()
    assert harness.pool.closed
    assert closed == ["client"]


async def test_near_the_end_of_its_budget_it_hands_back(harness: WorkerHarness) -> None:
    async def hang(n: Any) -> Any:
        await asyncio.sleep(60 if n == "late" else 0.5)

    harness.tool.behave = hang
    await harness.send("early")
    drain = asyncio.create_task(harness.worker().drain(1.5))
    await eventually(lambda: harness.tool.running == 1)
    await asyncio.sleep(0.4)
    await harness.send("late")
    summary = await drain
    assert summary["more"] is True
    assert {outcome.command_id: outcome.status for outcome in harness.plane.outcomes} == {
        "early": "done",
        "late": "released",
    }


async def test_a_command_that_needs_more_than_a_whole_budget_fails(harness: WorkerHarness) -> None:
    async def hang(n: Any) -> Any:
        await asyncio.sleep(60)

    harness.tool.behave = hang
    await harness.send("a")
    await harness.worker().drain(1)
    assert error_of(harness.plane.outcomes[0])["code"] == "worker.time_budget"


async def test_a_second_invocation_makes_the_first_look_again(harness: WorkerHarness) -> None:
    gate = asyncio.Event()

    async def wait(n: Any) -> Any:
        await gate.wait()

    harness.tool.behave = wait
    await harness.send("a")
    worker = harness.worker()
    drain = asyncio.create_task(worker.drain(10))
    await eventually(lambda: harness.tool.running == 1)
    assert await worker.drain(10) == {"status": "draining"}
    harness.plane.add(harness.plane.command("b"))
    assert await worker.drain(10, sweep=True) == {"status": "draining"}
    await eventually(lambda: harness.tool.running == 2)
    gate.set()
    assert (await drain)["done"] == 2


async def test_a_worker_drains_again(harness: WorkerHarness) -> None:
    worker = harness.worker()
    for name in ("a", "b"):
        await harness.send(name)
        assert (await worker.drain(10))["done"] == 1


async def test_in_a_wide_fan_out_each_command_runs_once(harness: WorkerHarness) -> None:
    names = [f"n{i}" for i in range(200)]
    harness.plane.follow = lambda outcome: (
        [harness.plane.command(name, "7") for name in names] if outcome.command_id == "root" else []
    )
    harness.plane.lose = {"report": 3, "claim": 2}
    await harness.send("root", execution="7")
    worker = harness.worker()
    first = await worker.drain(20)
    await worker.drain(20, sweep=True)
    while harness.plane.pending:
        await worker.drain(20, sweep=True)
    assert first["unreported"] == 0
    assert Counter(harness.tool.ran) == Counter(["root", *names])
    assert harness.plane.claimed == {}
