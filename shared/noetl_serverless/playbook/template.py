"""Templates: compiled once, rendered in a scope.

A text that is one `{{ expression }}` yields the expression's value itself; any other text yields a string, in which
lists and mappings appear as JSON. The string is never converted to a number or anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from jinja2 import Template as Program
from jinja2 import Undefined, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError

from . import sandbox
from .bounds import MAX_SOURCE_CHARACTERS, LimitExceeded
from .code_spellings import CodeSpellings
from .reads import Reads, find_reads
from .sql_idioms import adapt, laid_out
from .sql_places import misplaced
from .template_error import FetchFailed, NeedsFetch, TemplateError
from .template_names import unknown_names
from .template_places import find_place
from .values import InvalidValue, message_of
from .views import EventName, View

__all__ = [
    "BoundSql",
    "EventName",
    "NeedsFetch",
    "SqlTemplate",
    "Template",
    "TemplateError",
    "Tree",
    "has_markers",
    "render_tree",
    "truthy",
]

# an error message of Python may quote a whole value
MAX_MESSAGE_CHARACTERS = 500
_RESULT = "noetl_result"
_FORBIDDEN: dict[type[nodes.Node], str] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "import",
    nodes.Extends: "extends",
    nodes.Block: "block",
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
}
# both would turn values that are already bound into text
_FORBIDDEN_IN_SQL: dict[type[nodes.Node], str] = {
    **_FORBIDDEN,
    nodes.AssignBlock: "set (as a block)",
    nodes.FilterBlock: "filter",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text begins in the playbook, counted from 1. Its further lines are indented by `indent` columns."""

    line: int
    column: int
    pointer: str = ""
    indent: int = 0

    def within(self, line: int, column: int) -> tuple[int, int]:
        """The line and column in the playbook of a line and column of the text."""
        return (self.line + line - 1, (self.column - 1 if line == 1 else self.indent) + column)


class CallPlace(Place):
    """Where a tool of the catalog is called, whose templates stand in its own definition."""

    __slots__ = ()

    def within(self, line: int, column: int) -> tuple[int, int]:
        return self.line, self.column


@dataclass(frozen=True, slots=True)
class BoundSql:
    """SQL whose markers `%(__1)s` stand for `values["__1"]`, of which an `Identifier` is written into the SQL."""

    text: str
    values: Mapping[str, Any]


def has_markers(text: str) -> bool:
    return "{{" in text or "{%" in text or "{#" in text


