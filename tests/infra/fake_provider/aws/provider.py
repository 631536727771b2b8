"""hashicorp/aws: its endpoint, the tags that every resource gets, and the region of each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from .. import provider
from ..catalog import types_in
from ..provider import DataSource, RefusedConfiguration
from ..resource import State
from ..values import UNKNOWN, Block
from . import services
from .clients import Clients
from .given import Given
from .resource import Resource, is_gone
from .services import data


class Provider(provider.Provider):
    name = "aws"
    cloud = "AWS"
    errors = (ClientError, BotoCoreError)
    own = ("id", "region", "tags")

    def resources(self) -> dict[str, Any]:
        return types_in(services, Resource)

    def data_sources(self) -> dict[str, DataSource]:
        return dict(data.SOURCES)

    def connect(self, config: Mapping[str, Any]) -> Clients:
        endpoint = _endpoint_of(config) or os.environ.get("AWS_ENDPOINT_URL", "")
        if not endpoint:
            raise RefusedConfiguration("speaks to emulators only: give it an endpoint")
        tags: dict[str, str] = {}
        for block in config.get("default_tags") or []:
            tags |= block.get("tags") or {}
        return Clients(config.get("region") or os.environ.get("AWS_REGION", "us-east-1"), endpoint, tags)

    def is_gone(self, error: Exception) -> bool:
        return is_gone(error)

    def given(self, values: Mapping[str, Any]) -> Given:
        return Given(values)

    def plan(
        self, api: Clients, block: Block, planned: State, config: Mapping[str, Any], prior: Mapping[str, Any] | None
    ) -> None:
        if "tags_all" in planned:
            given = config.get("tags")
            planned["tags_all"] = UNKNOWN if given is UNKNOWN else _merged(api.tags, given)

    def settle(self, api: Clients, block: Block, state: State, expected: Mapping[str, Any]) -> None:
        if "region" in state and state["region"] is None:
            state["region"] = api.region
        if "tags_all" in state:
            state["tags"] = _own_tags(state["tags_all"], expected)


PROVIDER = Provider


def _endpoint_of(config: Mapping[str, Any]) -> str | None:
    for block in config.get("endpoints") or []:
        for value in block.values():
            if isinstance(value, str) and value:
                return value
    return None


def _merged(tags: Mapping[str, str], given: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**tags, **{name: text for name, text in (given or {}).items() if text is not None}}


def _own_tags(found: Mapping[str, str] | None, expected: Mapping[str, Any]) -> dict[str, str] | None:
    """The tags of the resource itself, without those that every resource gets from the provider."""
    own, everywhere = expected.get("tags") or {}, expected.get("tags_all") or {}
    inherited = {name for name in everywhere if name not in own}
    rest = {name: text for name, text in (found or {}).items() if name not in inherited or everywhere[name] != text}
    return rest if rest or expected.get("tags") is not None else None
