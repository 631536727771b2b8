from __future__ import annotations

import datetime
import json
from typing import Any

import orjson
import pytest

from noetl_serverless.limits import ERROR_BYTES
from noetl_serverless.playbook.values import stored
from noetl_serverless.worker.errors import bounded, brief, clean, step_error


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
def test_what_is_said_of_an_error_is_made_fit_and_never_refused(value: Any, becomes: Any) -> None:
    for made in (step_error("k", "c", "m", more=value)["more"], bounded({"more": value})["more"]):
        assert json.dumps(made) == json.dumps(becomes)
        assert stored(made) == made


def test_a_value_that_holds_itself_is_cut() -> None:
    value: list[Any] = []
    value.append(value)
    orjson.dumps(stored(step_error("k", "c", "m", more=value)))
