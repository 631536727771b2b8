"""Pure code can reach nothing that outlives it."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from types import BuiltinFunctionType, GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType
from typing import Any

import pytest

from noetl_serverless.tools.pure_code import BUILTINS, METHODS, is_pure

PURE = [
    "result = {'n': n + 1}",
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\nresult = {'v': fib(10)}",
    "def main(rows: list[dict], *rest, key='id', **more) -> dict:\n    return {r[key]: r for r in rows}",
    "result = sum(r['i'] for r in rs)",
    "total: int = 0\nfor _ in range(3):\n    total += _\nelse:\n    print(f'{total:>5}', total)",
    "try:\n    result = int(text)\nexcept (ValueError, TypeError) as e:\n    result = str(e)\nfinally:\n    pass",
    "if not rows: raise ValueError('none')\nassert rows\nresult = sorted(rows, key=lambda row: row['n'])[0:2]",
    "data = dict(rows)\ndata.update(a=1)\ndel data['a']\nresult = [k.strip() for k in data if (n := len(k)) > 2]",
    "n = 0\ndef add():\n    global n\n    n += 1\nadd()\nwhile True:\n    break\nresult = ','.join(['a', *b])",
]
IMPURE = {
    "an import": "import json\nresult = 1",
    "an import from": "from os import environ",
    "a class": "class C: pass",
    "a decorator": "@print\ndef f(): pass",
    "another attribute": "result = rows.rows",
    "a dunder attribute": "result = ().__class__.__base__.__subclasses__()",
    "the globals of a function": "def f(): pass\nf.__globals__['x'] = 1",
    "the frame of a generator": "g = (x for x in [1])\ng.gi_frame.f_back",
    "the traceback of an exception": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    e.__traceback__.tb_frame",
    "an attribute that is set": "def f(): pass\nf.index = 1",
    "an attribute that is deleted": "def f(): pass\ndel f.index",
    "attributes in a format": "result = '{0.__globals__}'.format(f)",
    "attributes in a mapped format": "result = '{f.__globals__}'.format_map({'f': f})",
    "attributes in a pattern": "match n:\n    case object(__class__=c): pass",
    "builtins": "__builtins__['len'] = 1",
    "a builtin that imports": "__import__('os')",
    "a builtin that evaluates": "eval('1')",
    "a builtin that is revealed": "open = 1\ndel open\nopen('x')",
    "a builtin that is an argument": "def f(getattr): pass",
    "a builtin that is a function": "def exec(): pass",
    "a builtin that is an exception's name": "try: pass\nexcept Exception as vars: pass",
    "a builtin that is global": "def f():\n    global globals\n    return globals",
    "an exception that ends the process": "raise SystemExit",
    "a name in full width": "ｅｖａｌ('1')",
    "an attribute in full width": "result = f.__ｇlobals__",
    "a type that is made": "result = type('C', (), {})",
    "a pattern": "match n:\n    case 1: pass",
    "a group of exceptions": "try: pass\nexcept* ValueError: pass",
    "a context": "with x: pass",
    "a coroutine": "async def main(): pass",
    "an asynchronous generator": "result = (x async for x in rows)",
    "a generator": "def f(): yield 1",
    "a file": "print('x', file=open('x', 'w'))",
    "what only site defines": "quit()",
}
HARMLESS = BuiltinFunctionType | GetSetDescriptorType | MemberDescriptorType | MethodDescriptorType | int | float | None
SAMPLES: list[Any] = ["text", b"bytes", 1, 1.5, True, 1j, None, ..., [1], (1,), {"a": 1}, {1}, frozenset({1})]


def reachable() -> Iterator[Any]:
    """Values of all types that pure code can have, with what it takes to make them."""
    yield from SAMPLES
    yield from (iter(sample) for sample in SAMPLES if hasattr(sample, "__iter__"))
    yield from ({}.keys(), {}.values(), {}.items(), list[int], {}.keys().mapping)
    yield from (map(len, []), filter(len, []), zip(), enumerate([]), reversed([]), reversed({}), range(3), slice(3))
    yield from (iter(int, 1), iter(range(3)), (lambda: None), (x for x in ""), len, [].append, "".join, int | str)
    yield from (getattr(builtins, name) for name in BUILTINS)
    yield from (getattr(builtins, name)() for name in BUILTINS if name[0].isupper())


def purity(code: str) -> bool:
    return is_pure(ast.parse(code))


@pytest.mark.parametrize("code", PURE)
def test_code_that_computes_is_pure(code: str) -> None:
    compile(code, "", "exec")
    assert purity(code)


@pytest.mark.parametrize("name", IMPURE)
def test_code_that_may_leave_something_is_not(name: str) -> None:
    compile(IMPURE[name], "", "exec")
    assert not purity(IMPURE[name])


def test_no_listed_attribute_leads_to_an_object_that_outlives_the_code() -> None:
    leads = {
        f"{type(value).__name__}.{name}"
        for value in reachable()
        for name in METHODS
        if hasattr(value, name)
        if not isinstance(getattr(value, name), HARMLESS)
    }
    assert not leads


def test_no_listed_builtin_reads_names_runs_text_or_opens_files() -> None:
    dangerous = "breakpoint compile delattr dir eval exec getattr globals input locals open setattr super type vars"
    assert not BUILTINS.intersection(dangerous.split())
    assert all(hasattr(builtins, name) for name in BUILTINS)
