"""JSON with a long text in it is read by another parser than the rest, and that must not show."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl_serverless.limits import RESULT_DEPTH
from noetl_serverless.playbook import json_reading
from noetl_serverless.playbook.json_reading import FEW_VALUES, LARGE_BYTES, loads, read_json
from noetl_serverless.playbook.values import as_read

LONG = "x" * LARGE_BYTES

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def as_orjson(content: bytes) -> tuple[Any, bool]:
    value = orjson.loads(content)
    return value, as_read(value, content, RESULT_DEPTH)


def same(one: Any, other: Any) -> bool:
    """Also in type, and in the order of names."""
    return repr(one) == repr(other)


@given(values)
def test_a_long_text_changes_nothing_beside_it(value: Any) -> None:
    content = orjson.dumps({"long": LONG, "beside": value})
    read, expected = read_json(content, RESULT_DEPTH), as_orjson(content)
    assert read[1] == expected[1]
    assert same(read[0].pop("beside"), expected[0].pop("beside"))
    assert read[0] == expected[0]
    assert same(loads(content)["beside"], value)


@pytest.mark.parametrize(
    "beside",
    [
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "1e308",
        "-0",
        "-0.0",
        "0.1e-400",
        '"\\u0000"',
        '"\\\\u0000"',
        '"\\ud83d\\ude00"',
        "[" * RESULT_DEPTH + "]" * RESULT_DEPTH,
        "[" * (RESULT_DEPTH - 1) + "]" * (RESULT_DEPTH - 1),
        "[" * 300 + "]" * 300,
        '{"a":1,"b":2,"a":3}',
        f"[{'1,' * FEW_VALUES}18446744073709551616]",
    ],
    ids=lambda text: text[:30],
)
def test_what_parsers_disagree_on_is_as_ever(beside: str) -> None:
    content = f'{{"long":"{LONG}","beside":{beside}}}'.encode()
    read, expected = read_json(content, RESULT_DEPTH), as_orjson(content)
    assert read[1] == expected[1]
    assert same(read[0]["beside"], expected[0]["beside"])
    assert same(loads(content)["beside"], expected[0]["beside"])


@pytest.mark.parametrize(
    "beside", ["NaN", "Infinity", "1e400", '"\\ud800"', '"\n"', '"\xff"', "[1,]", "", "1 2", "'a'"]
)
def test_what_is_no_json_is_refused(beside: str) -> None:
    content = f'{{"long":"{LONG}","beside":{beside}}}'.encode("latin-1")
    with pytest.raises(orjson.JSONDecodeError):
        read_json(content, RESULT_DEPTH)


def test_a_long_text_is_not_left_to_the_slower_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    content = orjson.dumps({"long": LONG, "n": 1.5})
    rows = orjson.dumps([{"id": n, "name": "a"} for n in range(LARGE_BYTES // 20)])
    slower: list[int] = []

    class Slower:
        @staticmethod
        def loads(content: bytes) -> Any:
            slower.append(len(content))
            return orjson.loads(content)

    monkeypatch.setattr(json_reading, "orjson", Slower)
    assert read_json(content, RESULT_DEPTH) == ({"long": LONG, "n": 1.5}, True)
    assert slower == []
    read_json(rows, RESULT_DEPTH)
    assert slower == [len(rows)]
