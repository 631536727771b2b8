"""Functions that trust each other may share a process, and then what they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class SharedProcess:
    """`core`: an `assembly.core.Core`, made by the first function that needs one."""

    core: object | None = None


_current: ContextVar[SharedProcess | None] = ContextVar("noetl_shared_process", default=None)


def current_process() -> SharedProcess | None:
    """The process that the function being loaded shares with others; None if it has one of its own."""
    return _current.get()


@contextmanager
def sharing(process: SharedProcess) -> Iterator[None]:
    """Functions that are loaded in this context share `process`."""
    token = _current.set(process)
    try:
        yield
    finally:
        _current.reset(token)
