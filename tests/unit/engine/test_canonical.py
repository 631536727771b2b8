"""One text for one value, however it is written."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noetl_serverless.engine.canonical import canonical, checksum

TEXTS = st.text(max_size=6) | st.sampled_from(["1e5", "1.0", "null", "\x7f", "\u2028", "\ud800", '"\\/', "\0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS,
    lambda parts: st.lists(parts) | st.tuples(parts, parts) | st.dictionaries(TEXTS | st.integers(), parts),
    max_leaves=12,
)


@given(VALUES)
@example({"n": 1.0, "m": 1e16, "k": 1e-7, "nan": float("nan")})
@example({"b": [1, True, {"é": "\u20ac"}], "a": "x", "B": -0.0})
def test_a_checksum_is_that_of_the_canonical_text(value: Any) -> None:
    assert checksum(value) == sha256(canonical(value).encode(errors="surrogatepass")).hexdigest()


def test_the_order_of_keys_and_the_kind_of_a_whole_number_do_not_count() -> None:
    assert checksum({"a": 1, "b": [2.0]}) == checksum({"b": (2,), "a": 1.0})


def test_a_data_class_counts_as_the_object_of_its_fields() -> None:
    @dataclass
    class Point:
        y: int
        x: int

    assert checksum(Point(1, 2)) == checksum({"x": 2, "y": 1})


@pytest.mark.parametrize("value", [b"x", object(), {"k": {1j}}])
def test_what_has_no_json_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        checksum(value)
