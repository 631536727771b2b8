from __future__ import annotations

import asyncio

from noetl_serverless.control_plane.wakeups import Wakeups


async def test_all_who_watch_an_execution_are_woken_and_nobody_else() -> None:
    wakeups = Wakeups()
    with wakeups.watch("1") as first, wakeups.watch("1") as second, wakeups.watch("2") as other:
        wakeups.wake("1")
        await asyncio.gather(first.wait(), second.wait())
        assert not other.is_set()


async def test_nothing_is_kept_of_those_who_left() -> None:
    wakeups = Wakeups()
    with wakeups.watch("1"), wakeups.watch("1"):
        pass
    wakeups.wake("1")
    assert wakeups._waiting == {}
