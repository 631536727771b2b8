"""hashicorp/google: its endpoints and its token, and the labels that every resource gets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import urllib3

from .. import provider
from ..catalog import types_in
from ..provider import DataSource, RefusedConfiguration
from ..resource import State
from ..values import Block
from . import labels, services
from .api import Api, ApiError, NoEndpoint, OperationFailed
from .resource import ProtectedFromDeletion, Resource
from .services import data
from .services.storage import NotEmpty

_KNOWN = ("access_token", "add_terraform_attribution_label", "default_labels", "project", "region", "zone")
_ENDPOINT = "_custom_endpoint"


class Provider(provider.Provider):
    name = "google"
    cloud = "Google"
    errors = (
        ApiError,
        NoEndpoint,
        NotEmpty,
        OperationFailed,
        ProtectedFromDeletion,
        OSError,
        urllib3.exceptions.HTTPError,
    )

    def resources(self) -> dict[str, Any]:
        return types_in(services, Resource)

    def data_sources(self) -> dict[str, DataSource]:
        return dict(data.SOURCES)

    def connect(self, config: Mapping[str, Any]) -> Api:
        given = {name: value for name, value in config.items() if value not in (None, [], {})}
        endpoints = {name.removesuffix(_ENDPOINT): given.pop(name) for name in list(given) if name.endswith(_ENDPOINT)}
        unknown = sorted(set(given) - set(_KNOWN))
        if unknown:
            raise RefusedConfiguration(f"does not know the provider's {', '.join(unknown)}")
        if not endpoints or any(_is_googles(url) for url in endpoints.values()):
            raise RefusedConfiguration("speaks to stand-ins only: give it its *_custom_endpoint arguments")
        for name, url in endpoints.items():
            if not re.fullmatch(r".*/[^/]+/", url):
                raise RefusedConfiguration(f"refuses {name}{_ENDPOINT} = {url!r}: it must end with a path and a slash")
        token = given.get("access_token") or os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN", "")
        if not token:
            raise RefusedConfiguration("needs an access_token, or GOOGLE_OAUTH_ACCESS_TOKEN")
        return Api(
            project=given.get("project") or os.environ.get("GOOGLE_PROJECT"),
            region=given.get("region") or os.environ.get("GOOGLE_REGION"),
            endpoints=endpoints,
            token=token,
            labels=given.get("default_labels", {}),
            attributed=given.get("add_terraform_attribution_label", True),
        )

    def is_gone(self, error: Exception) -> bool:
        return isinstance(error, ApiError) and error.status == 404

    def plan(
        self, api: Api, block: Block, planned: State, config: Mapping[str, Any], prior: Mapping[str, Any] | None
    ) -> None:
        labels.plan(block, planned, config, prior, api.labels, api.attributed)

    def settle(self, api: Api, block: Block, state: State, expected: Mapping[str, Any]) -> None:
        labels.settle(block, state, expected)


PROVIDER = Provider


def _is_googles(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "googleapis.com" or host.endswith(".googleapis.com")
