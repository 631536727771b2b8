"""Which type keeps all digits of a column of numbers in CSV."""

from __future__ import annotations

import pyarrow as pa
import pytest

from noetl_serverless.tools.csv_numbers import WIDE, may_be_inexact, number_type


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "-9223372036854775809"], WIDE),
        (["+9007199254740993", " 007\t", None], WIDE),
        (["9" * 38, "-" + "9" * 38, "0" * 50], WIDE),
        (["9" * 39, "1"], pa.string()),
        (["1", "9" * 400], pa.string()),
        (["1", "9" * 5000], pa.string()),
        (["9007199254740992", "1.5"], pa.float64()),
        (["9007199254740993", "1.5"], pa.string()),
        (["0" * 5000 + "12345678901234567890"], WIDE),
        (["1.5", "9007199254740993"], pa.string()),
        (["12345678901234567890", "nan"], pa.string()),
        (["1", "+2", ""], pa.string()),
        (["1", "+2"], pa.float64()),
        (["1e300", "2.5", "nan", "-inf", "Infinity"], pa.float64()),
        (["1e999", "2.5"], pa.string()),
        (["12345678901234567.25", "1"], pa.float64()),
        (["0x1f", "1.5"], pa.string()),
        (["1", "x"], pa.string()),
        ([None], pa.float64()),
    ],
)
def test_the_type_of_a_column_keeps_every_digit_of_its_integers(texts: list[str | None], kind: pa.DataType) -> None:
    columns = [pa.array([text], pa.string()) for text in texts]
    for parts in (columns, [pa.array(texts, pa.string())], [*columns, pa.array([], pa.string())]):
        assert number_type(parts) == kind, f"{texts!r:.200} in {len(parts)} parts"


def test_values_are_looked_at_until_they_are_known_to_be_texts() -> None:
    columns = iter([pa.array(["1"]), pa.array(["x"]), pa.array(["2"])])
    assert number_type(columns) == pa.string()
    assert len(list(columns)) == 1, "what comes after a text changes nothing"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.0**53], True),
        ([-1e20], True),
        ([float("inf")], True),
        ([2.0**53 - 1, float("nan"), None], False),
        ([], False),
    ],
)
def test_numbers_may_be_inexact_where_floats_do_not_have_every_integer(values: list[float], expected: bool) -> None:
    assert may_be_inexact(pa.array(values, pa.float64())) is expected
    assert not may_be_inexact(pa.array([2**60])), "an integer has all its digits"
