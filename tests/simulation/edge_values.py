"""Values that hurt: what tools may yield and templates may make that JSON, the store or another copy of a state has
otherwise, or cannot have at all.

Each is either refused, with a rule and a place, or kept in one form. The forms are written down here by hand, beside
the engine, after the rules that its users read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LARGE = 2**64
# the rules, in a word or two that their messages hold
BITS, FINITE, NUL, SURROGATE, DEPTH, TYPE, KEY, SAME = (
    "64 bits",
    "not JSON",
    "NUL",
    "surrogate",
    "nested deeper",
    "not JSON",
    "keys must be strings",
    "same string",
)


@dataclass(frozen=True, slots=True)
class EdgeValue:
    """`rule`: what it breaks, and `place`: where within the value; or it is kept as `kept` gives it."""

    name: str
    make: Callable[[], Any]
    rule: str | None = None
    place: str = ""
    kept: Callable[[], Any] | None = None

    def form(self) -> Any:
        return (self.kept or self.make)()


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def _refused(name: str, value: Any, rule: str, place: str = "") -> EdgeValue:
    return EdgeValue(name, lambda: value, rule, place)


def _kept(name: str, value: Any, kept: Any = None) -> EdgeValue:
    return EdgeValue(name, lambda: value, kept=None if kept is None else lambda: kept)


# what a tool yields: a tool is Python, and may give anything
YIELDED = {
    value.name: value
    for value in (
        _kept("2**53-1", 2**53 - 1),
        _kept("2**53+1", 2**53 + 1),
        _kept("2**63", 2**63),
        _kept("2**64-1", 2**64 - 1),
        _kept("-2**63", -(2**63)),
        _refused("2**64", 2**64, BITS),
        _refused("-2**63-1", -(2**63) - 1, BITS),
        _refused("2**70 within", {"a": [1, {"b": 2**70}]}, BITS, "a[1].b"),
        _kept("1.0", 1.0),
        _kept("-0.0", -0.0),
        _kept("5e-324", [5e-324, 1e308, 1e16, 0.1]),
        _refused("NaN", float("nan"), FINITE),
        _refused("infinity within", {"x": {"y": float("-inf")}}, FINITE, "x.y"),
        _refused("bytes", b"\x00\xff", TYPE),
        _refused("bytes within", [[b"x"]], TYPE, "[0][0]"),
        _refused("complex", 1j, TYPE),
        _refused("NUL", "a\0b", NUL),
        _refused("NUL within", {"a": {"b": ["", "\0"]}}, NUL, "a.b[1]"),
        _refused("NUL as key", {"a": {"\0": 1}}, NUL, "a"),
        _refused("a lone surrogate", "\ud800", SURROGATE),
        _refused("a lone surrogate within", {"t": ["\udfff"]}, SURROGATE, "t[0]"),
        _refused("a lone surrogate as key", {"\ud83d": 1}, SURROGATE),
        _kept("an emoji", {"\U0001f600": "é\uffff\u2028"}),
        _kept("integers as keys", {"d": {3: "c", 1: "a", 2: "b"}}, {"d": {"3": "c", "1": "a", "2": "b"}}),
        _kept("floats as keys", {1.5: "x", 0.5: "y"}, {"1.5": "x", "0.5": "y"}),
        _kept("booleans as keys", {True: 1, False: 0}, {"true": 1, "false": 0}),
        _kept("null as key", {None: 1, "a": 2}, {"null": 1, "a": 2}),
        _refused("colliding keys", {"d": {1: "a", "1": "b"}}, SAME, "d"),
        _refused("colliding keys of null", {None: "a", "null": "b"}, SAME),
        _refused("tuples as keys", {("a", 1): 2}, KEY),
        _kept("keys in no order", {"b": 1, "a": {"z": 1, "aa": 2, "": 3}, "10": 1, "9": 2}),
        _kept("a tuple", {"t": (1, (2, 3))}, {"t": [1, [2, 3]]}),
        _kept("a set", {"s": {3, 1, 2}}, {"s": [1, 2, 3]}),
        _kept("a range", range(3), [0, 1, 2]),
        _kept("nothing", {"a": None, "b": [], "c": {}, "d": ""}),
        # it stands one level deep in what the step gives
        EdgeValue("100 levels", lambda: nested(100)),
        # a result leaves room for what it is wrapped into
        EdgeValue("110 levels", lambda: nested(110)),
        EdgeValue("130 levels", lambda: nested(130), DEPTH, "[0]"),
        EdgeValue("300 levels", lambda: nested(300), DEPTH, "[0]"),
        EdgeValue("60 KB", lambda: "x" * 60_000),
        EdgeValue("70 KB", lambda: "y" * 70_000),
        EdgeValue("70 KB in another script", lambda: "é" * 35_000),
    )
}
# it costs what a hundred worlds cost
HUGE = EdgeValue("9 MB", lambda: "z" * 9_000_000)


def yielded(name: str) -> EdgeValue:
    return HUGE if name == HUGE.name else YIELDED[name]


# what a template makes: (expression, rule, place), or (expression, None, form)
MADE: tuple[tuple[str, str | None, Any], ...] = (
    ("2 ** 64", BITS, ""),
    ("2 ** 70", BITS, ""),
    ("-(2 ** 63) - 1", BITS, ""),
    ("{'a': {'b': [1, 2 ** 70]}}", BITS, "a.b[1]"),
    ("2 ** 53 + 1", None, 2**53 + 1),
    ("2 ** 63", None, 2**63),
    ("2 ** 64 - 1", None, 2**64 - 1),
    ("1e308 * 10", FINITE, ""),
    ("1e308 * 10 - 1e308 * 10", FINITE, ""),
    ("[1, {'x': -1e308 * 10}]", FINITE, "[1].x"),
    ("7 / 7", None, 1.0),
    ("'AGI=' | b64decode", NUL, ""),
    ("{'k': ['AGI=' | b64decode]}", NUL, "k[0]"),
    ("{'AGI=' | b64decode: 1}", NUL, ""),
    ("'\\ud800'", SURROGATE, ""),
    ("['a', '\\udc00']", SURROGATE, "[1]"),
    ("'x'.encode()", TYPE, ""),
    ("{'b': ['x'.encode()]}", TYPE, "b[0]"),
    ("{3: 'c', 1: 'a', 2: 'b'}", None, {"3": "c", "1": "a", "2": "b"}),
    ("{1.5: 'x', 0.5: 'y'}", None, {"1.5": "x", "0.5": "y"}),
    ("{true: 1, none: 2}", None, {"true": 1, "null": 2}),
    ("{1: 'a', '1': 'b'}", SAME, ""),
    ("{'d': {1: 'a', '1': 'b'}}", SAME, "d"),
    ("{(1, 2): 3}", "of type tuple", ""),
    ("{'z': 1, 'a': 2, 'aa': 3, '': 4}", None, {"z": 1, "a": 2, "aa": 3, "": 4}),
    ("(1, (2, 3))", None, [1, [2, 3]]),
    ("range(3)", None, [0, 1, 2]),
    ("{'b': 1, 'a': 2}.items()", None, [["b", 1], ["a", 2]]),
    ("{'b': 1, 'a': 2}.keys()", None, ["b", "a"]),
    ("{'b': 1, 'a': 2} | list", None, ["b", "a"]),
    ("[1, 2] | map('string')", None, ["1", "2"]),
    ("event.name if event is defined else 'none'", None, ...),
    ("'é' * 30000", None, "é" * 30000),
)
# payloads, as users send them, and whether they are to be refused
BODIES: tuple[tuple[bytes, bool], ...] = (
    (b'{"v": 1180591620717411303424}', True),
    (b'{"v": NaN}', True),
    (b'{"v": [1, -Infinity]}', True),
    (b'{"v": "a\\u0000b"}', True),
    (b'{"a": {"\\u0000": 1}}', True),
    (b'{"v": "\\ud800"}', True),
    (b'{"v": "\\udfff\\ud800"}', True),
    (b'{"v": ' + b"[" * 130 + b"]" * 130 + b"}", True),
    (b'{"v": ' + b"[" * 300 + b"]" * 300 + b"}", True),
    (b'{"v": 1e999}', True),
    (b'{"v": "\xff"}', True),
    (b'{"v": 1,}', True),
    (b'{"ctx": [1]}', True),
    (b'{"ctx": {"v": 18446744073709551616}}', True),
    (b'{"ctx": {"b": 1, "a": {"z": 1, "y": 2}}}', False),
    (b'{"v": {"b": 1, "a": 2}, "v": {"10": 1, "9": 2}}', False),
    (b'{"v": 18446744073709551615, "w": 1.0}', False),
)
