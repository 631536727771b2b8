from __future__ import annotations

import ast
import sys
import time

import pytest

from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.playbook.code_size import MAX_SIZE, CodeTooLarge, check_compiles, compiled_size
from noetl_serverless.playbook.load import load_plan

from .playbooks import playbook


def size(code: str, limit: int = 10**9) -> int:
    return compiled_size(ast.parse(code), limit)


def beyond_nodes(code: str) -> int:
    return size(code) - sum(1 for _ in ast.walk(ast.parse(code)))


def loops(levels: int, exits: int, indent: str = "") -> str:
    """Each level in the `finally` of the one around it."""
    if not levels:
        return f"{indent}result = n\n"
    ways_out = f"{indent}  if n: break\n" * exits
    return f"{indent}while n:\n{indent} try:\n{ways_out}{indent} finally:\n{loops(levels - 1, exits, indent + '  ')}"


def names(count: int) -> list[str]:
    return [f"a{i}" for i in range(count)]


@pytest.mark.parametrize(
    "code",
    [
        "",
        "x = 1\ny = [x, 'a', *z]\nprint(f'{x} of {y:>5}')",
        "def f(a, b=1, *c, d: int = 2, **e) -> int:\n    return a.b[c] if d else e",
        "import a.b as c\nfrom d import e, f\nclass A(B):\n    x: int = 1",
        "try:\n    a\nexcept E as e:\n    b\nelse:\n    c",
        "for a in b:\n    if c: continue\n    break\nelse:\n    d",
        "with a as b, c:\n    d",
        "x = [y for y in z]\nw = lambda v: v",
        "match a:\n    case 1 | 'b': c\n    case _: pass",
    ],
)
def test_what_is_compiled_once_counts_as_its_nodes(code: str) -> None:
    assert beyond_nodes(code) == 0


@pytest.mark.parametrize(
    ("body", "copies"),
    [
        (" try:\n  a\n finally:\n  END\n", 2),
        (" try:\n  return\n finally:\n  END\n", 3),
        (" try:\n  a\n except E:\n  return\n else:\n  return\n finally:\n  END\n", 4),
        (" while a:\n  try:\n   if a: break\n   if b: continue\n   return\n  finally:\n   END\n", 5),
        # the way out of one is none of another
        (" try:\n  return\n finally:\n  b\n try:\n  a\n finally:\n  END\n", 2),
        # what a function in it returns leaves no `try`
        (" try:\n  def g():\n   return\n finally:\n  END\n", 2),
        (" try:\n  a\n finally:\n  END\n  return\n", 2),
        (" try:\n  try:\n   return\n  finally:\n   a\n finally:\n  END\n", 3),
        # each of the three copies of the inner one is a way out of the outer one
        (" try:\n  try:\n   return\n  finally:\n   return\n finally:\n  END\n", 2 + 1 + 3),
        # each of the three copies of the outer one has two of the inner one
        (" try:\n  return\n finally:\n  try:\n   a\n  finally:\n   END\n", 3 * 2),
    ],
)
def test_a_finally_counts_once_for_each_way_out_of_its_try(body: str, copies: int) -> None:
    # an expression, a name and that it is loaded
    assert size(f"def f():\n{body}".replace("END", "END; n")) - size(f"def f():\n{body}") == copies * 3


def test_a_way_out_counts_what_it_leaves() -> None:
    assert beyond_nodes("def f():\n try:\n  a\n except E:\n  return\n") == 4
    assert beyond_nodes("def f():\n with a, b:\n  with c:\n   return\n  return") == (3 + 2) * 4


def test_a_function_counts_once_for_each_function_around_it() -> None:
    assert beyond_nodes("lambda: lambda: lambda: lambda: 0") == 3 + 2 + 1


def test_a_name_counts_for_the_functions_that_it_may_be_passed_through() -> None:
    # in the outermost one it is its own or the module's
    assert beyond_nodes("lambda: lambda: lambda: 0, n, m") == 2 + 1
    assert beyond_nodes("lambda: lambda: lambda: (0, n, m)") == 2 + 1 + 2 * 2 * 4


def test_a_function_counts_the_names_around_it() -> None:
    assert beyond_nodes(f"lambda {','.join(names(64))}: lambda: 0") == 1 + 2


def test_a_function_does_not_count_the_names_in_its_class() -> None:
    assert beyond_nodes(f"class A:\n {'='.join(names(64))} = 0\n f = lambda: 0") == 1


def test_a_function_counts_the_length_of_the_name_of_its_function() -> None:
    assert beyond_nodes(f"def {'f' * 640}():\n return lambda: 0") == 1 + 10


def test_names_that_are_declared_count() -> None:
    assert beyond_nodes(f"global {','.join(names(64))}") == 64
    assert beyond_nodes(f"def f():\n global {','.join(names(64))}\n return lambda: 0") == 64 + 1 + 2


