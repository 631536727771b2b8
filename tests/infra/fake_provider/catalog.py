"""Every provider of this package, and every type that it knows."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from .provider import DataSource, Provider
from .resource import Resource

R = TypeVar("R", bound=Resource[Any, Any])


_HERE = Path(__file__).parent


def names() -> list[str]:
    """The folders that have a provider."""
    return sorted(path.parent.name for path in _HERE.glob("*/provider.py"))


def provider(name: str) -> Provider:
    """KeyError if this package has none of that name."""
    if name not in names():
        raise KeyError(f"no fake of a provider {name}: there are {', '.join(names())}")
    module = importlib.import_module(f"{__package__}.{name}.provider")
    made: Provider = module.PROVIDER()
    return made


def schema_file(name: str) -> Path:
    return _HERE / name / "schema.json"


def schema(name: str) -> dict[str, Any]:
    """`version`, `provider`, `resources`, `data_sources`: what bindings.py wrote."""
    return dict(json.loads(schema_file(name).read_text()))


def resources(name: str) -> dict[str, Resource[Any, Any]]:
    return provider(name).resources()


def data_sources(name: str) -> dict[str, DataSource]:
    return provider(name).data_sources()


def types_in(package: ModuleType, base: type[R]) -> dict[str, R]:
    """Every type of resource that a module of the package defines."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return {kind.type: kind() for kind in _all(base) if hasattr(kind, "type")}


def _all(kind: type[R]) -> list[type[R]]:
    return [found for child in kind.__subclasses__() for found in (child, *_all(child))]
