from __future__ import annotations

import threading
from typing import Any

from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.tools.plans import SHORT_CHARACTERS
from noetl_serverless.worker.plans import MAX_NAMED_PLANS, PlanCache


async def test_each_text_is_compiled_once() -> None:
    compiled: list[str] = []

    def compile(text: str) -> Any:
        compiled.append(text)
        return text.upper()

    plans = PlanCache(compile)
    await plans.add({"a": "x"})
    await plans.add({"a": "x", "b": "y"})
    assert compiled == ["x", "y"]
    assert (plans.get("a"), plans.get("b"), plans.get("c")) == ("X", "Y", None)


async def test_a_text_is_compiled_where_it_holds_up_least() -> None:
    threads: dict[str, int] = {}

    def compile(text: str) -> Any:
        threads[text] = threading.get_ident()
        return text

    short, long, repeated = "x" * SHORT_CHARACTERS, "x" * (SHORT_CHARACTERS + 1), "a: &a [1, 2]\nb: [*a, *a]"
    await PlanCache(compile).add({"a": short, "b": long, "c": repeated})
    assert threads[short] == threading.get_ident(), "it waits for the interpreter in another thread"
    assert threads[long] != threading.get_ident(), "nothing else runs until it is compiled"
    assert threads[repeated] != threading.get_ident(), "a short text may come to very much"


async def test_the_least_recently_used_goes() -> None:
    plans = PlanCache(lambda text: text, max_plans=2)  # type: ignore[arg-type, return-value]
    await plans.add({"a": "x", "b": "y"})
    plans.get("a")
    await plans.add({"c": "z"})
    assert (plans.get("a"), plans.get("b"), plans.get("c")) == ("x", None, "z")


async def test_only_the_most_recent_are_named() -> None:
    plans = PlanCache(lambda text: text)  # type: ignore[arg-type, return-value]
    await plans.add({str(index): "x" for index in range(100)})
    plans.get("3")
    assert len(plans.recent()) == MAX_NAMED_PLANS
    assert plans.recent()[:2] == ["3", "99"]


async def test_what_does_not_compile_is_reported() -> None:
    def refuse(text: str) -> Any:
        raise InvalidPlaybook("line 3")

    plans = PlanCache(refuse)
    await plans.add({"a": "x"})
    assert (plans.get("a"), plans.compile_error("a"), plans.compile_error("b")) == (None, "line 3", None)
