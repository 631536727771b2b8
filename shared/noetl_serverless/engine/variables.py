"""Variables of an execution: what its steps set with `set: {vars.NAME: ...}`, and users at any time.

A variable that expires is gone from the first event on that is not earlier than its expiry. So nothing has to wake up
for it, no template sees it later than a reader does, and a replay, whose events have the same instants, sees the same.
The time of a paused execution stands still: its variables expire as much later as the pause has lasted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar, get_args

# before the name of a variable among what reports and routes `set`; all other names there are keys of ctx
PREFIX: Final = "vars."

VariableType = Literal["user_defined", "step_result", "computed", "iterator_state"]
TYPES: Final[tuple[str, ...]] = get_args(VariableType)

T = TypeVar("T")


@dataclass(kw_only=True, frozen=True, slots=True)
class Variable:
    """Instants are in ms. `created_at`: when it was set while there was none of its name; `set_at`: when it was set
    last."""

    value: Any
    type: str
    source_step: str | None
    created_at: int
    set_at: int
    expires_at: int | None = None


# replaced, never modified: states share it
Variables = Mapping[str, Variable]


def split(values: Mapping[str, T]) -> tuple[Mapping[str, T], Mapping[str, T]]:
    """What is set, as keys of ctx and as variables by their names."""
    variables = {name.removeprefix(PREFIX): value for name, value in values.items() if name.startswith(PREFIX)}
    if not variables:
        return values, variables
    return {name: value for name, value in values.items() if not name.startswith(PREFIX)}, variables


def place_of(name: str) -> str:
    """Of what is set, as it is written in a playbook: `ctx.total`, `vars.total`."""
    return name if name.startswith(PREFIX) else f"ctx.{name}"


def values_of(variables: Variables) -> dict[str, Any]:
    return {name: variable.value for name, variable in variables.items()}


def with_values(
    variables: Variables,
    values: Mapping[str, Any],
    at: int,
    type: str,
    source_step: str | None,
    expires_at: int | None = None,
) -> Variables:
    """`variables` once `values` are set: each replaces what was there, with its expiry."""
    return {
        **variables,
        **{
            name: Variable(
                value=value,
                type=type,
                source_step=source_step,
                created_at=variables[name].created_at if name in variables else at,
                set_at=at,
                expires_at=expires_at,
            )
            for name, value in values.items()
        },
    }


def without(variables: Variables, names: frozenset[str]) -> Variables:
    return {name: variable for name, variable in variables.items() if name not in names}


def unexpired(variables: Variables, at: int) -> Variables:
    return {
        name: variable
        for name, variable in variables.items()
        if variable.expires_at is None or at < variable.expires_at
    }


def next_expiry(variables: Variables) -> int | None:
    return min((it.expires_at for it in variables.values() if it.expires_at is not None), default=None)


def after_pause(variables: Variables, since: int, until: int) -> Variables:
    """`variables` at the end of a pause: of one that was set meanwhile, only the time since then was not counted."""
    return {
        name: variable
        if variable.expires_at is None
        else replace(variable, expires_at=variable.expires_at + max(0, until - max(since, variable.set_at)))
        for name, variable in variables.items()
    }
