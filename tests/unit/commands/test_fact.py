"""What a log holds of an outcome."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.commands.fact import fact_of, references
from noetl_serverless.engine.events import Event
from noetl_serverless.engine.state import Command
from noetl_serverless.errors import InvalidRequest
from noetl_serverless.limits import INLINE_BYTES, LOOP_INLINE_BYTES, SET_VALUE_BYTES
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


# -- which item has set what


def set_by(status: str = "done", end: int | None = 14, **more: Any) -> Any:
    """Of a report of the frame of the items 10 to 19 that ends before `end`."""
    command = Command(key="each#1", kind="frame", attempt=1, frame=(3, 10, 20, 4))
    done = end is not None and {"start": 10, "end": end, "ok": end - 10, "failed": 0}
    key = {"execution_id": "1", "command_id": "each#1.3", "fence": 1, "status": status}
    outcome = Outcome.model_validate({**key, **({"frame": done, "data": [1] * (end - 10)} if end else {}), **more})
    return fact_of(outcome, command, 0, "w").payload.get("set_by")


def test_a_frame_says_which_item_has_set_each_key() -> None:
    assert set_by(set={"a": 1}, set_refs={"b": reference()}, set_by={"a": 12, "b": 10}) == {"a": 12, "b": 10}
    assert set_by(set={"a": 1}, set_by={}) is None, "its items ran in order"
    assert set_by() is None


def test_of_a_worker_that_does_not_say_all_was_set_by_the_last_item_of_its_report() -> None:
    assert set_by(set={"a": 1}, set_refs={"b": reference()}) == {"a": 13, "b": 13}
    assert set_by("deferred", None, delay=1, set={"a": 1}) == {"a": 19}
    assert set_by("error", None, set={"a": 1}) == {"a": 19}


@pytest.mark.parametrize("given", [{"a": 9}, {"a": 20}, {"b": 12}, {"a": 12, "b": 12}])
def test_an_item_that_is_not_in_the_frame_and_a_key_that_is_not_set_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest, match="an item from 10 to 19 for each key that is set"):
        set_by(set={"a": 1}, set_by=given)


# -- what is set by reference

STEP = Command(key="a#1", kind="step", attempt=1)


def reference(name: str = "1", execution_id: str = "1", **more: Any) -> dict[str, Any]:
    return {
        "kind": "result_ref",
        "ref": f"noetl://execution/{execution_id}/result/a/0000000{name}",
        "store": "memory",
        "key": f"{execution_id}/a/{name}.json",
        "meta": {"bytes": 100_000, "sha256": name * 64},
        **more,
    }


def reported(**given: Any) -> Event:
    names = {"execution_id": "1", "command_id": "a#1@1", "fence": 1, "status": "done"}
    return fact_of(Outcome.model_validate({**names, **given}), STEP, 0, "w")


def test_what_is_set_by_reference_stands_beside_what_is_set() -> None:
    payload = reported(set={"n": 1}, set_refs={"big": reference()}).payload
    assert (payload["set"], payload["set_refs"]) == ({"n": 1}, {"big": reference()})
    assert "set_refs" not in reported(set={"n": 1}).payload, "a plain step's event has grown"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"set": {"x": 1}, "set_refs": {"x": reference()}}, "both as a value and by reference"),
        ({"set_refs": {"x": {"kind": "result_ref"}}}, "not a valid reference"),
        ({"set_refs": {"x": reference(preview="y" * SET_VALUE_BYTES)}}, "`set.x` of "),
        ({"set_refs": {str(n): reference(preview="y" * 50_000) for n in range(3)}}, "`set` of "),
        ({"set": {"x": "y" * 60_000, "y": "y" * 60_000}, "set_refs": {"z": reference(preview="z" * 12_000)}}, "`set` "),
        ({"set": {"x": "y" * SET_VALUE_BYTES}}, "`set.x` of "),
    ],
)
def test_what_is_wrong_with_a_reference_or_too_much_is_refused(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        reported(**given)
    assert expected in caught.value.detail


def test_each_stored_value_has_a_row_whatever_became_of_the_command() -> None:
    refs = {"big": reference("2"), "same": reference("2"), "all": {**reference("3"), "kind": "manifest", "key": ""}}
    del refs["all"]["key"]
    for more in ({"ref": reference("1")}, {"status": "deferred", "delay": 1.0}):
        rows = references(reported(set_refs=refs, **more))
        expected = ["1/a/1.json", "1/a/2.json"] if "ref" in more else ["1/a/2.json"]
        assert [(row["key"], row["bytes"]) for row in rows] == [(key, 100_000) for key in expected]
