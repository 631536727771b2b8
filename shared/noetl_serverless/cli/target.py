"""Which stack a command talks to: a deployment, the one that runs on the data directory, or one of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from .client import Client
from .failure import Failure, NoStack, WrongUse
from .options import data_directory

if TYPE_CHECKING:
    from ..hosts.local.layout import Layout

# the deployment that --context names
_context: ContextVar[str | None] = ContextVar("context", default=None)


def choose(context: str | None) -> None:
    _context.set(context)


def chosen() -> str | None:
    return _context.get()


@contextlib.contextmanager
def running_stack(data: Path | None) -> Iterator[Client]:
    """The client of the deployment that was chosen, else of the stack that runs on `data`; NoStack if none does."""
    if (context := chosen()) is not None:
        with _deployment(context, data) as client:
            yield client
        return
    from ..hosts.local.layout import Layout

    layout = Layout(data_directory(data))
    run = layout.running()
    if run is None:
        raise NoStack(f"no stack is running on {layout.home}. Start one: noetls up --detach --data {layout.home}")
    with layout.mark_used(), client_of(layout, run["control_plane_url"]) as client:
        yield client


@contextlib.contextmanager
def running_or_own_stack(data: Path | None) -> Iterator[Client]:
    """The same, but start a stack if none runs, and stop it at the end, when no other command uses it."""
    if (context := chosen()) is not None:
        with _deployment(context, data) as client:
            yield client
        return
    from ..hosts.local.launch import LaunchedProcess, launch
    from ..hosts.local.layout import Layout

    layout = created(Layout(data_directory(data)))
    with layout.mark_used() as lock:
        launched: LaunchedProcess | None = None
        run = layout.running()
        if run is None:
            try:
                launched, run = launch(layout, with_parent=True)
            except RuntimeError as error:
                raise Failure(str(error)) from error
        try:
            with client_of(layout, run["control_plane_url"]) as client:
                yield client
        finally:
            if launched is not None:
                layout.wait_for_others(lock)
                launched.stop()


def created(layout: Layout) -> Layout:
    """The same, whose directory exists. WrongUse if it cannot be created."""
    from ..hosts.local.layout import Unusable

    try:
        layout.create()
    except Unusable as error:
        raise WrongUse(str(error)) from error
    return layout


@contextlib.contextmanager
def _deployment(context: str, data: Path | None) -> Iterator[Client]:
    from .contexts import Contexts

    if data is not None:
        raise WrongUse("--context selects a deployment and --data a local stack: use only one of them")
    with contextlib.closing(Contexts().load(context).client()) as client:
        yield client


@contextlib.contextmanager
def client_of(layout, control_plane_url: str) -> Iterator[Client]:  # type: ignore[no-untyped-def]
    from ..hosts.local.secrets import Secrets

    client = Client(control_plane_url, Secrets.load(layout.secrets).operator_token)
    with contextlib.closing(client):
        yield client
