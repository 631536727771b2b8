"""Every type that the fake provider knows."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from . import services
from .clients import Clients
from .resource import Resource

DataSource = Callable[[Clients, Mapping[str, Any]], dict[str, Any]]


def resources() -> dict[str, Resource]:
    for module in pkgutil.iter_modules(services.__path__):
        importlib.import_module(f"{services.__name__}.{module.name}")
    return {kind.type: kind() for kind in _all(Resource) if hasattr(kind, "type")}


def data_sources() -> dict[str, DataSource]:
    from .services import data

    return dict(data.SOURCES)


def _all(kind: type[Resource]) -> list[type[Resource]]:
    return [found for child in kind.__subclasses__() for found in (child, *_all(child))]
