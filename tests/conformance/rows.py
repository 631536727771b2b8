"""The rows of the language, derived from what the engine reads: each of them is to be shown by a file."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from noetl_serverless.error_codes import FAULT, STEP
from noetl_serverless.playbook import grammar, keychain, model, triggers
from noetl_serverless.playbook.part import Part
from noetl_serverless.playbook.scope import LOOP_VARIABLES, RESERVED, VARIABLES
from noetl_serverless.playbook.tool_calls import KIND, ToolCall
from noetl_serverless.tools import registry


def rows() -> dict[str, str]:
    """Row -> the word that a file which shows it contains.

    `Step.loop` is a key, `LoopSpec.mode: parallel` one of its words, `Step.when refused` a key that is refused,
    `http.url` a field of a tool, `kind: http` a kind of tool, `event.name: loop.done`, `to: previous`,
    `feature: loops`, `name: ctx` a name in templates, `error: http.timeout` what a step fails with,
    `fault: playbook.yaml` what is said of a playbook.
    """
    return dict(
        [
            *_of_models(),
            *_of_tools(),
            *((f"event.name: {name}", name) for name in grammar.EVENT_NAMES),
            *((f"to: {name}", name) for name in sorted(grammar.PREVIOUS)),
            *((f"feature: {name}", name) for name in sorted(grammar.FEATURES)),
            *((f"name: {name}", name) for name in sorted({*RESERVED, VARIABLES})),
            *((f"name: iter.{name}", name) for name in LOOP_VARIABLES),
            *((f"error: {code}", code) for code in sorted(STEP)),
            *((f"fault: {code}", code) for code in sorted(FAULT)),
        ]
    )


def _of_models() -> Iterator[tuple[str, str]]:
    for name, part in sorted({**vars(model), **vars(keychain), **vars(triggers)}.items()):
        if not inspect.isclass(part) or not issubclass(part, Part) or part is Part or part.__subclasses__():
            continue
        yield from _of_fields(name, part)
        refused = sorted({*part.legacy, *part.later})
        yield from ((f"{name}.{key} refused", f"{key}:") for key in refused)


def _of_fields(name: str, part: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for field_name, field in part.model_fields.items():
        key = field.alias or field_name
        yield f"{name}.{key}", f"{key}:"
        yield from ((f"{name}.{key}: {word}", str(word)) for word in _words(field))


def _words(field: FieldInfo) -> Iterator[Any]:
    """Those that the field may be, if it is one of several words."""
    words = [word for kind in _parts(field.annotation) if get_origin(kind) is Literal for word in get_args(kind)]
    yield from words if len(words) > 1 else ()


def _of_tools() -> Iterator[tuple[str, str]]:
    for kind in sorted(grammar.BUILTIN_KINDS):
        yield f"kind: {kind}", kind
        if kind == KIND:
            yield from _of_fields(KIND, ToolCall)
        if kind in registry.kinds():
            yield from _of_config(kind, registry.load(kind).config)
    yield from ((f"kind: {kind} refused", kind) for kind in sorted(grammar.LATER_KINDS))


def _of_config(name: str, config: type[BaseModel]) -> Iterator[tuple[str, str]]:
    yield from _of_fields(name, config)
    for field_name, field in config.model_fields.items():
        for kind in _parts(field.annotation):
            if inspect.isclass(kind) and issubclass(kind, BaseModel):
                yield from _of_config(f"{name}.{field.alias or field_name}", kind)


def _parts(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _parts(part)
