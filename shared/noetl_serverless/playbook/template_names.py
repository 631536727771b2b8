"""The filters, tests, methods and functions that a template names, checked before it is rendered."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from jinja2 import Environment, nodes

from .faults import did_you_mean
from .sandbox import CALLABLE

# filters that take the name of another filter, or of a test, and which of their arguments that is
_OF_FILTERS = {"map": 0}
_OF_TESTS = {"select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}
# what older playbooks have a function for
_INSTEAD = {"token": "; a token comes from an entry of the keychain: {{ keychain.NAME.token }}"}


@dataclass(frozen=True, slots=True)
class UnknownName:
    message: str
    lineno: int
    name: str


def unknown_names(tree: nodes.Template, environment: Environment) -> Iterator[UnknownName]:
    """What a template names that does not exist, or must not be used."""
    filters = [name for name in environment.filters if not name.startswith("_")]
    for node in tree.find_all(nodes.Filter):
        yield from _unknown("filter", node.name, filters, node.lineno)
        for kind, places, known in (("filter", _OF_FILTERS, filters), ("test", _OF_TESTS, environment.tests)):
            place = places.get(node.name)
            if place is not None and len(node.args) > place and isinstance(node.args[place], nodes.Const):
                yield from _unknown(kind, str(node.args[place].as_const()), known, node.lineno)
    for test in tree.find_all(nodes.Test):
        yield from _unknown("test", test.name, environment.tests, test.lineno)
    for call in tree.find_all(nodes.Call):
        yield from _unknown_in_call(call, [*environment.globals, "loop"])


def _unknown_in_call(call: nodes.Call, functions: list[str]) -> Iterator[UnknownName]:
    match call.node:
        case nodes.Name(name=name):
            yield from _unknown("function", name, functions, call.lineno, _INSTEAD.get(name, ""))
        case nodes.Getattr(attr=name):
            yield from _unknown("method", name, CALLABLE, call.lineno)
        case _:
            yield UnknownName("only a method or a function can be called, by its name", call.lineno, "")


def _unknown(kind: str, name: str, known: Collection[str], lineno: int, hint: str = "") -> Iterator[UnknownName]:
    if name not in known:
        hint = hint or did_you_mean(name, known)
        yield UnknownName(f"there is no {kind} named '{name[:100]}'{hint}", lineno, name)
