from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from noetl_serverless.tools.given_names import Context, arguments_of

PARTS = {
    "workload": {"limit": 1, "day": "today", "fetch": 0},
    "ctx": {"limit": 2, "item": 3},
    "iter": {"item": 4},
    "execution_id": "7",
    "fetch": {"rows": []},
}


def test_it_holds_its_parts_and_below_them_the_keys_of_iter_ctx_and_workload() -> None:
    flat = {"limit": 2, "day": "today", "item": 4}
    assert Context(PARTS) == {**PARTS, **flat}
    assert Context({"ctx": {"ctx": 1}}) == {"ctx": {"ctx": 1}}
    assert Context({}) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda context: context.update(a=1),
        lambda context: context.__setitem__("a", 1),
        lambda context: context.pop("ctx"),
        lambda context: context.popitem(),
        lambda context: context.setdefault("a", 1),
        lambda context: context.clear(),
        lambda context: context.__delitem__("ctx"),
        lambda context: context.__ior__({"a": 1}),
    ],
)
def test_it_cannot_be_changed(change: Callable[[dict[str, Any]], object]) -> None:
    context = Context(PARTS)
    with pytest.raises(TypeError, match=r"write set: \{ctx.name: ...\}"):
        change(context)
    assert context["ctx"] == PARTS["ctx"]


def test_a_function_is_called_with_what_it_takes() -> None:
    def of_all(a: int, **more: int) -> None: ...
    def of_some(a: int, context: dict[str, Any], json: int = 1) -> None: ...
    def of_all_and_some(args: dict[str, Any], **more: int) -> None: ...

    inputs, given = {"a": 1, "b": 2}, {"context": {}, "args": {"x": 1}, "json": "a module"}
    assert arguments_of(of_all.__code__, inputs, given) is inputs
    assert arguments_of(of_some.__code__, inputs, given) == {"a": 1, "context": {}}
    assert arguments_of(of_some.__code__, {"a": 1, "context": 5, "b": 2}, given) == {"a": 1, "context": 5, "b": 2}
    assert arguments_of(of_all_and_some.__code__, inputs, given) == {"args": {"x": 1}, **inputs}
