"""IAM conditions on objects' names: the part of CEL that such a condition takes, and no more.

A condition is a disjunction (`||`) of conjunctions (`&&`), without parentheses, of
    resource.name.startsWith("projects/_/buckets/B/objects/P")
    resource.type == "storage.googleapis.com/Object"
    api.getAttribute("storage.googleapis.com/objectListPrefix", "").startsWith("P")
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import InvalidArgument

_STRING = r'"([^"\\]*)"'
_NAME = re.compile(rf"resource\.name\.startsWith\({_STRING}\)")
_TYPE = re.compile(rf"resource\.type\s*==\s*{_STRING}")
_LISTED = re.compile(
    rf"""api\.getAttribute\(\s*["']storage\.googleapis\.com/objectListPrefix["'],\s*(?:""|'')\s*\)"""
    rf"\.startsWith\({_STRING}\)"
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a call is about; `list_prefix` is what a listing of objects is limited to."""

    name: str
    type: str = ""
    list_prefix: str = ""


def check(expression: str) -> None:
    """InvalidArgument if it has another form."""
    holds(expression, Target(""))


def holds(expression: str, target: Target) -> bool:
    found = [[_holds(term.strip(), target) for term in terms.split("&&")] for terms in expression.split("||")]
    return any(all(terms) for terms in found)


def _holds(term: str, target: Target) -> bool:
    if match := _NAME.fullmatch(term):
        return target.name.startswith(match[1])
    if match := _TYPE.fullmatch(term):
        return target.type == match[1]
    if match := _LISTED.fullmatch(term):
        return target.list_prefix.startswith(match[1])
    raise InvalidArgument(f"The stand-in does not evaluate this part of a condition: {term}")
