from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.tools.postgres_array import array_text, listed


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "{}"),
        ([1, 2.5, None, True], "{1,2.5,NULL,t}"),
        (["null", "", 'q"u', "back\\", "a,b"], '{"null","","q\\"u","back\\\\","a,b"}'),
        ([[1, 2], [3, 4]], "{{1,2},{3,4}}"),
        ([{"a": "x"}], '{"{\\"a\\":\\"x\\"}"}'),
    ],
)
def test_a_list_is_written_as_an_array(values: list[Any], text: str) -> None:
    assert array_text(values) == text


def test_a_text_that_is_a_list_in_json_is_that_list_and_any_other_value_itself() -> None:
    assert [listed(text) for text in ("[1,null,2]", '["x","y,z"]', "[[1],[2]]", "[]")] == [
        *([1, None, 2], ["x", "y,z"], [[1], [2]], []),
    ]
    for value in ("{1,NULL}", "[2:3]={1,2}", "[", "", "x", None, 5, [1]):
        assert listed(value) == value, value
