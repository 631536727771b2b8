from __future__ import annotations

import datetime
import json
from typing import Any

import orjson
import pytest

from noetl_serverless.errors import NotFound, Problem, Unavailable
from noetl_serverless.limits import ERROR_BYTES
from noetl_serverless.playbook.values import stored
from noetl_serverless.telemetry.masking import Masking
from noetl_serverless.worker.execution import errors
from noetl_serverless.worker.execution.errors import (
    MAX_DEPTH,
    MAX_MEMBERS,
    MAX_MESSAGE_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    bounded,
    brief,
    clean,
    from_problem,
    step_error,
)


def test_what_names_an_error_is_kept_however_long_the_rest_is() -> None:
    error = {"details": "y" * 1500, "message": "x" * 1500, "code": "c", "at": 7}
    found = brief(error, 2048)
    assert found.keys() == {"message", "code", "at", "details"}
    assert found["message"] == "x" * 1500
    assert len(found["details"]) < 500


def test_an_error_is_no_larger_than_an_event_may_hold() -> None:
    error = clean({"code": "c", "message": "m", **{f"n{number}": "\u0001" * 8000 for number in range(20)}})
    assert len(orjson.dumps(error)) <= ERROR_BYTES
    assert (error["code"], error["message"]) == ("c", "m")


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        ("a\0b\ud800", "a\ufffdb?"),
        (float("nan"), None),
        (2**70, str(2**70)),
        ((1, {2}), [1, [2]]),
        ({1: datetime.date(2024, 1, 2)}, {"1": "2024-01-02"}),
        (b"x", "b'x'"),
    ],
)
def test_an_error_description_is_made_fit_and_never_refused(value: Any, becomes: Any) -> None:
    for made in (step_error("k", "c", "m", more=value)["more"], bounded({"more": value})["more"]):
        assert json.dumps(made) == json.dumps(becomes)
        assert stored(made) == made


def test_a_value_that_holds_itself_is_cut() -> None:
    value: list[Any] = []
    value.append(value)
    orjson.dumps(stored(step_error("k", "c", "m", more=value)))


def nested(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        (datetime.datetime(2024, 1, 2, 3, 4, tzinfo=datetime.UTC), "2024-01-02T03:04:00+00:00"),
        ({3, 1, 2}, [1, 2, 3]),
        (2**64 - 1, 2**64 - 1),
        (2**64, str(2**64)),
        (-(2**63), -(2**63)),
        (float("inf"), None),
        (True, True),
        ("y" * (MAX_TEXT_CHARACTERS + 1), "y" * MAX_TEXT_CHARACTERS + "…"),
        ("y" * MAX_TEXT_CHARACTERS, "y" * MAX_TEXT_CHARACTERS),
    ],
)
def test_what_is_bounded_keeps_its_value_where_it_can(value: Any, becomes: Any) -> None:
    assert bounded({"x": value}) == {"x": becomes}
    assert type(bounded({"x": value})["x"]) is type(becomes)


def test_of_many_members_the_first_are_kept_and_of_deep_ones_the_text() -> None:
    assert len(bounded({"x": list(range(MAX_MEMBERS + 5))})["x"]) == MAX_MEMBERS
    assert len(bounded({str(n): n for n in range(MAX_MEMBERS + 5)})) == MAX_MEMBERS
    assert bounded({"x": nested(1, MAX_DEPTH - 1)}) == {"x": nested(1, MAX_DEPTH - 1)}
    assert bounded({"x": nested([2], MAX_DEPTH - 1)}) == {"x": nested("[2]", MAX_DEPTH - 1)}


def test_a_message_is_cut_to_what_a_screen_shows() -> None:
    assert clean({"code": "c", "message": "m" * MAX_MESSAGE_CHARACTERS})["message"] == "m" * MAX_MESSAGE_CHARACTERS
    assert (
        clean({"code": "c", "message": "m" * (MAX_MESSAGE_CHARACTERS + 1)})["message"]
        == "m" * MAX_MESSAGE_CHARACTERS + "…"
    )


@pytest.mark.parametrize(
    ("problem", "retryable"),
    [(NotFound("gone"), False), (Unavailable("away"), True), (Problem("oh"), True)],
)
def test_a_problem_is_worth_a_retry_if_it_is_the_server_s(problem: Problem, retryable: bool) -> None:
    assert from_problem(problem, "kind") == {
        "kind": "kind",
        "code": problem.code,
        "retryable": retryable,
        "message": problem.detail,
    }


def test_an_error_that_fits_is_left_alone_and_one_without_room_is_empty() -> None:
    error = {"code": "c", "n": 1}
    assert brief(error, len(orjson.dumps(error))) == error
    assert brief(error, len(orjson.dumps(error)) - 1) == {"code": "c"}
    assert brief(error, 2) == {}


def test_of_a_list_or_an_object_so_many_members_are_shown() -> None:
    many = range(MAX_MEMBERS + 1)
    found = bounded({"list": [*many], "object": {f"n{number}": number for number in many}})
    assert found == {"list": [*range(100)], "object": {f"n{number}": number for number in range(100)}}


def test_what_identifies_an_error_is_not_masked_whatever_this_process_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Masking()
    monkeypatch.setattr(errors, "masking", seen)
    seen.register("python")
    seen.register("exception")
    found = clean({"kind": "python", "code": "python.exception", "retryable": True, "message": "no python", "at": 3})
    assert found == {"kind": "python", "code": "python.exception", "retryable": True, "message": "no ***", "at": 3}
