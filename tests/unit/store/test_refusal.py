"""Whose fault an error is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from noetl_serverless.errors import InvalidRequest
from noetl_serverless.store.refusal import refusal_of


@pytest.mark.parametrize("value", [2**70, "half \ud800 of it"])
def test_a_value_that_cannot_be_written_is_the_caller_s(value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        orjson.dumps({"a": value})
    assert isinstance(refusal_of(caught.value), InvalidRequest)


def test_a_mistake_of_ours_is_not_the_caller_s() -> None:
    # orjson raises TypeError, and so does whoever awaits what cannot be awaited
    error = TypeError("object NoneType can't be used in 'await' expression")
    assert refusal_of(error) is error
