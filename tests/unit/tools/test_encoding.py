from __future__ import annotations

import datetime
import decimal
import json
import pathlib
import uuid
from typing import Any

import pyarrow
import pytest

from noetl_serverless.tools.encoding import NotJson, encode, plain_decimal, plain_value


def through(value: Any) -> Any:
    return json.loads(encode(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "2024-01-02T03:04:05+00:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.Path("a/b"), "a/b"),
        ({3, 1, 2}, [1, 2, 3]),
        ((1, (2,)), [1, [2]]),
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        (float("nan"), None),
        (float("inf"), None),
        (pyarrow.table({"a": [1, 2]}), [{"a": 1}, {"a": 2}]),
    ],
)
def test_what_json_lacks_becomes_the_nearest_it_has(value: Any, expected: Any) -> None:
    assert through({"x": value}) == {"x": expected}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", 12),
        ("12.50", 12.5),
        ("0.1", 0.1),
        ("1E+3", 1000),
        ("12345678901234567890123", "12345678901234567890123"),
        ("0.1234567890123456789", "0.1234567890123456789"),
        ("NaN", None),
    ],
)
def test_a_decimal_is_a_number_only_if_no_digit_is_lost(text: str, expected: Any) -> None:
    found = plain_decimal(decimal.Decimal(text))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, object()]}, "result['a'][1] is of type object, which is not JSON"),
        (2**70, "result is an int beyond 64 bits"),
        ({"n": [2**70]}, "result['n'][0] is an int beyond 64 bits"),
        ([b"x"], "result[0] is of type bytes"),
        (["\ud800"], "result[0] is text that is not valid Unicode"),
        (len, "result is of type builtin_function_or_method"),
    ],
)
def test_what_is_no_json_is_named_with_its_place(value: Any, message: str) -> None:
    with pytest.raises(NotJson) as caught:
        encode(value)
    assert str(caught.value).startswith(message)


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotJson):
        encode(value)


def test_database_values_become_json() -> None:
    value = {"b": b"\x00\xff", "n": 2**64, "d": decimal.Decimal("1.5"), "t": datetime.time(1, 2), 1: float("nan")}
    assert plain_value(value) == {"b": "AP8=", "n": str(2**64), "d": 1.5, "t": "01:02:00", "1": None}
