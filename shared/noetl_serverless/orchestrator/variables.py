"""What users may set as variables of an execution."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ..engine.events import Event
from ..engine.limits import check_variables, size_of
from ..engine.state import State
from ..engine.variables import values_of
from ..errors import Conflict, InvalidRequest
from ..limits import VARIABLE_BYTES, VARIABLE_NAME_CHARACTERS, VARIABLES
from ..playbook.values import InvalidValue
from .start import validated_payload

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_variable_name(name: str) -> bool:
    """Whether templates can read it as `vars.NAME`."""
    return len(name) <= VARIABLE_NAME_CHARACTERS and _NAME.fullmatch(name) is not None


def validated_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Raises InvalidRequest for what cannot be stored or read, or is too large."""
    if not 0 < len(variables) <= VARIABLES:
        raise InvalidRequest(f"there are {len(variables)} variables to set; a request sets from 1 to {VARIABLES}")
    for name in variables:
        if not is_variable_name(name):
            raise InvalidRequest(
                f"{name[:50]!r} cannot be the name of a variable: use letters, digits and '_', not a digit first, and "
                f"at most {VARIABLE_NAME_CHARACTERS} characters"
            )
    values: dict[str, Any] = validated_payload(dict(variables))
    for name, value in values.items():
        if (size := size_of(value)) > VARIABLE_BYTES:
            raise InvalidRequest(
                f"the variable {name!r} has {size} bytes of JSON; the limit is "
                f"{VARIABLE_BYTES}: store the value elsewhere, and set the variable to its address"
            )
    return values


def check_variables_set(fact: Event, state: State) -> None:
    """Raises Conflict if the execution cannot keep all that it sets."""
    try:
        check_variables({**values_of(state.variables), **fact.payload["variables"]})
    except InvalidValue as error:
        raise Conflict(f"{error}; delete what is no longer needed") from None
