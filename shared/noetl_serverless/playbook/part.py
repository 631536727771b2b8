"""The base of all models of the grammar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, get_args

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationInfo, model_validator

from .document import MapNode
from .faults import Faults

NAME_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
NAME_RULE: Final = "use letters, digits and _, and do not begin with a digit"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=100)]


class Part(BaseModel):
    """A part of the document. Keys in `legacy` are refused with what to write instead, those in `later` as not
    supported yet."""

    # a cold start need not build each of them by itself: of the grammar only the whole is used
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True, defer_build=True)

    legacy: ClassVar[Mapping[str, str]] = {}
    later: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _sort_keys(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, MapNode) or not isinstance(info.context, Faults):
            return value
        known = {field.alias or name for name, field in cls.model_fields.items()}
        allows_extra = cls.model_config.get("extra") == "allow"
        return info.context.sort_keys(value, known, cls.legacy, cls.later, allows_extra, cls._holder)

    @classmethod
    def _holder(cls, key: str) -> str | None:
        """The field of this part that is an object with such a key."""
        for name, field in cls.model_fields.items():
            for part in (field.annotation, *get_args(field.annotation)):
                if isinstance(part, type) and issubclass(part, Part) and key in part.model_fields:
                    return field.alias or name
        return None
