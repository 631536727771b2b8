"""What a log holds of an outcome."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.commands.fact import fact_of
from noetl_serverless.engine.state import Command
from noetl_serverless.limits import INLINE_BYTES, LOOP_INLINE_BYTES
from noetl_serverless.protocol import Outcome

ITEMS: list[Any] = [None, 1, "two", {"three": 3}, [4], 5.5, "", True]


def frame(start: int, end: int) -> dict[str, Any]:
    command = Command(key="each#1", kind="frame", attempt=1, frame=(start, start, end, 1))
    done = {"start": start, "end": end, "ok": end - start, "failed": 0}
    outcome = Outcome.model_validate(
        {
            "execution_id": "1",
            "command_id": f"each#1.{start}",
            "fence": 1,
            "status": "done",
            "data": ITEMS[start:end],
            "frame": done,
        }
    )
    return fact_of(outcome, command, 0, "w").payload


@pytest.mark.parametrize("cuts", [(4,), (1, 2, 3), (7,), (1, 2, 3, 4, 5, 6, 7)])
def test_the_size_of_a_loop_s_results_is_the_same_however_it_was_cut(cuts: tuple[int, ...]) -> None:
    parts = zip((0, *cuts), (*cuts, len(ITEMS)), strict=True)
    assert sum(frame(start, end)["bytes"] for start, end in parts) == frame(0, len(ITEMS))["bytes"]


def test_a_frame_that_is_stored_elsewhere_is_of_a_loop_whose_results_are_too() -> None:
    # else it would depend on the cut whether a loop's results stand in its log
    assert LOOP_INLINE_BYTES < INLINE_BYTES