class _Compiled:
    """What both kinds of template share: they are checked at once, and compiled to a program when first needed."""

    __slots__ = ("_program", "place", "reads", "source")

    environment = sandbox.TEXT
    forbidden = _FORBIDDEN

    def __init__(self, source: str, place: Place | None = None) -> None:
        """Raises TemplateError if it does not compile."""
        self.source = source
        self.place = place
        self._program: Program | None = None
        tree = self._parse()
        self.reads: Reads = find_reads(tree)
        self._look_at(tree)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)

    @property
    def line(self) -> int | None:
        """The line in the playbook at which it begins."""
        return None if self.place is None else self.place.line

    def at(self, place: Place) -> Self:
        """The same template at another place."""
        other = copy(self)
        other.place = place
        return other

    def refusal(self, message: str) -> TemplateError:
        """The error for a value that cannot be used where the template stands."""
        return self._error(message)

    def syntax(self) -> nodes.Template:
        """Its syntax tree."""
        return self.environment.parse(self.source)

    def _look_at(self, tree: nodes.Template) -> None:
        """Take what else is needed from the syntax tree, which is not kept."""

    def _parse(self) -> nodes.Template:
        if len(self.source) > MAX_SOURCE_CHARACTERS:
            raise self._error(f"the template is longer than {MAX_SOURCE_CHARACTERS} characters")
        try:
            tree = self.environment.parse(self.source)
            self._check(tree)
        except TemplateSyntaxError as error:
            raise self._error(error.message or "syntax error", error.lineno) from None
        except ValueError:
            # numbers are the only literals in a template that Python refuses
            raise self._error("a number in the template has too many digits") from None
        except RecursionError:
            raise self._error("the template is nested too deeply") from None
        return tree

    def _check(self, tree: nodes.Template) -> None:
        for kind, name in self.forbidden.items():
            if (node := tree.find(kind)) is not None:
                raise self._error(f"{{% {name} %}} cannot be used here", node.lineno)
        for unknown in unknown_names(tree, self.environment):
            raise self._error(unknown.message, unknown.lineno, unknown.name)

    def _build(self, tree: nodes.Template) -> Program:
        tree = sandbox.WholeValues().visit(CodeSpellings().visit(tree))
        tree.set_environment(self.environment)
        return self.environment.from_string(tree)

    def _guarded(self, action: Callable[[Mapping[str, Any]], Any], scope: Mapping[str, Any]) -> Any:
        try:
            return action(scope)
        except FetchFailed as failed:
            raise failed.cause from None
        except TemplateError as error:
            self._locate(error, None)
            raise
        except sandbox.MissingName as error:
            hint = "" if error.has_hint else sandbox.similar(error.name, scope)
            raise self._error(f"{error}{hint}", self._line_of(error), error.name) from None
        except LimitExceeded as error:
            raise self._error(str(error), self._line_of(error), code="template.too_large") from None
        except (UndefinedError, SecurityError) as error:
            raise self._error(str(error), self._line_of(error)) from None
        except InvalidValue as error:
            raise self._error(f"the result cannot be stored: {error}") from None
        except RecursionError:
            raise self._error("the template is nested too deeply") from None
        except Exception as error:
            raise self._error(f"{type(error).__name__}: {message_of(error)}", self._line_of(error)) from None

    def _error(
        self, message: str, lineno: int | None = None, name: str | None = None, code: str = "template.error"
    ) -> TemplateError:
        return self._locate(TemplateError(_cut(message), name=name, code=code), lineno)

    def _locate(self, error: TemplateError, lineno: int | None) -> TemplateError:
        error.template = self.source if len(self.source) <= 500 else self.source[:500] + "..."
        if self.place is not None:
            found = find_place(self.environment, self.source, lineno, error.name)
            error.line, error.column = self.place.within(*found)
        return error

    def _line_of(self, error: BaseException) -> int | None:
        """The template's own line, from the frames of its program."""
        trace, line, program = error.__traceback__, None, self._program
        if program is None:
            return None
        line_of = program.get_corresponding_lineno
        while trace is not None:
            if trace.tb_frame.f_globals.get("__jinja_template__") is program:
                line = line_of(trace.tb_lineno)
            trace = trace.tb_next
        return line


