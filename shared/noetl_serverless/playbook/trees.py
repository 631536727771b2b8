"""Values of the document with their templates compiled; a template that does not compile is a fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeVar, cast

from ..errors import json_pointer
from . import model
from .document import Path
from .faults import Faults, did_you_mean
from .plan import Assignment
from .reads import fields_read
from .template import Place, SqlTemplate, Template, TemplateError, Tree, has_markers, truthy

T = TypeVar("T", Template, SqlTemplate)

KEYCHAIN: Final = "keychain"
# methods of a mapping, which templates may call on a whole entry
_METHODS = frozenset({"get", "items", "keys", "values"})
_WORDS = frozenset({"true", "false", "yes", "no", "1", "0", "none", ""})


class Trees:
    def __init__(self, faults: Faults, keychain: Mapping[str, frozenset[str] | None] | None = None) -> None:
        """`keychain`: the fields of each of its entries, None where they are not known before it is resolved."""
        self.faults = faults
        self._keychain = keychain or {}
        # a template in many places, for example through an alias, is compiled once, as if at the start of a document
        self._seen: dict[tuple[type[Template | SqlTemplate], str], Template | SqlTemplate | TemplateError] = {}

    def place(self, path: Path, *, content: bool = False) -> Place:
        """The place of `path`; with `content`, the place where its text begins."""
        found, mark = self.faults.document.find(path)
        if content and mark.content != mark.line:
            return Place(mark.content, 1, json_pointer(found))
        return Place(mark.line, mark.column, json_pointer(found))

    def text_place(self, path: Path) -> Place:
        """The place of the text itself, without its quotes and its indentation."""
        found, mark = self.faults.document.find(path)
        return Place(mark.content, mark.content_column, json_pointer(found), mark.indent)

    def tree(self, value: Any, path: Path, *, secrets: bool = False) -> Tree:
        """`secrets`: whether its templates may read the keychain, since only a worker renders them, for a tool."""
        if isinstance(value, Mapping):
            return {key: self.tree(item, (*path, key), secrets=secrets) for key, item in value.items()}
        if isinstance(value, list):
            return [self.tree(item, (*path, index), secrets=secrets) for index, item in enumerate(value)]
        if isinstance(value, str) and has_markers(value):
            return self._compiled(Template, value, path, secrets=secrets) or ""
        return cast(Tree, value)

    def template(self, source: str, path: Path) -> Template | None:
        """None if it does not compile."""
        return self._compiled(Template, source, path)

    def sql(self, value: Any, path: Path, *, secrets: bool = False) -> Tree:
        """`secrets`: as in `tree`."""
        if isinstance(value, list):
            return [self.sql(item, (*path, index), secrets=secrets) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return cast(Tree, value)
        return self._compiled(SqlTemplate, value, path, secrets=secrets) or ""

    def condition(self, value: bool | str | None, path: Path) -> Template | None:
        """The template of a condition, or None if it is always true."""
        if value is None or value is True:
            return None
        if value is False:
            return self.template("{{ false }}", path)
        if not has_markers(value):
            if value.strip().lower() in _WORDS:
                return None if truthy(value) else self.template("{{ false }}", path)
            self.faults.add(f"a condition is a template: write {{{{ {value.strip()[:80]} }}}}", path)
            return None
        template = self.template(value, path)
        if template is not None and not template.is_expression and "{%" not in value:
            self.faults.add("a condition must be one {{ expression }}; a string is always true", path)
        return template

    def assignments(self, values: Mapping[str, Any], path: Path) -> tuple[Assignment, ...]:
        return tuple(
            Assignment(cast(Literal["ctx", "vars", "iter", "step"], scope), name, self.tree(value, (*path, key)))
            for key, value in values.items()
            for scope, _, name in [key.partition(".")]
        )

    def collection(self, loop: model.Loop, path: Path) -> Template:
        """A loop's items as a template; a list in the document becomes one."""
        here = (*path, "in")
        if loop.items is None:
            # of a cursor, which claims them; or a fault elsewhere
            return Template("{{ [] }}")
        if isinstance(loop.items, list):
            return self._listed(loop.items, here)
        if not has_markers(loop.items):
            self.faults.add("'in' must be a template or a list: write {{ ... }}", here)
            return Template("{{ [] }}")
        template = self.template(loop.items, here) or Template("{{ [] }}")
        if not template.is_expression:
            self.faults.add("'in' must be one {{ expression }} that gives a list", here)
        return template

    def _listed(self, items: list[Any], path: Path) -> Template:
        try:
            return Template("{{ " + _literal(items) + " }}", self.place(path))
        except TemplateError as error:
            self.faults.add(f"the list cannot be used here: {error.message}; put it into 'workload'", path)
        except ValueError as error:
            self.faults.add(str(error), path)
        return Template("{{ [] }}")

    def _compiled(self, kind: type[T], source: str, path: Path, *, secrets: bool = False) -> T | None:
        place, seen = self.text_place(path), self._look_at(kind, source)
        if isinstance(seen, TemplateError):
            line, column = place.within(seen.line or 1, seen.column or 1)
            self.faults.add_at(f"template: {seen.message}", path, line, column, "playbook.template")
            return None
        if KEYCHAIN in seen.reads:
            self._check_keychain(seen, path, place, allowed=secrets)
        return cast(T, seen.at(place))

    def _check_keychain(self, template: Template | SqlTemplate, path: Path, place: Place, *, allowed: bool) -> None:
        def fault(message: str, below: int, code: str = "playbook.invalid_value") -> None:
            self.faults.add_at(message, path, *place.within(below + 1, 1), code)

        for name, field, line in fields_read(template.syntax(), KEYCHAIN):
            if not allowed:
                fault(
                    "'keychain' cannot be read here, where its value would be written to the log: read it in the "
                    "configuration or the input of a tool that is no sub-playbook",
                    line - 1,
                )
                return
            if name is None:
                fault("write the names of the entry and of its field: {{ keychain.name.field }}", line - 1)
            elif name not in self._keychain:
                hint = did_you_mean(name, self._keychain) or "; declare it in 'keychain'"
                fault(f"there is no keychain entry '{name}'{hint}", line - 1, "playbook.unknown_secret")
            elif (fields := self._keychain[name]) is not None and field not in (None, *fields, *_METHODS):
                hint = did_you_mean(str(field), fields) or f"; its fields are {', '.join(sorted(fields))}"
                fault(f"the keychain entry '{name}' has no field '{field}'{hint}", line - 1, "playbook.unknown_secret")

    def _look_at(self, kind: type[T], source: str) -> Template | SqlTemplate | TemplateError:
        seen = self._seen.get((kind, source))
        if seen is None:
            try:
                seen = kind(source, Place(1, 1, ""))
            except TemplateError as error:
                seen = error
            self._seen[kind, source] = seen
        return seen


def _literal(value: Any) -> str:
    """The expression that yields `value`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, str):
        return _text(value)
    if value is None:
        return "none"
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def _text(value: str) -> str:
    if not has_markers(value):
        return "'" + value.encode("unicode_escape").decode("ascii").replace("'", "\\'") + "'"
    inner = value.strip()
    if inner.startswith("{{") and inner.endswith("}}") and Template(value).is_expression:
        return "(" + inner[2:-2].strip("-+") + ")"
    raise ValueError("an item of 'in' must be a value or one {{ expression }}")


def templates_in(tree: Tree) -> Iterator[Template | SqlTemplate]:
    if isinstance(tree, (Template, SqlTemplate)):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from templates_in(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from templates_in(value)
