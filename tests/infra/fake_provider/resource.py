"""What the fake provider must know of a type of resource, beyond the provider's schema."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from .given import Given

State = dict[str, Any]
# the connection to the cloud's API, and the form in which a configuration is given
Api = TypeVar("Api")
Wanted = TypeVar("Wanted", bound=Given)


class HalfMade(Exception):
    """Something is there and is not as it should be: Terraform keeps it, and replaces it at the next apply.

    `key` is what `create` would have answered with.
    """

    def __init__(self, key: State, reason: Exception) -> None:
        super().__init__(str(reason))
        self.key = key


class Resource(Generic[Api, Wanted]):
    """A type of resource. `create` and `update` pass on what they are given; `read` answers with what the cloud has.

    What `read` does not give back is lost, and Terraform then says that the provider's result is not what was planned:
    only the attributes in `kept` and `local` may be copied from the configuration.

    Names are paths, with a dot before what stands in a block: `http_target.uri`.
    """

    type: ClassVar[str]
    # a change makes a new one
    replace: ClassVar[Collection[str]] = ()
    # what stands where the configuration says nothing
    defaults: ClassVar[Mapping[str, Any]] = {}
    # passed on, but the API does not tell them again
    kept: ClassVar[Collection[str]] = ()
    # the API tells them, the emulator takes them and tells nothing: their drift is not seen there
    forgotten: ClassVar[Collection[str]] = ()
    # for the provider itself, not for the API
    local: ClassVar[Collection[str]] = ()
    # computed, and new after any change
    volatile: ClassVar[Collection[str]] = ()
    # texts of JSON: the same document is the same value
    json: ClassVar[Collection[str]] = ()
    # the only values that the provider takes
    choices: ClassVar[Mapping[str, Collection[str]]] = {}
    # regular expressions that the whole value must match
    patterns: ClassVar[Mapping[str, str]] = {}
    # exactly one of the names in a group must be given
    alternatives: ClassVar[Collection[Collection[str]]] = ()

    def create(self, api: Api, want: Wanted) -> State:
        """Enough of a state for `read` to find it again. HalfMade if it is there in spite of a failure."""
        raise NotImplementedError

    def read(self, api: Api, state: State) -> State | None:
        """None, or an error of the API that says so, if it is gone."""
        raise NotImplementedError

    def update(self, api: Api, want: Wanted, state: State) -> None:
        raise NotImplementedError(f"the fake provider cannot change a {self.type}")

    def delete(self, api: Api, state: State) -> None:
        raise NotImplementedError

    def plan(self, api: Api, planned: State, config: Mapping[str, Any], prior: Mapping[str, Any] | None) -> None:
        """Adds to what is planned what is known of the type before the apply."""

    def follows(self, path: str) -> bool:
        """Whether what the cloud has is drift where the configuration says nothing."""
        return False

    def same(self, path: str, one: Any, other: Any) -> bool:
        """Whether two values of an attribute, of the configuration and of the cloud, mean the same."""
        if one == other:
            return True
        if path not in self.json or not one or not other:
            return False
        return bool(self.plain(json.loads(one)) == self.plain(json.loads(other)))

    def plain(self, node: Any) -> Any:
        """A document without what makes no difference in it."""
        return node
