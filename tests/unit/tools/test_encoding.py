from __future__ import annotations

import dataclasses
import datetime
import decimal
import json
import pathlib
import uuid
from typing import Any

import pyarrow
import pytest

from noetl_serverless.playbook.values import InvalidValue
from noetl_serverless.tables.values import plain_decimal, plain_value
from noetl_serverless.tools.encoding import NotJson, encode, encode_result


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
        (2**70, "result is an int that does not fit in 64 bits"),
        ({"n": [2**70]}, "result['n'][0] is an int that does not fit in 64 bits"),
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


# -- results


class Frame:
    """Stands for the class of pandas, which is not installed here."""

    __module__ = "pandas.core.frame"

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def to_dict(self, how: str) -> Any:
        assert how == "records"
        return self.rows


Frame.__name__ = "DataFrame"


@pytest.mark.parametrize(
    "value",
    [
        {"b": 1, "a": [1.5, True, "ü"]},
        {"b": None, "a": datetime.datetime(2024, 1, 2, 3, 4, 5, 600, tzinfo=datetime.UTC)},
        [uuid.UUID(int=1), datetime.date(2024, 2, 29), datetime.time(1, 2, 3)],
        [None, uuid.UUID(int=1), datetime.date(2024, 2, 29), datetime.time(1, 2, 3)],
        [None, decimal.Decimal("0.5"), pathlib.Path("a/b"), (1, 2)],
        "\\u0000 in six characters",
    ],
)
def test_a_result_is_written_in_one_form_whatever_stands_beside_it(value: Any) -> None:
    assert encode_result(value) == b'{"data":' + encode(value) + b"}"


class Other(dict[str, int]):
    def items(self) -> Any:
        return {"other": 1}.items()


@dataclasses.dataclass
class Data:
    _hidden: int

    def __post_init__(self) -> None:
        self.added = 2


OFF = datetime.timezone(datetime.timedelta(seconds=1172))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Data(1), {"_hidden": 1}),
        (Other(), {"other": 1}),
        (datetime.datetime(1900, 1, 1, tzinfo=OFF), "1900-01-01T00:00:00+00:19:32"),
    ],
)
@pytest.mark.parametrize("beside", [0, None])
def test_what_has_several_forms_is_written_in_one_whatever_stands_beside_it(
    value: Any, written: Any, beside: int | None
) -> None:
    assert json.loads(encode_result([value, beside])) == {"data": [written, beside]}


def test_what_a_value_does_by_itself_is_done_within_the_limit_of_memory() -> None:
    lifted, seen = False, []

    class Lifted:
        def __enter__(self) -> None:
            nonlocal lifted
            lifted = True

        def __exit__(self, *_: object) -> None:
            nonlocal lifted
            lifted = False

    class Watched(dict[str, int]):
        def items(self) -> Any:
            seen.append(lifted)
            return super().items()

    assert encode_result(Watched(a=1), Lifted()) == b'{"data":{"a":1}}'
    assert seen == [False]


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([None, float("nan")], "data[1]: NaN"),
        ({"a": {"b": float("-inf")}}, "data.a.b: an infinite number"),
        ({"a": "x\0y"}, "data.a: a string contains a NUL character"),
        (["\ud800"], "data[0]: a string contains an unpaired surrogate"),
        (b"x", "data: a value of type bytes"),
        (2**64, "data: an integer does not fit in 64 bits"),
        (pyarrow.table({"a": [1.0, float("nan")]}), "data[1].a: NaN"),
        (Frame([{"a": float("inf")}]), "data[0].a: an infinite number"),
        (len, "data: a value of type builtin_function_or_method"),
    ],
)
def test_a_result_that_cannot_be_stored_is_named_with_its_place(value: Any, place: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        encode_result(value)
    assert str(caught.value).startswith(place)


def test_what_is_missing_in_a_frame_of_pandas_is_null() -> None:
    assert json.loads(encode_result(Frame([{"a": float("nan"), "b": 1}]))) == {"data": [{"a": None, "b": 1}]}
