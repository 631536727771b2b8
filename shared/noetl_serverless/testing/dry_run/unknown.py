"""Values that are known only once a tool has run. An expression that reads one raises NeedsFetch, so it is unknown as a
whole; one that does not, for example behind an `or` that already holds, is evaluated as always.

Where an event or a state holds values, an unknown one is a reference: to those that routing cannot read, the engine
does what is needed here, it passes them on unread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final, NoReturn

from ...engine.limits import size_of
from ...limits import INLINE_BYTES
from ...playbook.template import SqlTemplate, Template, Tree
from ...playbook.template_error import NeedsFetch
from ...playbook.views import View

KIND: Final = "unknown"
# of a value in a document: values in it, and characters of a text
MAX_VALUES: Final = 500
MAX_CHARACTERS: Final = 2000
# known fields of an unknown value are kept up to this size each
_FIELD_BYTES: Final = 4096
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


class Unknown(View):
    """`source`: the template that would give the value, or what it is."""

    __slots__ = ("source",)

    def __init__(self, source: str) -> None:
        self.source = source

    def __repr__(self) -> str:
        return f"unknown: {self.source}"

    def lookup(self, key: str) -> NoReturn:
        raise NeedsFetch(f"{self.source} is not known in a dry run")

    def whole(self) -> NoReturn:
        raise NeedsFetch(f"{self.source} is not known in a dry run")

    def title(self) -> str:
        return self.source


def render_known(tree: Tree, scope: Mapping[str, Any]) -> Any:
    """As `render_tree`, with an Unknown for each template that reads one."""
    if isinstance(tree, (Template, SqlTemplate)):
        try:
            return tree.render(scope)
        except NeedsFetch:
            return Unknown(tree.source)
    if isinstance(tree, dict):
        return {key: render_known(value, scope) for key, value in tree.items()}
    if isinstance(tree, list):
        return [render_known(value, scope) for value in tree]
    return tree


def has_unknown(value: Any) -> bool:
    """Whether there is an Unknown in `value`."""
    stack = [value]
    while stack:
        item = stack.pop()
        # large values are nearly all plain ones, for which the checks of abstract classes would take most of the time
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
        elif type(item) in _SCALARS:
            continue
        elif isinstance(item, View):
            return True
        elif isinstance(item, Mapping):
            stack.extend(item.values())
    return False


def reference(source: str, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An unknown value in an event or a state; `known`: fields of it that can be read."""
    return {"kind": KIND, "ref": f"{KIND}:{source}", "meta": {"bytes": 0}, "extracted": dict(known or {})}


def as_part(value: Any, source: str) -> dict[str, Any]:
    """`value` as events hold one: {"data"}, {"ref"} if it is unknown or would be stored beside the log, or {}."""
    if value is None:
        return {}
    if not has_unknown(value) and size_of(value) <= INLINE_BYTES:
        return {"data": value}
    fields_of = value.items() if isinstance(value, Mapping) else ()
    known = {key: item for key, item in fields_of if not has_unknown(item) and size_of(item) <= _FIELD_BYTES}
    return {"ref": reference(source, known)}


def as_document(value: Any) -> Any:
    """`value` in JSON, an unknown part as {"$unknown": what it would be made from}. Longer texts, and what comes after
    so many values, are cut, with a remark in their place."""
    return _Writer().write(value)


class _Writer:
    def __init__(self) -> None:
        self._left = MAX_VALUES

    def write(self, value: Any) -> Any:
        self._left -= 1
        match value:
            case str():
                return _cut(value)
            case Unknown():
                return {"$unknown": _cut(value.source)}
            case {"kind": "unknown", "ref": str() as ref} if ref.startswith(f"{KIND}:"):
                return {"$unknown": _cut(ref.removeprefix(f"{KIND}:"))}
            case Mapping():
                return self._members(value.items(), len(value))
            case list() | tuple():
                return self._items(value)
        if is_dataclass(value) and not isinstance(value, type):
            return {field.name: self.write(getattr(value, field.name)) for field in fields(value)}
        return value

    def _members(self, members: Iterable[tuple[Any, Any]], count: int) -> dict[str, Any]:
        written: dict[str, Any] = {}
        for key, item in members:
            if self._left <= 0:
                written["..."] = f"{count - len(written):,} more"
                break
            written[str(key)] = self.write(item)
        return written

    def _items(self, items: Sequence[Any]) -> list[Any]:
        written: list[Any] = []
        for item in items:
            if self._left <= 0:
                written.append(f"... {len(items) - len(written):,} more")
                break
            written.append(self.write(item))
        return written


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}... ({len(text):,} characters)"
