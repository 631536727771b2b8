"""The types of credentials that tools read, and the fields of each. A tool lists them in `credentials`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from ..errors import Fault, json_pointer
from ..playbook.faults import did_you_mean
from . import registry


@cache
def fields_by_type() -> Mapping[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for kind in registry.kinds():
        # tools of other packages may have none
        for type_, fields in getattr(registry.load(kind), "credentials", {}).items():
            found[type_] = found.get(type_, frozenset()) | fields
    return found


def check(type_: str, names: Iterable[str]) -> list[Fault]:
    """Faults about names that are no fields of a known type. They never contain a value."""
    known = fields_by_type().get(type_)
    if known is None:
        return []
    fields = ", ".join(sorted(known))
    return [
        Fault(
            f"a credential of type {type_!r} has no field {name[:100]!r}{did_you_mean(name, known)}; "
            f"its fields are {fields}",
            pointer=json_pointer(["data", name]),
        )
        for name in names
        if name not in known
    ]


def warnings(type_: str) -> list[str]:
    """About a type that no tool reads."""
    known = fields_by_type()
    if type_ in known:
        return []
    return [
        f"no tool reads credentials of type {type_!r}, unless a task of kind http names another type in its auth; "
        f"the types are {', '.join(sorted(known))}{did_you_mean(type_, known)}"
    ]
