from __future__ import annotations

import asyncio

from noetl_serverless.control_plane.watchers import Watchers


async def test_all_who_watch_an_execution_are_woken_and_nobody_else() -> None:
    watchers = Watchers()
    with watchers.watch("1") as first, watchers.watch("1") as second, watchers.watch("2") as other:
        watchers.notify("1", ended=True)
        await asyncio.gather(first.wait(), second.wait())
        assert not other.is_set()


async def test_nothing_is_kept_of_those_who_left() -> None:
    watchers = Watchers()
    with watchers.watch("1"), watchers.watch("1"):
        pass
    watchers.notify("1", ended=True)
    assert watchers._waiting == {}


async def test_what_happens_in_quick_succession_is_notified_once() -> None:
    watchers = Watchers()
    with watchers.watch("1") as event:
        watchers.notify("1", ended=False)
        watchers.notify("1", ended=False)
        assert not event.is_set(), "it is told a moment later, with what else happens until then"
        await event.wait()
        event.clear()
        watchers.notify("1", ended=False)
        await event.wait()


async def test_an_end_is_notified_at_once() -> None:
    watchers = Watchers()
    with watchers.watch("1") as event:
        watchers.notify("1", ended=False)
        watchers.notify("1", ended=True)
        assert event.is_set()
