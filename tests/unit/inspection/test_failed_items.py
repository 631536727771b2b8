from __future__ import annotations

from typing import Any

from noetl_serverless.inspection.failed_items import MAX_ITEMS, FailedItems

BOOM = {"code": "boom", "message": "it broke"}


def frame(start: int, *failed: int, **more: Any) -> dict[str, Any]:
    errors = {str(index): {**BOOM, "n": index} for index in failed[:10]}
    return {"start": start, "end": start + 50, "ok": 50 - len(failed), "failed": len(failed), "errors": errors, **more}


def named(found: FailedItems) -> list[tuple[Any, int]]:
    return [(item["index"], item["attempts"]) for item in found.named]


def test_a_failed_item_is_named_with_its_error_and_how_often_it_was_tried() -> None:
    found = FailedItems()
    tried = [{"index": 7, "attempt": number, "error": BOOM} for number in (1, 2, 3)]
    found.add(frame(0, 7, meta={"attempts": [*tried, {"index": 8, "attempt": 1, "error": BOOM}]}))
    found.add(frame(50))
    [item] = found.named
    assert item == {"index": 7, "error": {**BOOM, "n": 7}, "attempts": 3}
    assert (found.count, found.count - len(found.named)) == (1, 0)


def test_what_a_rule_says_of_its_attempts_counts_though_they_are_not_kept() -> None:
    found = FailedItems()
    found.add({"failed": 1, "errors": {"4": {**BOOM, "attempts": 60}}, "meta": {"attempts_dropped": 60}})
    assert named(found) == [(4, 60)]


def test_frames_may_end_in_any_order_and_the_items_are_sorted() -> None:
    found = FailedItems()
    for start in (100, 0, 50):
        found.add(frame(start, start + 3, start + 1))
    assert [index for index, _ in named(found)] == [1, 3, 51, 53, 101, 103]


def test_of_many_the_first_are_named_and_the_rest_counted() -> None:
    found = FailedItems()
    for start in range(0, 5000, 50):
        found.add(frame(start, *range(start, start + 50)))
    assert (len(found.named), found.count, found.count - len(found.named)) == (MAX_ITEMS, 5000, 5000 - MAX_ITEMS)
    assert [index for index, _ in named(found)] == [*range(10), *range(50, 60)], "each frame names ten"


def test_a_frame_that_was_given_up_shows_what_it_knows() -> None:
    found = FailedItems()
    found.add({"start": 0, "end": 4, "ok": 0, "failed": 4, "error": BOOM})
    assert found.named == [{"index": None, "error": BOOM, "attempts": 1}]
    assert found.count - len(found.named) == 3


def test_all_that_frames_name_are_listed_and_of_the_rest_where_they_are() -> None:
    found = FailedItems(None)
    for start in (50, 0):
        found.add(frame(start, *range(start, start + 50)))
    found.add(frame(100, 103))
    assert [index for index, _ in named(found)] == [*range(10), *range(50, 60), 103]
    assert found.unnamed == [{"start": 0, "end": 50, "failed": 40}, {"start": 50, "end": 100, "failed": 40}]
    assert (found.count, found.count - len(found.named)) == (101, 80)
