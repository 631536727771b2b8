"""What the fake provider must know of a type of resource, beyond the provider's schema."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from .clients import Clients
from .given import Given

State = dict[str, Any]


class Resource:
    """A type of resource. `create` and `update` pass on what they are given; `read` answers with what AWS has.

    What `read` does not give back is lost, and Terraform then says that the provider's result is not what was planned:
    only the attributes in `kept` and `local` may be copied from the configuration.
    """

    type: ClassVar[str]
    # a change makes a new one
    replace: ClassVar[Collection[str]] = ()
    # what stands where the configuration says nothing
    defaults: ClassVar[Mapping[str, Any]] = {}
    # passed on, but AWS does not tell them again
    kept: ClassVar[Collection[str]] = ()
    # AWS tells them, MiniStack 1.5 takes them and tells nothing: their drift is not seen on that emulator
    forgotten: ClassVar[Collection[str]] = ()
    # for the provider itself, not for AWS
    local: ClassVar[Collection[str]] = ()
    # computed, and new after any change
    volatile: ClassVar[Collection[str]] = ()
    # texts of JSON: the same document is the same value
    json: ClassVar[Collection[str]] = ()

    def create(self, aws: Clients, want: Given) -> State:
        """Enough of a state for `read` to find it again."""
        raise NotImplementedError

    def read(self, aws: Clients, state: State) -> State | None:
        """None, or a ClientError that says so, if it is gone."""
        raise NotImplementedError

    def update(self, aws: Clients, want: Given, state: State) -> None:
        raise NotImplementedError(f"the fake provider cannot change a {self.type}")

    def delete(self, aws: Clients, state: State) -> None:
        raise NotImplementedError

    def same(self, name: str, one: Any, other: Any) -> bool:
        """Whether two values of an attribute mean the same."""
        if one == other:
            return True
        if name not in self.json or not one or not other:
            return False
        return bool(_document(one) == _document(other))


def _document(text: str) -> Any:
    return _plain(json.loads(text))


def _plain(node: Any) -> Any:
    """A policy that names one thing may do so with or without a list."""
    match node:
        case dict():
            return {key: _plain(value) for key, value in node.items()}
        case [one]:
            return _plain(one)
        case list():
            return [_plain(item) for item in node]
        case _:
            return node


_GONE = ("NotFound", "NoSuch", "NonExistent", "ResourceNotFoundException", "404", "NotFoundFault", "DoesNotExist")


def is_gone(error: ClientError) -> bool:
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
