"""Templates by plain Jinja: a lone expression gives its value, any other text gives text."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import isfinite
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.visitor import NodeTransformer

FALSE = frozenset({"", "false", "0", "no", "none"})


class Unrenderable(Exception):
    """The template raises."""


class OutOfReach(Unrenderable):
    """It asks for what is stored by reference, where nothing may be fetched."""


class Absent:
    """There is no such field."""


ABSENT = Absent()


class View:
    """What a template may look into: `field` gives a part or ABSENT, `whole` the value as plain data."""

    def field(self, name: str) -> Any:
        raise NotImplementedError

    def whole(self) -> Any:
        raise NotImplementedError


class Nothing(View):
    """Null, and so is everything in it."""

    def field(self, name: str) -> Any:
        return self

    def whole(self) -> Any:
        return None


class _Wholes(NodeTransformer):
    """What is read by a name or a chain of fields is taken as plain data where the chain ends."""

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        return _whole(node) if node.ctx == "load" else node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        self._inside(node)
        return _whole(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        node.arg = self.visit(node.arg)
        self._inside(node)
        return _whole(node)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        if isinstance(node.node, nodes.Getattr):
            # a method of the plain value
            node.node.node = self.visit(node.node.node)
        elif not isinstance(node.node, nodes.Name):
            node.node = self.visit(node.node)
        for name in ("args", "kwargs"):
            setattr(node, name, [self.visit(item) for item in getattr(node, name)])
        return node

    def _inside(self, node: nodes.Getattr | nodes.Getitem) -> None:
        if isinstance(node.node, nodes.Getattr | nodes.Getitem):
            if isinstance(node.node, nodes.Getitem):
                node.node.arg = self.visit(node.node.arg)
            self._inside(node.node)
        elif isinstance(node.node, nodes.CondExpr):
            # either side is looked into as it is
            choice = node.node
            choice.test = self.visit(choice.test)
            for name in ("expr1", "expr2"):
                side = getattr(choice, name)
                if isinstance(side, nodes.Getattr | nodes.Getitem):
                    self._inside(side)
                elif not isinstance(side, nodes.Name):
                    setattr(choice, name, side and self.visit(side))
        elif not isinstance(node.node, nodes.Name):
            node.node = self.visit(node.node)


def _whole(node: Any) -> nodes.Filter:
    return nodes.Filter(node, "_whole", [], [], None, None, lineno=node.lineno)


class _Environment(jinja2.Environment):
    """A field wins over a method."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, View):
            found = obj.field(argument) if isinstance(argument, str) else ABSENT
            if found is not ABSENT:
                return found
            if not isinstance(obj, Nothing):
                return super().getitem(obj.whole(), argument)
        return super().getitem(obj, argument)


def _text(value: Any) -> str:
    if isinstance(value, jinja2.Undefined):
        return str(value)
    value = plain(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _take(value: Any) -> Any:
    return value.whole() if isinstance(value, View) else value


_KEPT: list[Any] = []


# with the context, so that it is never called while compiling
@jinja2.pass_context
def _keep(_context: object, value: Any) -> str:
    if isinstance(value, jinja2.Undefined):
        str(value)
    _KEPT.append(value)
    return ""


_ENVIRONMENT = _Environment(undefined=jinja2.StrictUndefined, finalize=_text, keep_trailing_newline=True)
_ENVIRONMENT.filters |= {
    "_whole": _take,
    "_keep": _keep,
    "b64encode": lambda value: base64.b64encode(str(value).encode()).decode(),
    "b64decode": lambda value: base64.b64decode(str(value)).decode(),
    # in SQL, which is not rendered here: only the names that it reads matter
    "identifier": _take,
}


def plain(value: Any) -> Any:
    """As it is stored: lists, objects with text for keys, text, numbers, true, false, null. Unrenderable if it cannot
    be: an integer beyond 64 bits, NaN, an infinite number, NUL, half of a surrogate pair."""
    value = _take(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise Unrenderable(f"{value} has more than 64 bits")
    if isinstance(value, float) and not isfinite(value):
        raise Unrenderable(f"{value} is not JSON")
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)):
        raise Unrenderable(f"{value!r} holds what is no character")
    if isinstance(value, str | int | float) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)


@lru_cache(maxsize=10_000)
def _compiled(source: str) -> tuple[jinja2.Template, bool]:
    tree = _ENVIRONMENT.parse(source.strip())
    lone = len(tree.body) == 1 and isinstance(tree.body[0], nodes.Output) and len(tree.body[0].nodes) == 1
    if not lone:
        tree = _ENVIRONMENT.parse(source)
    tree = _Wholes().visit(tree)
    if lone:
        output = tree.body[0]
        output.nodes = [nodes.Filter(output.nodes[0], "_keep", [], [], None, None, lineno=1)]
    tree.set_environment(_ENVIRONMENT)
    code = _ENVIRONMENT.compile(tree)
    return jinja2.Template.from_code(_ENVIRONMENT, code, dict(_ENVIRONMENT.globals)), lone


def has_template(value: object) -> bool:
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def render(value: Any, names: Mapping[str, Any]) -> Any:
    """Texts with markers, all the way down a tree, in the form in which results are stored."""
    if isinstance(value, Mapping):
        return {key: render(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [render(item, names) for item in value]
    if not has_template(value):
        return value
    try:
        template, lone = _compiled(value)
        text = template.render(names)
        return plain(_KEPT.pop()) if lone else text
    except Unrenderable:
        raise
    except Exception as error:
        raise Unrenderable(f"{value}: {type(error).__name__}: {error}") from error


def names_in(value: Any) -> frozenset[str]:
    """What the templates in a tree look up."""
    if isinstance(value, Mapping | list):
        items = value.values() if isinstance(value, Mapping) else value
        return frozenset().union(*map(names_in, items))
    return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(value))) if has_template(value) else frozenset()


def holds(when: Any, names: Mapping[str, Any]) -> bool:
    """Whether a condition is met; texts that say no are false."""
    value = render(when, names)
    return value.strip().lower() not in FALSE if isinstance(value, str) else bool(value)


@lru_cache(maxsize=10_000)
def asks_how_it_ended(when: str) -> bool:
    """Whether a condition looks at the event, the error or the envelope: such an arc may follow a step that failed or
    was skipped, others may not. The data alone are no such question."""
    tree = _ENVIRONMENT.parse(when)
    read: list[nodes.Getattr | nodes.Getitem] = [*tree.find_all(nodes.Getattr), *tree.find_all(nodes.Getitem)]
    data = {
        id(node.node)
        for node in read
        if isinstance(node.node, nodes.Name) and node.node.name == "output" and _key(node) == "data"
    }
    return any(
        name.name in ("event", "error") or (name.name == "output" and id(name) not in data)
        for name in tree.find_all(nodes.Name)
    )


def _key(node: nodes.Getattr | nodes.Getitem) -> Any:
    if isinstance(node, nodes.Getattr):
        return node.attr
    return node.arg.value if isinstance(node.arg, nodes.Const) else None
