"""demo: what `make run` does."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ...plurals import counted
from ..failure import EXIT_FAILED, Failure
from ..options import DataOption, data_directory
from ..output import command, echo
from ..playbooks import playbook_files
from ..target import created
from .catalog import register_text
from .run import show_outcome, watch
from .stack import print_started

# between two checks of whether the stack still runs
PAUSE_SECONDS = 0.2


@command
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder with playbooks; its data/ is served over HTTP.")],
    path: Annotated[str, typer.Argument(help="Path of the playbook to run.")],
    data: DataOption = None,
    stay: Annotated[bool, typer.Option("--stay/--no-stay", help="Keep the stack running until Ctrl-C.")] = True,
) -> None:
    """Start a stack, register a folder of playbooks, run one, and stay up until Ctrl-C or `noetls down`."""
    from ...hosts.local.launch import has_ended, launch
    from ...hosts.local.layout import Layout
    from ..file_server import serve_folder

    layout = created(Layout(data_directory(data)))
    began = time.monotonic()
    echo(f"starting a stack in {layout.home}")
    try:
        running = layout.running()
        launched, running = (None, running) if running else launch(layout, with_parent=True)
    except RuntimeError as error:
        raise Failure(str(error)) from error
    try:
        with serve_folder(folder / "data") as files:
            try:
                status = _run_playbook(layout, running, folder, path, {"data_url": files})
            except Failure as error:
                if has_ended(launched, running):
                    raise Failure(f"the stack was stopped while the demo ran: {error}") from error
                raise
            echo(f"\nafter {time.monotonic() - began:.1f} s:")
            print_started(running, False)
            echo(f"files          {files}")
            if stay:
                _wait_until(lambda: has_ended(launched, running))
    finally:
        if launched is not None:
            launched.stop()
    if status != "COMPLETED":
        raise typer.Exit(EXIT_FAILED)


def _run_playbook(layout: Any, running: dict[str, Any], folder: Path, path: str, workload: dict[str, Any]) -> str:
    from ..target import client_of

    with client_of(layout, running["control_plane_url"]) as client:
        files = playbook_files([folder])
        for file in files:
            register_text(client, str(file), file.read_text(encoding="utf-8"))
        echo(f"registered {counted(len(files), 'playbook')} of {folder}/, now {path}:\n")
        outcome = watch(client, client.execute(path, None, workload), quiet=False)
    show_outcome(outcome)
    return str(outcome["status"])


def _wait_until(ended: Callable[[], bool]) -> None:
    echo("running until Ctrl-C")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        while not ended():
            time.sleep(PAUSE_SECONDS)
        echo("the stack was stopped, so the demo ends; its data is kept")
