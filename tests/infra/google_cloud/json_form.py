"""The form of a JSON document that no message of Google's describes: Cloud Storage's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import InvalidArgument

NUMBER = "number"
# in a mapping: of whatever name
ANY_NAME = "*"


def check(value: Any, form: Any, path: str) -> None:
    """`form`: a type, NUMBER, [form], or {name: form}; null is one of each. InvalidArgument."""
    if value is None:
        return
    if isinstance(form, list):
        _expect(isinstance(value, list), path)
        for index, one in enumerate(value):
            check(one, form[0], f"{path}[{index}]")
    elif isinstance(form, Mapping):
        _expect(isinstance(value, dict), path)
        for name, one in value.items():
            if name not in form and ANY_NAME not in form:
                raise InvalidArgument(
                    f"Invalid JSON payload received. Unknown name {name!r} at {path!r}: Cannot find field."
                )
            check(one, form.get(name, form.get(ANY_NAME)), f"{path}.{name}")
    elif form == NUMBER:
        # 64-bit numbers are strings in Google's JSON
        _expect(type(value) is int or (isinstance(value, str) and value.isdigit()), path)
    else:
        _expect(type(value) is form, path)


def _expect(holds: bool, path: str) -> None:
    if not holds:
        raise InvalidArgument(f"Invalid JSON payload received. The value at {path!r} has the wrong type.")
