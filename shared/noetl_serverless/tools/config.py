"""The common base of all tools' configs: strict fields, and presence rules that also work on unrendered configs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from .port import ToolCall, ToolFailure

Location = tuple[int | str, ...]

# the types of errors that are about the name of a field, whatever its value is
UNKNOWN: Final = "extra_forbidden"
NOT_SUPPORTED: Final = "not_supported"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no field of a name, where more is to be said than that it is unknown."""

    message: str
    type: Literal["extra_forbidden", "not_supported"] = UNKNOWN


class ToolConfig(BaseModel):
    """Base of every tool's config: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    @classmethod
    def missing(cls, config: Mapping[str, Any]) -> Iterable[str]:
        """Messages about missing or conflicting fields, whatever their values."""
        return ()

    @classmethod
    def conflicting(cls, config: Mapping[str, Any]) -> Iterable[str]:
        """Messages about fields that exclude each other, of a kind whose `missing` does not give them."""
        return ()

    @classmethod
    def refusal(cls, name: str) -> Refusal | None:
        """About a field that it does not have."""
        return None

    @model_validator(mode="before")
    @classmethod
    def _presence(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Mapping) and not (info.context or {}).get("fields_only"):
            for message in cls.missing(value):
                raise PydanticCustomError("presence", "{message}", {"message": message})
            for message in cls.conflicting(value):
                raise PydanticCustomError("conflict", "{message}", {"message": message})
        return value

    @classmethod
    def of(cls, call: ToolCall) -> Self:
        """The rendered config of a call; ToolFailure `<kind>.config` names every field at fault."""
        config = {key: value for key, value in call.config.items() if key != "input"}
        try:
            return cls.model_validate(config)
        except ValidationError as error:
            messages = "; ".join(problem.message for problem in explain(cls, config, error))
            raise ToolFailure(call.kind, f"{call.kind}.config", f"{call.kind}: {messages}") from None


@dataclass(frozen=True, slots=True)
class ConfigError:
    """One thing wrong with a config. The message names the field, never a value: values may be secret."""

    loc: Location
    type: str
    message: str


def explain(model: type[BaseModel], config: Mapping[str, Any], error: ValidationError) -> list[ConfigError]:
    """The errors, one per place; for a union, those of the member that was validated furthest."""
    from ..playbook.bound_text import bound_text

    problems: dict[Location, ConfigError] = {}
    for fault in error.errors(include_input=False, include_url=False):
        loc = _without_union_tags(config, fault["loc"], keep_last=fault["type"] in ("missing", UNKNOWN))
        # a member of a union that cannot take the value at all says less than one that takes it and finds it wrong
        if loc not in problems or (_is_about_type(problems[loc].type) and not _is_about_type(fault["type"])):
            said = bound_text(fault["type"], fault.get("ctx") or {}, loc[-1] if loc else None)
            problems[loc] = _problem(model, loc, fault["type"], said or fault["msg"])
    deeper = {loc[:length] for loc in problems for length in range(1, len(loc))}
    return [problem for loc, problem in problems.items() if loc not in deeper]


def _problem(model: type[BaseModel], loc: Location, kind: str, message: str) -> ConfigError:
    # tools of other packages may have a config of another base
    if kind == UNKNOWN and len(loc) == 1 and issubclass(model, ToolConfig) and (why := model.refusal(str(loc[0]))):
        return ConfigError(loc, why.type, why.message)
    return ConfigError(loc, kind, _sentence(model, loc, kind, message))


def _is_about_type(kind: str) -> bool:
    return kind.endswith("_type") or kind == "is_instance_of"


def _sentence(model: type[BaseModel], path: Location, kind: str, message: str) -> str:
    where = ".".join(str(part) for part in path)
    if kind == UNKNOWN:
        return f"unknown field {where!r}{_suggestion(_fields_at(model, path[:-1]), path)}"
    if kind == "missing":
        return f"the field {where!r} is required{_purpose(_fields_at(model, path[:-1]), str(path[-1]))}"
    # pydantic names the class of the model
    text = "Input should be an object" if kind == "model_type" else message.removeprefix("Value error, ")
    text = text.replace("Input", "this", 1) if text.startswith("Input") else text
    return f"{where}: {text}" if where else text


def _suggestion(fields: Mapping[str, FieldInfo], path: Location) -> str:
    """A hint at which field was meant by one that does not exist."""
    if close := difflib.get_close_matches(str(path[-1]), fields, n=1):
        return f" (did you mean {close[0]!r}?)"
    if path == ("timeout",):
        return " (it belongs in 'spec': spec: {timeout: ...})"
    return f" (known fields: {', '.join(fields)})" if fields else ""


def _purpose(fields: Mapping[str, FieldInfo], name: str) -> str:
    """What belongs in a field, as its description says."""
    text = (fields[name].description or "") if name in fields else ""
    if not text:
        return ""
    # an abbreviation keeps its capitals
    start = text[0] if text[1:2].isupper() else text[0].lower()
    return f": {start}{text[1:].removesuffix('.')}"


def _fields_at(model: type[BaseModel], path: Location) -> dict[str, FieldInfo]:
    """The fields of the model that is the value at `path`; none if it is no model, or may be one of several."""
    fields = _fields_of(model)
    for part in path:
        models = [] if part not in fields else list(_models_in(fields[str(part)].annotation))
        fields = _fields_of(models[0]) if len(models) == 1 else {}
    return fields


def _fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _without_union_tags(config: Any, loc: Location, keep_last: bool) -> Location:
    """`loc` without the tags that pydantic puts in it for the members of a union."""
    value, path = config, []
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
