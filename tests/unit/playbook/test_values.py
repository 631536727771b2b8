"""The domain of values: what is taken, what becomes of it, and what is refused, and where."""

from __future__ import annotations

import enum
import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl_serverless.limits import VALUE_DEPTH
from noetl_serverless.playbook.values import InvalidValue, as_read, stored

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT
SCALARS = SCALARS.filter(lambda value: not isinstance(value, float) or math.isfinite(value))
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


class Colour(enum.StrEnum):
    RED = "red"


@given(VALUES)
def test_what_is_stored_is_read_back_byte_for_byte_in_the_same_order(value: Any) -> None:
    written = orjson.dumps(stored(value))
    assert written == orjson.dumps(value), "a value of the domain was changed"
    assert orjson.dumps(stored(orjson.loads(written))) == written, "reading it back gave another value"


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        ({"b": 1, "a": 2}, {"b": 1, "a": 2}),
        ({1: "int", 1.5: "float", None: "null"}, {"1": "int", "1.5": "float", "null": "null"}),
        ({True: "yes"}, {"true": "yes"}),
        ((1, (2, 3)), [1, [2, 3]]),
        (range(3), [0, 1, 2]),
        ({"b": 1, "a": 2}.keys(), ["b", "a"]),
        ({"x", "y", "a"}, ["a", "x", "y"]),
        (Colour.RED, "red"),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (1.0, 1.0),
    ],
)
def test_values_that_python_has_and_json_has_not_become_those_of_json(value: Any, becomes: Any) -> None:
    assert json.dumps(stored(value)) == json.dumps(becomes)


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "place", "pointer", "rule"),
    [
        ({"scores": [1.0, {"mean": math.nan}]}, "scores[1].mean", "/scores/1/mean", "NaN"),
        ([math.inf], "[0]", "/0", "infinite"),
        ({"n": 2**64}, "n", "/n", "64 bits"),
        ({"n": -(2**63) - 1}, "n", "/n", "64 bits"),
        ({"a/b": "x\0y"}, "a/b", "/a~1b", "NUL"),
        (["\ud800"], "[0]", "/0", "surrogate"),
        ({"\ud800": 1}, "", "", "surrogate"),
        ({"k\0": 1}, "", "", "NUL"),
        ({1: "a", "1": "b"}, "1", "/1", "same string"),
        ({(1, 2): "a"}, "", "", "key is of type tuple"),
        ({"raw": b"x"}, "raw", "/raw", "bytes"),
        ([1j], "[0]", "/0", "complex"),
        ({"m": object()}, "m", "/m", "object"),
    ],
)
def test_what_is_outside_the_domain_is_refused_with_its_place_and_the_rule(
    value: Any, place: str, pointer: str, rule: str
) -> None:
    with pytest.raises(InvalidValue, match=rule) as refused:
        stored(value)
    assert (refused.value.place(), refused.value.pointer()) == (place, pointer)


def test_nesting_is_bounded_however_deep_the_value() -> None:
    assert stored(nested(VALUE_DEPTH)) == nested(VALUE_DEPTH)
    for levels in (VALUE_DEPTH + 1, 100_000):
        with pytest.raises(InvalidValue, match="nested deeper"):
            stored(nested(levels))


def test_what_is_stored_shares_nothing_with_the_value_it_came_from() -> None:
    inner: dict[str, Any] = {"list": [1]}
    kept = stored({"inner": inner})
    inner["list"].append(2)
    assert kept == {"inner": {"list": [1]}}


READ = st.recursive(
    SCALARS | st.sampled_from(["\0", "\\u0000"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | st.just("\0"), inner, max_size=4),
)


@given(READ, st.integers(0, 4))
def test_json_counts_as_stored_as_it_was_read_only_if_it_is(value: Any, levels: int) -> None:
    content = orjson.dumps(value)
    read = orjson.loads(content)
    try:
        made = orjson.dumps(stored(read, levels=levels))
    except InvalidValue:
        assert not as_read(read, content, levels), "a value that cannot be stored was told to be stored"
        return
    assert made == content
    assert as_read(read, content, levels) or b"\\u0000" in content, "it has to be looked at once more for nothing"


@pytest.mark.parametrize("wide", [[[]] * 300, {str(n): {} for n in range(300)}])
def test_what_is_wide_is_not_taken_for_deep(wide: Any) -> None:
    assert as_read(wide, orjson.dumps(wide), 2)
    assert not as_read([wide], orjson.dumps([wide]), 2)