@pytest.mark.parametrize("pattern", ["[{}]", "[[{}], *_]", "(1 | [{}])", "A({})"])
def test_a_pattern_counts_the_square_of_its_captures(pattern: str) -> None:
    sizes = [size(f"match x:\n case {pattern.format(','.join(names(count)))}: pass") for count in (100, 200)]
    assert sizes[1] - sizes[0] == pytest.approx((200**2 - 100**2) / 2, rel=0.04)


def test_a_call_a_class_and_a_pattern_count_the_pairs_of_its_keywords() -> None:
    keywords = ",".join(f"{name}=0" for name in names(200))
    for code in (f"f({keywords})", f"class A({keywords}): pass", f"match x:\n case A({keywords}): pass"):
        assert beyond_nodes(code) == 200**2 / 2 / 20


def test_what_is_beyond_the_limit_is_not_counted() -> None:
    assert size("n\n" * 1000, limit=3001) == 3001
    assert size("n\n" * 1000, limit=3000) == 3001
    assert size(loops(10, 10), limit=3000) == 3001


def test_counting_takes_no_longer_than_the_text_is() -> None:
    begin = time.process_time()
    for code in (loops(40, 5), "lambda: " * 1000 + "0", "a" + ".a" * 900, "if a: b\n" + "elif a: b\n" * 900):
        size(code, limit=10**100)
    assert time.process_time() - begin < 2


ARGUMENTS = ",".join(names(900))
# not much more than is accepted, should one be compiled
TOO_LARGE = {
    "a finally in a finally": loops(3, 35),
    "a finally around many exits": loops(1, 250).replace("result = n", "a.b(c, d);" * 250),
    "lambdas in lambdas": "lambda: " * 900 + "0",
    "names through functions": f"def f({ARGUMENTS}):\n return {'lambda: ' * 90}({ARGUMENTS})",
    "a pattern": f"match x:\n case [{ARGUMENTS}]: pass",
    "keywords": f"f({','.join(f'{name}=0' for name in names(5000))})",
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_code_that_takes_too_much_is_refused_before_it_is_compiled(name: str) -> None:
    begin = time.process_time()
    with pytest.raises(CodeTooLarge, match=r"more than 300,000 nodes of it\. Nest fewer functions"):
        check_compiles(TOO_LARGE[name])
    assert time.process_time() - begin < 1


def test_a_playbook_with_it_is_refused() -> None:
    code = "".join(f"        {line}\n" for line in loops(4, 20).splitlines())
    text = playbook(f"workflow:\n  - step: a\n    tool:\n      kind: python\n      code: |\n{code}")
    with pytest.raises(InvalidPlaybook) as caught:
        load_plan(text)
    (fault,) = caught.value.faults
    assert fault.message.startswith("the code is too large to compile: Python makes more than 300,000 nodes")
    assert (fault.code, fault.pointer) == ("playbook.python_syntax", "/workflow/0/tool/code")


@pytest.mark.parametrize(
    "line",
    [
        "result = {'n': n + 1, 'rows': [row['id'] for row in rows if row]}",
        "def f(rows):\n    try:\n        return [r for r in rows]\n    finally:\n        close(rows)",
        "class A:\n    def f(self, a, b=1):\n        for x in a:\n            if x: return self.b(x, c=b)",
        "rows = [{'id': 1, 'name': 'a', 'at': [1.5, 2.5]}]",
    ],
)
def test_long_ordinary_code_is_accepted(line: str) -> None:
    code = f"{line}\n" * (100_000 // len(line))
    check_compiles(code)
    assert size(code) < MAX_SIZE / 2


@pytest.mark.parametrize(
    "code",
    ["x =", "a\n  b", "x = '\0'", "a\nyield 1", "def f():\n x = 1\n global x", "break", "f(a=1, a=2)", "x = (1"],
)
def test_what_is_wrong_is_reported_as_by_compile(code: str) -> None:
    errors = []
    for check in (check_compiles, lambda text: compile(text, "<code>", "exec", dont_inherit=True)):
        with pytest.raises((SyntaxError, ValueError)) as caught:
            check(code)
        errors.append((type(caught.value), str(caught.value), getattr(caught.value, "offset", None)))
    assert errors[0] == errors[1]


def test_what_is_nested_as_deep_as_a_text_may_be_is_accepted() -> None:
    check_compiles("x = 1" + " + 1" * 2000)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax of Python 3.12")
def test_types_have_scopes_too() -> None:
    parameters = ", ".join(f"{name}: int" for name in names(3000))
    assert size(f"def f[{parameters}](): pass\ntype A[B] = list[B]") > MAX_SIZE
