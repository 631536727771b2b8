from __future__ import annotations

import pytest

from noetl_serverless.playbook.python_body import parse
from noetl_serverless.playbook.python_names import EVERYTHING, Keys, context_reads, input_names_in, keys_read


def keys(code: str, name: str = "context") -> set[Keys] | None:
    found = keys_read(code, parse(code), name)
    return None if found is None else set(found)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("result = context['workload']['x']", {("workload", "x")}),
        ("result = context.get('workload', {}).get('x', 1)", {("workload", "x")}),
        ("return context['ctx'].get('x')", {("ctx", "x")}),
        ("result = context.get('fetch')['rows'][0]", {("fetch", "rows")}),
        ("result = 'fetch' in context or 'x' not in context['ctx']", {("fetch",), ("ctx", "x")}),
        ("w = context['workload']\nresult = w['x']", {("workload",)}),
        ("result = (context.get('ctx') or {}).get('x')", {("ctx",)}),
        ("result = context['a'], context.get('b')", {("a",), ("b",)}),
        ("def f():\n    return context['a']\nclass C:\n    x = context['b']\nresult = f()", {("a",), ("b",)}),
        ("result = [context['a'] for _ in rows] + [lambda: context['b']]", {("a",), ("b",)}),
        ("for name in context: pass", {()}),
        ("result = dict(context)", {()}),
        ("result = context[name]", {()}),
        ("result = context.get(name)", {()}),
        ("result = context.items()", {()}),
        ("context['x'] = 1", {()}),
        ("def f():\n    global context\n    return context['x']", {("x",)}),
        ("def main(context):\n    return context['workload']['x']", {("workload", "x")}),
        ("def f(n, context=context['x'], *, m=context.get('y')):\n    return context['z']", {("x",), ("y",)}),
        ("@context['x']\nclass C(context['y'], key=context['z']): pass", {("x",), ("y",), ("z",)}),
        ("def main(context, n):\n    return n", set()),
    ],
)
def test_how_code_reads_the_context(code: str, expected: set[Keys]) -> None:
    assert keys(code) == expected


@pytest.mark.parametrize(
    "code",
    [
        "result = n",
        "result = 'context'",
        "result = self.context",
        "import ssl\ncontext = ssl.create_default_context()\nresult = context.options",
        "with make() as context:\n    context.run()",
        "context = 1\nif context:\n    return context",
        "def f(context):\n    return context",
        "def f():\n    context = {}\n    return context",
        "f = lambda context: context['x']",
        "from decimal import localcontext as context\ncontext()",
    ],
)
def test_a_context_of_the_codes_own_is_not_that_of_the_execution(code: str) -> None:
    assert keys(code) is None


def test_the_names_of_the_input() -> None:
    for code, expected in (
        ("result = input_data['x']", ("input_data",)),
        ("return args.get('x', input_data)", ("input_data", "args")),
        ("def main(input_data):\n    return input_data", ("input_data",)),
        ("def f(*args):\n    return args", ()),
        ("args = 1\nresult = args", ()),
        ("result = kwargs", ()),
    ):
        assert input_names_in(code, parse(code)) == expected, code


def test_what_the_context_must_hold_for_it() -> None:
    steps, labels = {"a", "b"}, ["b", "first"]
    for path, expected in (
        (("workload", "x"), {"workload": {"x"}}),
        (("workload",), {"workload": None}),
        (("ctx", "x"), {"ctx": {"x"}}),
        (("iter", "user"), {"iter": {"user"}}),
        (("a", "rows"), {"a": None}),
        (("first",), {"first": None}),
        (("execution_id",), {"execution_id": None}),
        (("limit",), {"workload": {"limit"}, "ctx": {"limit"}, "iter": {"limit"}}),
        (("_prev",), {}),
        ((), {EVERYTHING: None}),
    ):
        assert dict(context_reads([path], steps, labels)) == expected, path
    both = context_reads([("ctx", "x"), ("ctx", "y"), ("limit",)], steps, labels)
    assert dict(both) == {"ctx": {"x", "y", "limit"}, "workload": {"limit"}, "iter": {"limit"}}
    assert dict(context_reads([], steps, labels)) == {}
