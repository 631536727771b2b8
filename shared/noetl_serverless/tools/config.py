"""What the configurations of all tools have in common: strict fields, and presence rules that also work unrendered."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from .port import ToolCall, ToolFailure


class ToolConfig(BaseModel):
    """Base of every tool's config: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    @classmethod
    def missing(cls, given: Mapping[str, Any]) -> Iterable[str]:
        """What is wrong with which fields are given, whatever their values."""
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
        return parse(cls, call)


C = TypeVar("C", bound=BaseModel)


def parse(model: type[C], call: ToolCall) -> C:
    given = {key: value for key, value in call.config.items() if key != "input"}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        # values stay out of the message: they may hold what a credential or an input brought in
        faults = "; ".join(describe(model, fault["loc"], fault["type"], fault["msg"]) for fault in error.errors())
        raise ToolFailure(call.kind, f"{call.kind}.config", f"{call.kind}: {faults}") from None


def describe(model: type[BaseModel], loc: tuple[int | str, ...], kind: str, message: str) -> str:
    """One fault as a sentence that names the field."""
    where = ".".join(str(part) for part in loc)
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(str(loc[-1]), field_names(model), n=1) if len(loc) == 1 else []
        return f"unknown field {where!r}" + (f" (did you mean {close[0]!r}?)" if close else "")
    if kind == "missing":
        return f"the field {where!r} is required"
    return f"{where}: {message}" if where else message


def field_names(model: type[BaseModel]) -> list[str]:
    return [name for key, spec in model.model_fields.items() for name in {key, spec.alias or key}]
