"""Which Python code leaves nothing behind in its process: what only computes with its input.

It is recognised by what it is made of. Listed are the parts that it may have; any other, such as an import, a class, a
decorator or an attribute that is no method of a JSON value, makes code impure. So the objects that it reaches are its
own, or functions and types of the interpreter, which cannot be changed. Nothing is inferred from values: a name counts
as whatever builtin it may mean, since `del` reveals that.
"""

from __future__ import annotations

import ast
import builtins

_NODES = (
    ast.Module,
    ast.AnnAssign,
    ast.Assert,
    ast.Assign,
    ast.AugAssign,
    ast.Break,
    ast.Continue,
    ast.Delete,
    ast.ExceptHandler,
    ast.Expr,
    ast.For,
    ast.FunctionDef,
    ast.Global,
    ast.If,
    ast.Nonlocal,
    ast.Pass,
    ast.Raise,
    ast.Return,
    ast.Try,
    ast.While,
    ast.Attribute,
    ast.BinOp,
    ast.BoolOp,
    ast.Call,
    ast.Compare,
    ast.Constant,
    ast.Dict,
    ast.DictComp,
    ast.FormattedValue,
    ast.GeneratorExp,
    ast.IfExp,
    ast.JoinedStr,
    ast.Lambda,
    ast.List,
    ast.ListComp,
    ast.Name,
    ast.NamedExpr,
    ast.Set,
    ast.SetComp,
    ast.Slice,
    ast.Starred,
    ast.Subscript,
    ast.Tuple,
    ast.UnaryOp,
    ast.arg,
    ast.arguments,
    ast.comprehension,
    ast.keyword,
    ast.boolop,
    ast.cmpop,
    ast.expr_context,
    ast.operator,
    ast.unaryop,
)
# of an exception `add_note` is not among them, nor of a string what reads the attributes of any object
METHODS = frozenset(
    name for kind in (dict, float, int, list, set, str, tuple) for name in dir(kind) if not name.startswith("_")
) - {"format", "format_map"}
BUILTINS = frozenset(
    """
    abs all any ascii bin bool bytes callable chr complex dict divmod enumerate filter float format frozenset hash hex
    id int isinstance iter len list map max min next oct ord pow print range repr reversed round set slice sorted str
    sum tuple zip
    ArithmeticError AssertionError AttributeError Exception IndexError KeyError LookupError NameError OverflowError
    RecursionError RuntimeError StopIteration TypeError UnicodeError ValueError ZeroDivisionError
    """.split()  # noqa: SIM905
)
# those that `site` adds, which this process may have been started without, and the child not
_SITE = {"copyright", "credits", "exit", "help", "license", "quit"}
_REFUSED = (frozenset(dir(builtins)) | _SITE) - BUILTINS


def is_pure(module: ast.Module) -> bool:
    return all(map(_is_listed, ast.walk(module)))


def _is_listed(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=name) | ast.arg(arg=name):
            return _is_free(name)
        case ast.Attribute(attr=name, ctx=context):
            return name in METHODS and isinstance(context, ast.Load)
        case ast.FunctionDef(name=name, decorator_list=decorators):
            return _is_free(name) and not decorators
        case ast.comprehension(is_async=is_async):
            return not is_async
        case ast.ExceptHandler(name=name):
            return name is None or _is_free(name)
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return all(map(_is_free, names))
    return isinstance(node, _NODES)


def _is_free(name: str) -> bool:
    """Whether a name means something of the code's own, or a builtin that is listed."""
    return name not in _REFUSED and not name.startswith("__")
