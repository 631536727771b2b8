from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from noetl_serverless.worker.drain.reporter import Reporter


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_of_several_flushes_the_first_due_is_kept_though_it_is_due_at_once(
    loop: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[float] = []
    unused: Any = None

    async def wait() -> None:
        reports = Reporter(unused, unused, unused, unused, unused)
        clock = asyncio.get_running_loop().time
        monkeypatch.setattr(reports, "_flush", lambda: flushed.append(clock()))
        begun = clock()
        # uvloop gives no time for what is due by now
        for seconds in (30.0, 0.0, 0.0, 20.0):
            reports._flush_at(begun + seconds)
        await asyncio.sleep(0.05)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(wait())
    assert len(flushed) == 1