class Template(_Compiled):
    """`render` returns the value of a lone expression, otherwise a string."""

    __slots__ = ("_path", "is_expression")

    def _look_at(self, tree: nodes.Template) -> None:
        expression = _lone_expression(tree)
        # the whole text is one {{ expression }}
        self.is_expression = expression is not None
        self._path = _as_path(expression)

    def render(self, scope: Mapping[str, Any]) -> Any:
        """Raises TemplateError if it fails; errors of the scope's fetch pass through."""
        if self._path is not None:
            return self._guarded(self._follow, scope)
        return self._guarded(self._run, scope)

    def reference(self, scope: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The reference to the value, if the template is a plain path to a whole value by reference. No fetch."""
        if self._path is None:
            return None
        value = self._guarded(self._end_of_path, scope)
        return value.reference() if isinstance(value, View) else None

    def _follow(self, scope: Mapping[str, Any]) -> Any:
        """The fast way for a plain path, by far the most frequent expression: no program is compiled."""
        value = self._end_of_path(scope)
        return value.whole() if isinstance(value, View) else _data(value)

    def _end_of_path(self, scope: Mapping[str, Any]) -> Any:
        root, *keys = self._path or ()
        environment = self.environment
        try:
            value = scope[root]
        except KeyError:
            value = environment.undefined(name=root)
        for is_attribute, key in keys:
            value = environment.getattr(value, key) if is_attribute else environment.getitem(value, key)
        if isinstance(value, Undefined):
            value._fail_with_undefined_error()
        return value

    def _run(self, scope: Mapping[str, Any]) -> Any:
        if self._program is None:
            self._program = self._compile()
        names: Any = sandbox.Names(scope)
        context = self._program.new_context(names, shared=True)
        chunks = list(self._program.root_render_func(context))
        return sandbox.plain(context.vars[_RESULT]) if self.is_expression else "".join(chunks)

    def _compile(self) -> Program:
        tree = self.environment.parse(self.source)
        expression = _lone_expression(tree)
        if expression is None:
            return self._build(tree)
        result = nodes.Name(_RESULT, "store", lineno=1)
        assign = nodes.Assign(result, expression, lineno=expression.lineno)
        return self._build(nodes.Template([assign], lineno=1))


class SqlTemplate(_Compiled):
    """SQL in which every `{{ expression }}` becomes a bound value; `{{ x | identifier }}` a quoted name.

    One inside '...', E'...' or $$...$$ makes the whole literal one bound text: see `tools.sql`.
    """

    __slots__ = ()

    environment = sandbox.SQL
    forbidden = _FORBIDDEN_IN_SQL

    def render(self, scope: Mapping[str, Any]) -> BoundSql:
        result: BoundSql = self._guarded(self._run, scope)
        return result

    def _parse(self) -> nodes.Template:
        if not has_markers(self.source):
            text = nodes.Output([nodes.TemplateData(self.source, lineno=1)], lineno=1)
            tree = nodes.Template([text], lineno=1)
            tree.set_environment(self.environment)
            return tree
        return adapt(super()._parse())

    def _run(self, scope: Mapping[str, Any]) -> BoundSql:
        if not has_markers(self.source):
            return BoundSql(self.source, {})
        if self._program is None:
            self._program = self._build(self._parse())
        names: Any = sandbox.Names(scope)
        text = "".join(self._program.root_render_func(self._program.new_context(names, shared=True)))
        return BoundSql(text, names.binds)

    def _look_at(self, tree: nodes.Template) -> None:
        text, placed = laid_out(tree)
        places = [one.at for one in placed]
        if len("".join(text.split())) == len(places):
            raise self._error(
                "the whole statement cannot be a value: write the SQL here, with {{ ... }} where it has values, "
                "and {{ ... | identifier }} where it has names"
            )
        if (found := misplaced(text, places)) is not None:
            number, reason = found
            raise self._error(reason, placed[number].node.lineno)


Tree: TypeAlias = "Template | SqlTemplate | dict[str, Tree] | list[Tree] | str | int | float | bool | None"


def render_tree(tree: Tree, scope: Mapping[str, Any]) -> Any:
    """`tree` with every template in it rendered; raises TemplateError if one fails."""
    if isinstance(tree, (Template, SqlTemplate)):
        return tree.render(scope)
    if isinstance(tree, dict):
        return {key: render_tree(value, scope) for key, value in tree.items()}
    if isinstance(tree, list):
        return [render_tree(value, scope) for value in tree]
    return tree


_FALSE_TEXTS = frozenset({"", "false", "0", "no", "none"})


def truthy(value: Any) -> bool:
    """False for null, false, 0, empty values, and the texts "false", "0", "no", "none" in any case."""
    if isinstance(value, str):
        return value.strip().lower() not in _FALSE_TEXTS
    return bool(value)


def _lone_expression(tree: nodes.Template) -> nodes.Expr | None:
    found: nodes.Expr | None = None
    for statement in tree.body:
        if not isinstance(statement, nodes.Output):
            return None
        for node in statement.nodes:
            if isinstance(node, nodes.TemplateData) and not node.data.strip():
                continue
            if found is not None or isinstance(node, nodes.TemplateData):
                return None
            found = node
    return found


_Path: TypeAlias = "tuple[Any, ...]"


def _as_path(node: nodes.Expr | None) -> _Path | None:
    """`a.b["c"]` as ("a", (True, "b"), (False, "c")); None for anything else."""
    keys: list[tuple[bool, Any]] = []
    while isinstance(node, (nodes.Getattr, nodes.Getitem)):
        if isinstance(node, nodes.Getattr):
            keys.append((True, node.attr))
        elif isinstance(node.arg, nodes.Const):
            keys.append((False, node.arg.value))
        else:
            return None
        node = node.node
    if not isinstance(node, nodes.Name) or node.name in sandbox.GLOBALS:
        return None
    return (node.name, *reversed(keys))


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE_CHARACTERS else f"{message[: MAX_MESSAGE_CHARACTERS - 1]}…"


def _data(value: Any) -> Any:
    """A path leads to plain data, except for an event's name and for methods, which are not values."""
    if isinstance(value, (EventName, sandbox.Method)) or callable(value):
        return sandbox.plain(value)
    return value
