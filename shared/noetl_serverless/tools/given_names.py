"""What Python code finds under names besides its input: the modules of `libs`, `input_data`, `args` and `context`.
And what of it may be tables, for which much more has to be loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import CodeType
from typing import Any, NoReturn

# those that `main` may have as parameters
_PARAMETERS = frozenset({"input_data", "args", "context"})
_WORKLOAD, _CTX, _ITER = "workload", "ctx", "iter"
# a flag of code; `inspect` would have to be loaded for its name
_VARKEYWORDS = 8
# types of pyarrow, pandas and polars
_TABLES = ("Table", "RecordBatchReader", "DataFrame", "LazyFrame")


class NotImported(Exception):
    """A module of `libs`; its cause says why."""


class Context(dict[str, Any]):
    """By name: `workload`, `ctx`, `iter`, `execution_id`, the results of steps, and what has no such name: the keys of
    iter, ctx and workload. It cannot be changed."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        """`parts`: the named ones, as far as the code reads them."""
        named = {name: value for name, value in parts.items() if name not in (_WORKLOAD, _CTX, _ITER)}
        layers = [parts.get(_WORKLOAD) or {}, parts.get(_CTX) or {}, named, parts.get(_ITER) or {}, parts]
        super().__init__({name: value for layer in layers for name, value in layer.items()})

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("context cannot be changed; to keep a value for later steps, write set: {ctx.name: ...}")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


def given_names(request: Mapping[str, Any]) -> dict[str, Any]:
    """By the fields of a request; raises NotImported."""
    given = _imported(request["libs"]) if "libs" in request else {}
    for name in request.get("input_names", ()):
        given[name] = dict(request["input"])
    if "context" in request:
        given["context"] = Context(request["context"])
    return given


def arguments_of(main: CodeType, inputs: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a function is called with: if it takes some of what is given, of the input only what it takes, too."""
    taken = main.co_varnames[: main.co_argcount + main.co_kwonlyargcount]
    extra = {name: given[name] for name in _PARAMETERS.intersection(taken, given).difference(inputs)}
    if not extra:
        return inputs
    takes_all = main.co_flags & _VARKEYWORDS
    return {**extra, **{name: value for name, value in inputs.items() if takes_all or name in taken}}


def may_declare_tables(annotations: Mapping[str, Any], names: Mapping[str, Any]) -> bool:
    """Whether some of them may be tables, for which they are looked at closely; `names`: the globals of the code."""
    for annotation in annotations.values():
        if isinstance(annotation, str):
            annotation = names.get(annotation, annotation)
        if type(annotation) is type and annotation.__module__ == "builtins":
            continue
        text = annotation if isinstance(annotation, str) else repr(annotation)
        if any(name in text for name in _TABLES):
            return True
    return False


def may_be_table(value: Any) -> bool:
    kind = type(value)
    return hasattr(kind, "__arrow_c_stream__") or kind.__name__ == "LazyFrame"


def _imported(libs: dict[str, str] | list[str]) -> dict[str, Any]:
    from importlib import import_module

    found: dict[str, Any] = {}
    for module in libs:
        name, path = (module, libs[module]) if isinstance(libs, dict) else (module.partition(".")[0], module)
        if "-" in path:
            _check_installed(path)
            continue
        try:
            try:
                imported: Any = import_module(path)
            except ModuleNotFoundError as error:
                # it may be something of a module: a class, a function
                package, _, attribute = path.rpartition(".")
                if not (isinstance(libs, dict) and package and error.name == path):
                    raise
                imported = getattr(import_module(package), attribute, error)
                if imported is error:
                    raise
        except MemoryError:
            raise
        except BaseException as error:
            raise NotImported(f"the module '{path}' of libs cannot be imported") from error
        found[name] = imported if isinstance(libs, dict) else sys.modules[name]
    return found


def _check_installed(distribution: str) -> None:
    from importlib import metadata

    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError as error:
        raise NotImported(f"'{distribution}' of libs is not installed where the worker runs") from error
