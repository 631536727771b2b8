"""What a folder of this package brings to the plugin: one provider, its types and its cloud's ways."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from .given import Given
from .resource import Resource, State
from .values import Block

# the connection, and what is asked
DataSource = Any


class RefusedConfiguration(Exception):
    """The provider's own configuration is no good."""


class Provider(ABC):
    """One provider, before and after it is configured."""

    # the folder; hashicorp's name of the provider; what its types begin with
    name: ClassVar[str]
    # whose API it is, in messages
    cloud: ClassVar[str]
    # what an error of the API may be
    errors: ClassVar[tuple[type[Exception], ...]]
    # arguments that are the provider's own affair wherever they stand
    own: ClassVar[Collection[str]] = ("id",)

    @abstractmethod
    def resources(self) -> dict[str, Resource[Any, Any]]: ...

    @abstractmethod
    def data_sources(self) -> dict[str, DataSource]:
        """Type -> function of the connection and the configuration, which answers with the attributes."""

    @abstractmethod
    def connect(self, config: Mapping[str, Any]) -> Any:
        """What resources and data sources get as their first argument. RefusedConfiguration says why not."""

    @abstractmethod
    def is_gone(self, error: Exception) -> bool:
        """Whether an error of the API says that the thing is not there."""

    def given(self, values: Mapping[str, Any]) -> Given:
        return Given(values)

    @abstractmethod
    def plan(
        self, api: Any, block: Block, planned: State, config: Mapping[str, Any], prior: Mapping[str, Any] | None
    ) -> None:
        """Adds to what is planned what the provider's own configuration gives to every resource."""

    @abstractmethod
    def settle(self, api: Any, block: Block, state: State, expected: Mapping[str, Any]) -> None:
        """Says the same in what was read."""
