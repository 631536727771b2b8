"""Results of a loop end where an answer has no more room, and go on from there."""

from __future__ import annotations

import pytest

from noetl_serverless.control_plane.routes.results import _page_of
from noetl_serverless.limits import MIB, PAGE_BYTES
from noetl_serverless.store.executions import ResultRange

LARGE = "x" * MIB


def places(parts: list[ResultRange]) -> list[tuple[int, int, bool]]:
    return [(part.start, part.end, part.data is None) for part in parts]


def test_results_that_fit_are_all_there() -> None:
    parts = [ResultRange(0, 2, [1, 2], None), ResultRange(2, 5, None, {"ref": "r"}), ResultRange(5, 6, [None], None)]
    assert _page_of(parts, 0, PAGE_BYTES) == (parts, None)
    assert _page_of([], 0, PAGE_BYTES) == ([], None)


def test_a_page_of_results_ends_within_a_part_and_goes_on_there() -> None:
    parts = [
        ResultRange(0, 5, [LARGE] * 5, None),
        ResultRange(5, 9, None, {"ref": "r"}),
        ResultRange(9, 11, [LARGE] * 2, None),
    ]
    kept, following = _page_of(parts, 0, PAGE_BYTES)
    assert (places(kept), following) == ([(0, 3, False)], 3)
    kept, following = _page_of(parts, 3, PAGE_BYTES)
    assert (places(kept), following) == ([(3, 5, False), (5, 9, True), (9, 10, False)], 10)
    kept, following = _page_of(parts, 10, PAGE_BYTES)
    assert (places(kept), following) == ([(10, 11, False)], None)


@pytest.mark.parametrize("first", [0, 7])
def test_a_page_has_one_result_at_least(first: int) -> None:
    kept, following = _page_of([ResultRange(first, first + 2, ["x" * (5 * MIB), 1], None)], first, PAGE_BYTES)
    assert (places(kept), following) == ([(first, first + 1, False)], first + 1)
