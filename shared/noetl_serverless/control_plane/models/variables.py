"""Variables of an execution."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from ...engine.variables import VariableType
from ...limits import VARIABLES
from ...playbook.part import Name
from ...store.variables import StoredVariable
from . import AnswerModel, NoBool, RequestModel


class SetVariables(RequestModel):
    variables: dict[str, Any] = Field(
        min_length=1,
        max_length=VARIABLES,
        description="Name to value. A name has letters, digits and `_`: templates read it as `vars.NAME`.",
    )
    var_type: VariableType = Field(default="user_defined", description="What it is, for readers.")
    source_step: Name | None = Field(default=None, description="Step that the values are of, for readers.")
    ttl: Annotated[float | str | None, NoBool] = Field(
        default=None,
        description="Seconds, or a time such as `30m`, after which the variables are gone. The time of a paused "
        "execution stands still. Default: they stay as long as the execution is stored.",
        examples=[3600, "30m"],
    )


class VariablesSet(AnswerModel):
    execution_id: str
    variables_set: int
    var_names: list[str]
    status: Literal["accepted", "duplicate"] = Field(
        description="duplicate: a request with the same Idempotency-Key came before, and this one changed nothing."
    )


class Variable(AnswerModel):
    value: Any
    type: VariableType
    source_step: str | None = Field(description="Step that has set it, or that its values are of.")
    created_at: datetime
    accessed_at: datetime = Field(description="When it was read by its name last; if it was not, `created_at`.")
    access_count: int = Field(description="How often it was read by its name.")
    expires_at: datetime | None = Field(description="When it is gone; later if its execution is paused meanwhile.")
    scope: Literal["execution"] = "execution"

    @classmethod
    def of(cls, stored: StoredVariable, **names: Any) -> Self:
        return cls(
            **names,
            value=stored.value,
            type=stored.type,
            source_step=stored.source_step,
            created_at=stored.created_at,
            accessed_at=stored.accessed_at,
            access_count=stored.access_count,
            expires_at=stored.expires_at,
        )


class Variables(AnswerModel):
    execution_id: str
    variables: dict[str, Variable]
    count: int


class NamedVariable(Variable):
    execution_id: str
    var_name: str


class VariableDeleted(AnswerModel):
    execution_id: str
    var_name: str
    deleted: bool = Field(description="Whether there was one of this name.")


class VariablesDeleted(AnswerModel):
    execution_id: str
    deleted_count: int
