"""What is too large for an event or a state is refused where it is made, by its name."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless import limits
from noetl_serverless.engine.limits import check_scope, check_set
from noetl_serverless.playbook.values import InvalidValue


def text(size: int) -> str:
    """A text of so many bytes of JSON."""
    return "x" * (size - 2)


def many(size: int, each: int) -> dict[str, Any]:
    return {f"v{number}": text(each) for number in range(size // each)}


def test_a_value_may_have_its_limit_and_not_a_byte_more() -> None:
    check_set({}, {})
    check_set({}, {"x": text(limits.SET_VALUE_BYTES)})
    with pytest.raises(InvalidValue, match=rf"ctx\.x would have {limits.SET_VALUE_BYTES + 1} bytes"):
        check_set({}, {"x": text(limits.SET_VALUE_BYTES + 1)})


def test_so_may_all_that_one_step_sets() -> None:
    full = many(limits.SET_BYTES, limits.SET_VALUE_BYTES)
    check_set({}, full)
    with pytest.raises(InvalidValue, match="what one step sets"):
        check_set({}, {**full, "more": 1})


def test_and_all_of_ctx_with_what_was_set_before() -> None:
    ctx = many(limits.CTX_BYTES, limits.SET_VALUE_BYTES)
    with pytest.raises(InvalidValue, match="ctx would have"):
        check_set(ctx, {"more": 1})
    first = next(iter(ctx))
    check_set({**ctx, first: 1, "other": 1}, {"more": 1})


def test_and_what_a_step_reads() -> None:
    ctx = many(limits.SCOPE_BYTES, limits.INLINE_BYTES)
    with pytest.raises(InvalidValue, match="what the step reads"):
        check_scope({"ctx": ctx, "steps": {"a": {"data": 1}}})
    check_scope({"ctx": {**ctx, next(iter(ctx)): 1}, "steps": {}})
