from __future__ import annotations

import asyncio

from tests.unit.loaded import loaded

from noetl_serverless.control_plane.watchers import Watchers
from noetl_serverless.engine.state import State, Status
from noetl_serverless.records import LoadedExecution


def execution(id: str, status: Status = "running") -> LoadedExecution:
    return loaded(State(id, status=status), head=1)


async def test_all_who_watch_an_execution_are_woken_and_nobody_else() -> None:
    watchers = Watchers()
    with watchers.watch("1") as first, watchers.watch("1") as second, watchers.watch("2") as other:
        watchers.notify(execution("1", "completed"))
        await asyncio.gather(first.wait(), second.wait())
        assert not other.is_set()


async def test_nothing_is_kept_of_those_who_left() -> None:
    watchers = Watchers()
    with watchers.watch("1"), watchers.watch("1"), watchers.expect_end() as expected:
        expected.name("1")
    watchers.notify(execution("1", "completed"))
    assert watchers._waiting == {}
    assert watchers._expected_ends == {}


async def test_what_happens_in_quick_succession_is_notified_once() -> None:
    watchers = Watchers()
    with watchers.watch("1") as event:
        watchers.notify(execution("1"))
        watchers.notify(execution("1"))
        assert not event.is_set(), "it is told a moment later, with what else happens until then"
        await event.wait()
        event.clear()
        watchers.notify(execution("1"))
        await event.wait()


async def test_an_end_is_notified_at_once() -> None:
    watchers = Watchers()
    with watchers.watch("1") as event:
        watchers.notify(execution("1"))
        watchers.notify(execution("1", "failed"))
        assert event.is_set()


async def test_who_expects_an_end_gets_its_state_and_nobody_else_does() -> None:
    watchers = Watchers()
    with watchers.expect_end() as expected, watchers.expect_end() as other:
        expected.name("1")
        other.name("2")
        watchers.notify(execution("1"))
        assert not expected.state.done(), "it goes on"
        watchers.notify(execution("1", "cancelled"))
        watchers.notify(execution("1", "cancelled"))
        assert expected.state.result().status == "cancelled"
        assert not other.state.done()


async def test_only_the_execution_that_was_named_last_is_expected() -> None:
    watchers = Watchers()
    with watchers.expect_end() as expected:
        expected.name("1")
        expected.name("2")
        watchers.notify(execution("1", "completed"))
        assert not expected.state.done()
        watchers.notify(execution("2", "failed"))
        assert expected.state.result().status == "failed"
