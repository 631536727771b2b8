from __future__ import annotations

import pytest

from noetl_serverless.plurals import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 executions"), (1, "1 execution"), (2, "2 executions"), (1200, "1,200 executions")]
)
def test_one_is_singular_and_every_other_number_is_plural(number: int, text: str) -> None:
    assert counted(number, "execution") == text


def test_a_noun_may_have_a_plural_of_its_own() -> None:
    assert [counted(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]
