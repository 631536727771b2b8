"""What is AWS's in a resource: tags, and what of a policy's text makes no difference."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from botocore.exceptions import ClientError

from .. import resource
from ..resource import State
from .clients import Clients
from .given import Given

__all__ = ["Resource", "State", "as_pairs", "is_gone", "tag_changes", "tags_given", "tags_of"]

_GONE = ("NotFound", "NoSuch", "NonExistent", "ResourceNotFoundException", "404", "NotFoundFault", "DoesNotExist")


class Resource(resource.Resource[Clients, Given]):
    def plain(self, node: Any) -> Any:
        """A policy that names one thing may do so with or without a list."""
        match node:
            case dict():
                return {key: self.plain(value) for key, value in node.items()}
            case [one]:
                return self.plain(one)
            case list():
                return [self.plain(item) for item in node]
            case _:
                return node


def is_gone(error: Exception) -> bool:
    if not isinstance(error, ClientError):
        return False
    code = str(error.response.get("Error", {}).get("Code", ""))
    return any(word in code for word in _GONE)


def tags_of(pairs: Collection[Mapping[str, str]] | None, key: str = "Key", value: str = "Value") -> dict[str, str]:
    return {pair[key]: pair[value] for pair in pairs or ()}


def as_pairs(tags: Mapping[str, str] | None, key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    return [{key: name, value: text} for name, text in sorted((tags or {}).items())]


def tag_changes(want: Given, state: State) -> tuple[dict[str, str], list[str]]:
    """Tags to set, and names of tags to take off."""
    wanted, present = want["tags_all"] or {}, state.get("tags_all") or {}
    want.forgo("tags")
    return (
        {name: text for name, text in wanted.items() if present.get(name) != text},
        sorted(set(present) - set(wanted)),
    )


def tags_given(want: Given) -> dict[str, str]:
    want.forgo("tags")
    return dict(want["tags_all"] or {})
