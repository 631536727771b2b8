"""Which commits go together in one statement, and what becomes of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pg8000.exceptions import DatabaseError
from tests.unit.loaded import loaded

from noetl_serverless.engine import events as e
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.state import State
from noetl_serverless.errors import Unavailable
from noetl_serverless.records import Claimant, ExecutionCommit
from noetl_serverless.store import step_commits
from noetl_serverless.store.step_commits import StepCommits
from noetl_serverless.store.steps import Step

W1 = Claimant("w-1", "shared", 30.0, 1)
W2 = Claimant("w-2", "shared", 30.0, 1)


def step(id: int, worker: str = "w-1") -> Step:
    execution = loaded(State(str(id), status="running"), head=4)
    events = [Event(e.CALL_DONE, 5, seq=3), Event(e.ISSUED, 5, seq=4, payload={"kind": "step"})]
    return Step(
        ExecutionCommit(execution=execution, events=events, expected_head=2, closes=[("c", 1)], worker=worker),
        None,
        None,
    )


class FakeDatabase:
    """Answers a statement when it is told to; `ids` are those of each statement, in the order of its parameters."""

    def __init__(self) -> None:
        self.ids: list[list[int]] = []
        self.answers: list[asyncio.Future[None]] = []
        self.refused: set[int] = set()

    async def call(self, statement: Any, values: Sequence[Any]) -> Any:
        # an array of bigint: 20 bytes of header, then 4 of length and 8 of value for each
        ids = [int.from_bytes(values[0][at + 4 : at + 12], "big") for at in range(20, len(values[0]), 12)]
        self.ids.append(ids)
        self.answers.append(asyncio.get_running_loop().create_future())
        await self.answers[-1]
        if self.refused & set(ids):
            raise DatabaseError({"C": "NO001"})
        return [[",".join("0" for _ in ids), "2026-01-01T00:00:00Z"]]


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
def commits(database: FakeDatabase) -> StepCommits:
    answering: Any = database
    return StepCommits(answering)


async def begin(commits: StepCommits, *calls: tuple[Sequence[int], Claimant | None]) -> list[asyncio.Task[Any]]:
    tasks = []
    for ids, claimant in calls:
        worker = claimant.worker if claimant is not None else "w-1"
        tasks.append(asyncio.create_task(commits.commit([step(id, worker) for id in ids], claimant)))
        await asyncio.sleep(0)
    return tasks


async def answered(database: FakeDatabase, number: int) -> None:
    """Let the statement end, and what it keeps waiting go on."""
    database.answers[number].set_result(None)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_arrives_alone_is_sent_at_once(commits: StepCommits, database: FakeDatabase) -> None:
    (task,) = await begin(commits, ([1], W1))
    assert database.ids == [[1]]
    await answered(database, 0)
    assert task.result().committed == {"1"}


async def test_what_arrives_meanwhile_goes_together_in_the_order_of_the_locks(
    commits: StepCommits, database: FakeDatabase
) -> None:
    tasks = await begin(commits, ([1], W1), ([9, 3], W1), ([5], None))
    assert database.ids == [[1]]
    await answered(database, 0)
    assert database.ids == [[1], [3, 5, 9]]
    await answered(database, 1)
    assert [task.result().committed for task in tasks] == [{"1"}, {"3", "9"}, {"5"}]


async def test_two_workers_and_two_commits_of_one_execution_do_not_go_together(
    commits: StepCommits, database: FakeDatabase
) -> None:
    tasks = await begin(commits, ([1], W1), ([2], W1), ([3], W2), ([2], W1))
    await answered(database, 0)
    assert database.ids[1:] == [[2]]
    await answered(database, 1)
    await answered(database, 2)
    await answered(database, 3)
    assert sorted(database.ids[2:]) == [[2], [3]]
    assert [task.result().committed for task in tasks] == [{"1"}, {"2"}, {"3"}, {"2"}]


async def test_a_commit_that_is_larger_than_a_batch_goes_by_itself(
    commits: StepCommits, database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_commits, "MAX_STEPS", 2)
    tasks = await begin(commits, ([1], W1), ([2, 3, 4], W1), ([5], W1))
    for number in range(3):
        await answered(database, number)
    assert database.ids == [[1], [2, 3, 4], [5]]
    assert [task.result().committed for task in tasks] == [{"1"}, {"2", "3", "4"}, {"5"}]


async def test_a_statement_that_waits_for_a_row_holds_up_the_others_for_a_moment(
    commits: StepCommits, database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_commits, "SLOW_SECONDS", 0.001)
    first, second = await begin(commits, ([1], W1), ([2], W1))
    await asyncio.sleep(0.05)
    assert database.ids == [[1], [2]]
    await answered(database, 1)
    assert second.done() and not first.done()
    await answered(database, 0)
    assert first.result().committed == {"1"}


async def test_of_several_calls_only_the_one_that_cannot_be_written_fails(
    commits: StepCommits, database: FakeDatabase
) -> None:
    database.refused = {3}
    tasks = await begin(commits, ([1], W1), ([2], W1), ([3], W1), ([4], W1))
    for number in range(5):
        await answered(database, number)
    assert database.ids == [[1], [2, 3, 4], [2], [3], [4]]
    assert [task.exception() is None for task in tasks] == [True, True, False, True]
    with pytest.raises(DatabaseError):
        tasks[2].result()


async def test_while_the_database_is_away_each_caller_gets_the_error(
    commits: StepCommits, database: FakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = await begin(commits, ([1], W1), ([2], W1), ([3], W1))
    database.answers[0].set_exception(Unavailable("away"))
    for _ in range(5):
        await asyncio.sleep(0)
    database.answers[1].set_exception(Unavailable("away"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert [type(task.exception()) for task in tasks] == [Unavailable] * 3
    (task,) = await begin(commits, ([4], W1))
    await answered(database, 2)
    assert task.result().committed == {"4"}


async def test_a_caller_that_leaves_keeps_nobody_waiting(commits: StepCommits, database: FakeDatabase) -> None:
    first, second, third = await begin(commits, ([1], W1), ([2], W1), ([3], W1))
    second.cancel()
    first.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert database.ids == [[1], [3]]
    await answered(database, 1)
    assert third.result().committed == {"3"}
    assert first.cancelled() and second.cancelled()
