from __future__ import annotations

import asyncio
import traceback
from types import CodeType, FunctionType
from typing import Any

import pytest

from noetl_serverless.playbook.python_body import END, FILE, compile_text
from noetl_serverless.tools import compiled_code


def run(code: CodeType, names: dict[str, Any]) -> Any:
    value = FunctionType(code, names)()
    return asyncio.run(value) if asyncio.iscoroutine(value) else value


def returned(text: str, **names: Any) -> Any:
    return run(compile_text(text), names)


def test_code_without_return_is_compiled_as_it_stands() -> None:
    text = "def f():\n    return 1\nclass C:\n    x: int = 2\nresult = [f(), (lambda: 3)()]\n"
    plain = compile(text, FILE, "exec", dont_inherit=True)
    assert compile_text(text) == plain
    assert compile_text("") == compile("", FILE, "exec", dont_inherit=True)


def test_children_name_the_file_alike() -> None:
    assert compiled_code.FILE == FILE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("return {'x': n + 1}", {"x": 2}),
        ("if n:\n    return 'yes'\nresult = 'no'", "yes"),
        ("return", None),
        ("if not n:\n    return 1", END),
        ("x = 5\ndef f():\n    return x\nreturn f()", 5),
        ("n = n + 1\nreturn n", 2),
        ("n += 1\ndel n\nreturn 'n' in globals()", False),
        ("total: int = 3\ncount: int\nfor i in range(3):\n    total: int = total + i\nreturn total", 6),
        ("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    found = str(e)\nreturn found", "division by zero"),
        ("import os.path as p, json\nfrom math import floor as f\nreturn [f(2.5), json.dumps(p.join('a', 'b'))]", None),
        ("match n:\n    case int() as m:\n        return m", 1),
        ("match {'a': 1, 'b': 2}:\n    case {'a': x, **rest}:\n        return [x, rest]", [1, {"b": 2}]),
        ("match [1, 2, 3]:\n    case [first, *others]:\n        return [first, others]", [1, [2, 3]]),
        ("with open('/dev/null') as f, open('/dev/null') as g:\n    return f.read() + g.read()", ""),
        ("return [y := n, [z for z in (1, 2)], y]", [1, [1, 2], 1]),
        ("class C:\n    n: int = 7\nreturn C.n", 7),
        ("def f(x=(y := 3)):\n    return x\nreturn [f(), y]", [3, 3]),
        ("def f(x=lambda: (yield)):\n    return 1\nreturn f()", 1),
        ("return 1" + " + 1" * 2000, 2001),
        ("from __future__ import annotations\ndef f(x: undefined): ...\nreturn f.__annotations__", {"x": "undefined"}),
        ("async def f():\n    return 4\nreturn await f()", 4),
        ("import asyncio\nawait asyncio.sleep(0)\nresult = 6", END),
        ("async def g():\n    yield 1\nreturn [x async for x in g()]", [1]),
        ("async def g():\n    yield 1\nasync for x in g():\n    return x", 1),
    ],
)
def test_code_with_return_is_the_body_of_a_function(text: str, expected: Any) -> None:
    if expected is None and "json" in text:
        expected = [2, '"a/b"']
    assert returned(text, n=1) == expected


def test_what_a_body_assigns_are_globals() -> None:
    names: dict[str, Any] = {"n": 1}
    assert run(compile_text("result = 2\ndef main():\n    return 3\nif not n:\n    return 1"), names) is END
    assert (names["result"], names["main"]()) == (2, 3)


def test_tracebacks_show_the_lines_of_the_author() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        returned("# first\n\nx = 0\nreturn 1 / x")
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (frame.filename, frame.lineno, frame.name) == (FILE, 4, "<module>")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\nyield x\nreturn 1", 2, "'yield' outside function"),
        ("yield 1", 1, "'yield' outside function"),
        ("y = yield from x\nreturn 1", 1, "'yield' outside function"),
        ("a\nfrom os import *\nreturn 1", 2, "import * only allowed at module level"),
        ("class C:\n    return 1", 2, "'return' outside function"),
        ("return 1\nx =", 2, "invalid syntax"),
    ],
)
def test_what_no_function_may_have_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(SyntaxError, match=message.replace("*", r"\*")) as caught:
        compile_text(text)
    assert caught.value.lineno == line
