from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.tools.postgres_array import array_text


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
