"""What the host of a function calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import garbage_collection

HERE = Path(__file__).parent


class UnknownHost(ValueError):
    """NOETL_HOST names a host that has no folder here."""


class NotOnThisHost(ValueError):
    """The host has no such function."""


def entry_point(service: str, environ: Mapping[str, str] = os.environ) -> Callable[..., Any]:
    """What hosts/HOST/entry/SERVICE.py makes of the environment; HOST is NOETL_HOST, a laptop if it is not set.

    Raises UnknownHost, NotOnThisHost, and ValueError naming the variable that is wrong.
    """
    host = environ.get("NOETL_HOST", "local")
    if host not in host_names():
        raise UnknownHost(f"NOETL_HOST={host!r}: expected one of {', '.join(host_names())}")
    name = entry_module(host, service)
    if find_spec(name) is None:
        raise NotOnThisHost(f"the host {host} has no function {service!r}")
    with garbage_collection.paused():
        made: Callable[..., Any] = import_module(name).entry_point(environ)
    return made


def entry_module(host: str, service: str) -> str:
    return f"{__package__}.{host}.entry.{service}"


def host_names() -> list[str]:
    """The folders beside this file that have entry points."""
    return sorted(folder.parent.name for folder in _entry_folders())


def _entry_folders() -> Iterator[Path]:
    return (folder for folder in HERE.glob("*/entry") if folder.is_dir())
