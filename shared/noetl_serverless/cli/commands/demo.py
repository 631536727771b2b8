"""demo: what `make run` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..failure import FAILED, Failure
from ..options import DataOption, data_directory
from ..output import command, say
from .catalog import playbook_files, register_text
from .run import show_outcome, watch
from .stack import tell


@command
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder with playbooks.")],
    flagship: Annotated[str, typer.Argument(help="Path of the playbook to run.")],
    data: DataOption = None,
    stay: Annotated[bool, typer.Option("--stay/--no-stay", help="Stay up until Ctrl-C.")] = True,
) -> None:
    """Start a stack, register a folder of playbooks, run one, and stay up until Ctrl-C."""
    import contextlib
    import signal

    from ...hosts.local.launch import launch
    from ...hosts.local.layout import Layout
    from ..target import client_of

    layout = Layout(data_directory(data))
    layout.create()
    say("starting")
    try:
        launched, running = launch(layout, with_parent=True) if not layout.running() else (None, layout.running())
    except RuntimeError as error:
        raise Failure(str(error)) from error
    assert running is not None
    try:
        with client_of(layout, running["control_plane_url"]) as client:
            for file in playbook_files([folder]):
                entry = register_text(client, str(file), file.read_text(encoding="utf-8"))
                say(f"registered {entry['path']}")
            outcome = watch(client, client.execute(flagship, None, {}), quiet=False)
        show_outcome(outcome)
        tell(running, False)
        if outcome["status"] != "COMPLETED":
            raise typer.Exit(FAILED)
        if stay and launched is not None:
            say("up until Ctrl-C")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    finally:
        if launched is not None:
            launched.stop()
