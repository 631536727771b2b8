"""The bookkeeping of steps that are run ahead."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.protocol import ClaimedCommand, Outcome
from noetl_serverless.worker.drain.retry import Retry
from noetl_serverless.worker.drain.speculative_run import MAX_UNREPORTED_BYTES, MAX_UNREPORTED_STEPS, SpeculativeRun
from noetl_serverless.worker.execution.lease import Lease


def command(number: int, fence: int = 1) -> ClaimedCommand:
    """With no more than what is looked at."""
    looked_at: dict[str, Any] = {
        "execution_id": "7",
        "command_id": str(number),
        "fence": fence,
        "order": f"order {number}",
        "lease_until": "soon",
        "scope": {},
        "workload": {},
    }
    return ClaimedCommand.model_construct(**looked_at)


def outcome(of: ClaimedCommand, data: Any = None) -> Outcome:
    return Outcome(execution_id="7", command_id=of.command_id, fence=0, status="done", data=data)


class Counting:
    """Step follows step, up to a last one."""

    def __init__(self, last: int) -> None:
        self.last = last

    def next_command(self, before: ClaimedCommand, ended: Outcome) -> ClaimedCommand | None:
        number = int(before.command_id) + 1
        return command(number, before.fence) if number <= self.last else None


def chain(ended: int, last: int = 1000, data: Any = None) -> SpeculativeRun:
    """Whose first `ended` commands have ended, a second after each other, while the next one runs."""
    speculation: Any = Counting(last)
    chain = SpeculativeRun(command(1), speculation, Lease())
    for number in range(ended):
        step(chain, float(number), data)
    return chain


def step(chain: SpeculativeRun, now: float = 0.0, data: Any = None) -> None:
    chain.end(outcome(chain.newest.command, data), now)
    if chain.speculate() is not None:
        chain.newest.begun = True


def accepted(*numbers: int) -> dict[tuple[str, str], str]:
    return {("7", str(number)): "accepted" for number in numbers}


def names(outcomes: list[Outcome]) -> list[tuple[str, int, str | None]]:
    return [(each.command_id, each.fence, each.order) for each in outcomes]


def test_outcomes_go_in_order_under_the_anchors_fence() -> None:
    running = chain(3)
    assert running.ready
    assert names(running.send()) == [("1", 1, None), ("2", 1, "order 2"), ("3", 1, "order 3")]
    assert not running.ready
    unsent = running.next_anchor()
    assert unsent is not None
    assert (unsent.command_id, unsent.order) == ("4", "order 4")


def test_what_is_accepted_is_done_with_and_the_next_is_the_anchor() -> None:
    running = chain(3)
    running.send()
    step(running)
    assert names(running.apply_results(accepted(1, 2, 3))) == [("1", 1, None), ("2", 1, "order 2"), ("3", 1, "order 3")]
    assert running.lease_moved_to(command(4, 20)) == []
    assert names(running.send()) == [("4", 20, None)]
    assert running.newest.command.command_id == "5"


def test_what_stands_behind_a_refusal_is_kept() -> None:
    running = chain(3)
    running.send()
    assert len(running.apply_results({**accepted(1, 3), ("7", "2"): "stale"})) == 1
    assert running.leased.command_id == "2"
    assert running.lease_moved_to(command(2, 20)) == []
    assert names(running.send()) == [("2", 20, None), ("3", 20, "order 3")]


def test_a_later_lease_means_that_the_outcomes_before_it_are_in_the_log() -> None:
    running = chain(4)
    running.send()
    running.apply_results({})
    running.doubtful = True
    assert not running.ready
    taken = running.lease_moved_to(command(3, 20))
    assert taken is not None
    assert [each.command_id for each in taken] == ["1", "2"]
    assert running.ready
    assert names(running.send()) == [("3", 20, None), ("4", 20, "order 4")]


@pytest.mark.parametrize("change", [{"order": "another"}, {"command_id": "9"}])
def test_a_lease_for_something_else_is_not_the_chains(change: dict[str, Any]) -> None:
    running = chain(2)
    assert running.lease_moved_to(command(2, 20).model_copy(update=change)) is None
    assert names(running.send()) == [("1", 1, None), ("2", 1, "order 2")]


def test_steps_begin_while_few_are_unreported() -> None:
    running = chain(MAX_UNREPORTED_STEPS - 1, data=None)
    running.newest.begun = False
    for link in running.steps:
        link.ended = 0.0
    assert running.may_begin(0.5)
    assert not running.may_begin(1.0)
    running.newest.begun = True
    step(running, 0.0)
    running.newest.begun = False
    assert not running.may_begin(0.5)
    running.send()
    running.apply_results(accepted(1))
    assert running.may_begin(0.5)


def test_a_step_begins_when_all_before_it_are_reported() -> None:
    running = chain(1)
    running.newest.begun = False
    running.send()
    running.apply_results(accepted(1))
    assert running.may_begin(1000.0) is True
    running.newest.begun = True
    assert running.may_begin(1000.0) is False


def test_large_outcomes_count_by_their_bytes() -> None:
    running = chain(2, data="x" * (MAX_UNREPORTED_BYTES // 2))
    running.newest.begun = False
    assert not running.may_begin(0.5), "more is unreported than may be lost with the worker"
    # and go one by one
    assert len(running.send()) == 1


@pytest.mark.parametrize(("size", "begins"), [(MAX_UNREPORTED_BYTES - 1, True), (MAX_UNREPORTED_BYTES, False)])
def test_a_step_begins_below_the_limit_of_unreported_bytes(size: int, begins: bool) -> None:
    running = chain(2)
    running.newest.begun = False
    running.steps[0].bytes = 1
    running.steps[1].bytes = size - 1
    assert running.may_begin(0.5) is begins


def test_no_report_is_longer_than_its_bound() -> None:
    assert len(chain(MAX_UNREPORTED_STEPS + 5).send()) == MAX_UNREPORTED_STEPS


def test_a_report_that_was_too_large_is_halved_until_nothing_is_left_of_it() -> None:
    running = chain(5)
    sizes = []
    while True:
        sizes.append(len(running.send()))
        if not running.send_half():
            break
    assert sizes == [5, 2, 1]


def test_it_ends_when_nothing_follows_that_may_run_speculatively() -> None:
    running = chain(3, last=3)
    assert running.has_ended
    assert running.speculate() is None
    running.send()
    assert running.next_anchor() is None
    running.apply_results(accepted(1, 2, 3))
    assert not running.steps


def test_what_is_taken_back_leaves_the_outcomes_before_it() -> None:
    running = chain(2)
    running.remove_newest()
    assert running.has_ended
    assert running.speculate() is None
    assert len(running.send()) == 2


def test_an_outcome_waits_a_moment_for_others_unless_none_will_come() -> None:
    running = chain(1)
    assert not running.due(8, -0.01)
    assert running.due(8, 0.0)
    for _ in range(8):
        step(running)
    assert running.due(8, -0.01)
    assert chain(1, last=1).due(8, -0.01)


def test_after_an_answer_the_next_report_begins_with_the_first_that_is_left() -> None:
    running = chain(3)
    running.retry = Retry(0.0, doubtful=True)
    running.send()
    assert running.is_lease_uncertain
    running.apply_results(accepted(1))
    assert (running.sent, running.retry, running.is_lease_uncertain) == (0, None, False)
    unsent = running.next_anchor()
    assert unsent is not None and unsent.command_id == "2"
    assert running.ready


def test_what_was_sent_or_may_have_been_taken_in_is_uncertain() -> None:
    running = chain(1)
    assert not running.is_lease_uncertain
    running.retry = Retry(0.0)
    assert not running.is_lease_uncertain
    running.doubtful = True
    assert running.is_lease_uncertain and not running.ready


def test_what_is_in_it_is_known_by_name() -> None:
    running = chain(2)
    assert [running.has(("7", str(number))) for number in range(1, 5)] == [True, True, True, False]
    assert not running.has(("8", "1"))


def test_an_anchor_takes_the_lease_that_was_given() -> None:
    running = chain(2)
    given = command(2, 20)
    given.lease_until = "later"
    running.lease_moved_to(given)
    assert (running.leased.fence, running.leased.lease_until) == (20, "later")


def test_no_report_is_larger_than_its_bound_unless_one_outcome_is() -> None:
    running = chain(5, data="x" * (MAX_UNREPORTED_BYTES // 2 - 200))
    assert len(running.send()) == 2
    assert len(chain(3, data="x" * (2 * MAX_UNREPORTED_BYTES)).send()) == 1
