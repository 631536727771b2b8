"""What may stand in place of what."""

from __future__ import annotations

import pytest

from .generate import Source


def mutated(line: str) -> set[str]:
    body = "\n".join(f"    {one}" for one in line.splitlines())
    return {fault.mutated for fault in Source("a.py", f"async def f():\n{body}\n").faults()}


@pytest.mark.parametrize(
    ("line", "others"),
    [
        ("a < b", {"a <= b", "a >= b"}),
        ("a is None", {"a is not None"}),
        ("a and b", {"a or b", "a", "b"}),
        ("(a or b).c", {"(a and b).c", "(a).c", "(b).c"}),
        ("not a", {"a"}),
        ("a - 1", {"a + 1", "a - 2"}),
        ("a[-3]", {"a[3]", "a[-4]", "a[-0]"}),
        ("return a", {"return None"}),
        ("return None", set()),
        ("a = b", {"a = None"}),
        ("a.b = c", {"pass", "a.b = None"}),
        ("a += 5", {"a -= 5", "a += 6", "a += 0", "pass"}),
        ("await save(a)", {"pass"}),
        ("save(a, soon=True)", {"pass", "save(a)", "save(a, soon=False)"}),
        ("max(a, b)", {"min(a, b)", "pass"}),
        ("sorted(a, key=k)", {"list(a)", "sorted(a)", "pass"}),
        ("raise Gone()", {"pass"}),
        ("a['key']", {"a['keyX']"}),
        ("raise Gone('it is gone') from None", {"pass"}),
        ("if a:\n    return", {"if not a:"}),
        ("if a or b:\n    return", {"if not (a or b):", "if a and b:", "if a:", "if b:"}),
        ("if a == b:\n    return", {"if a != b:"}),
        ("[a for a in b if a]", {"[a for a in b if not a]", "[a for a in b if True]"}),
        ("for a in b:\n    continue", {"break", "pass"}),
        ("try:\n    pass\nexcept Gone:\n    return", {"raise"}),
        ("with lock:\n    return", {"if True:"}),
        ("match a:\n    case 'x':\n        pass\n    case _:\n        pass", {"", "case 'xX':"}),
    ],
)
def test_a_line_is_replaced_by(line: str, others: set[str]) -> None:
    assert mutated(line) == others


@pytest.mark.parametrize(
    "line",
    [
        '"""Said of it."""',
        "log.info('%s rows', 5)",
        "a: dict[str, 'Later']",
        "assert a > 1",
        "import a",
        "Json = dict[str, Any]",
    ],
)
def test_messages_are_left_alone(line: str) -> None:
    assert mutated(line) == set()
