"""The common base of all tools' configs: strict fields, and presence rules that also work on unrendered configs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from .port import ToolCall, ToolFailure

Location = tuple[int | str, ...]


class ToolConfig(BaseModel):
    """Base of every tool's config: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    @classmethod
    def missing(cls, given: Mapping[str, Any]) -> Iterable[str]:
        """Messages about missing, conflicting or unsupported fields, whatever their values."""
        return ()

    @model_validator(mode="before")
    @classmethod
    def _presence(cls, given: Any, info: ValidationInfo) -> Any:
        if isinstance(given, Mapping) and not (info.context or {}).get("fields_only"):
            for message in cls.missing(given):
                raise PydanticCustomError("presence", "{message}", {"message": message})
        return given

    @classmethod
    def of(cls, call: ToolCall) -> Self:
        """The rendered config of a call; ToolFailure `<kind>.config` names every field at fault."""
        given = {key: value for key, value in call.config.items() if key != "input"}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            messages = "; ".join(wrong.message for wrong in explain(cls, given, error))
            raise ToolFailure(call.kind, f"{call.kind}.config", f"{call.kind}: {messages}") from None


@dataclass(frozen=True, slots=True)
class ConfigError:
    """One thing wrong with a config. The message names the field, never a value: values may be secret."""

    loc: Location
    type: str
    message: str


def explain(model: type[BaseModel], given: Mapping[str, Any], error: ValidationError) -> list[ConfigError]:
    """The errors, one per place; for a union, those of the member that was validated furthest."""
    found: dict[Location, ConfigError] = {}
    for fault in error.errors(include_input=False, include_url=False):
        loc = _without_union_tags(given, fault["loc"], keep_last=fault["type"] in ("missing", "extra_forbidden"))
        found.setdefault(loc, ConfigError(loc, fault["type"], _sentence(model, loc, fault["type"], fault["msg"])))
    deeper = {loc[:length] for loc in found for length in range(1, len(loc))}
    return [wrong for loc, wrong in found.items() if loc not in deeper]


def _sentence(model: type[BaseModel], loc: Location, kind: str, message: str) -> str:
    where = ".".join(str(part) for part in loc)
    if kind == "extra_forbidden":
        return f"unknown field {where!r}" + (_suggestion(model, str(loc[0])) if len(loc) == 1 else "")
    if kind == "missing":
        return f"the field {where!r} is required"
    text = message.removeprefix("Value error, ")
    text = text.replace("Input", "this", 1) if text.startswith("Input") else text
    return f"{where}: {text}" if where else text


def _suggestion(model: type[BaseModel], name: str) -> str:
    """A hint at which field was meant by one that does not exist."""
    known = _names(model)
    if close := difflib.get_close_matches(name, known, n=1):
        return f" (did you mean {close[0]!r}?)"
    if name == "timeout":
        return " (it belongs in 'spec': spec: {timeout: ...})"
    return f" (known fields: {', '.join(known)})" if known else ""


def _names(model: type[BaseModel]) -> list[str]:
    return [spec.alias or key for key, spec in model.model_fields.items()]


def _without_union_tags(given: Any, loc: Location, keep_last: bool) -> Location:
    """`loc` without the tags that pydantic puts in it for the members of a union."""
    value, path = given, []
    for index, part in enumerate(loc):
        last = keep_last and index == len(loc) - 1
        if isinstance(value, Mapping) and (part in value or last):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part] if part < len(value) else None
        else:
            continue
        path.append(part)
    return tuple(path)
