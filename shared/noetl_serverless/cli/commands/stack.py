"""up, down, status, token: the stack as a whole."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

import typer

from ...settings import Settings
from ..failure import EXIT_FAILED, Failure, NoStack, WrongUse
from ..options import DataOption, JsonOption, data_directory
from ..output import command, console, echo, print_json, show, table
from ..target import created

DetachOption = Annotated[
    bool, typer.Option("--detach", help="Run in the background, and return once the stack is ready.")
]
InstancesOption = Annotated[
    int | None,
    typer.Option("--instances", min=1, max=16, help="How often each function is started (default 1)."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=64, help="Number of workers; those beyond the first have their own process."),
]


class Processes(StrEnum):
    TOGETHER = "together"
    SEPARATE = "separate"


ProcessesOption = Annotated[
    Processes | None,
    typer.Option(help="Whether the functions share one process (the default), or each has a process of its own."),
]


@command
def up(
    data: DataOption = None,
    detach: DetachOption = False,
    instances: InstancesOption = None,
    workers: WorkersOption = None,
    processes: ProcessesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start the whole engine and supervise it until Ctrl-C or, with --detach, until `noetls down`.

    NOETL_DATABASE_URL and NOETL_NATS_URL name servers to use instead of the embedded ones. Several instances run behind
    a balancer, each with its own log.
    """
    from ...hosts.local.launch import launch
    from ...hosts.local.layout import Layout

    layout = created(Layout(data_directory(data)))
    given = {"instances": instances, "workers": workers, "processes": processes and processes.value}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not detach:
        _run_in_foreground(layout, chosen, as_json)
        return
    running = layout.running()
    try:
        settings = replace(Settings.from_environment(), **chosen)
        started = running or launch(layout, with_parent=False, options=chosen)[1]
    except (RuntimeError, OSError, ValueError) as error:
        raise Failure(str(error)) from error
    _refuse_other_options(layout, started, chosen)
    print_started(started, as_json)
    if running is None:
        _print_note(settings)


def _refuse_other_options(layout: Any, started: dict[str, Any], chosen: dict[str, Any]) -> None:
    """WrongUse if the stack, which may have been started by somebody else, does not run with what was chosen."""
    # one that an earlier release started does not say
    options = started.get("options", {})
    if other := " ".join(f"--{name} {value}" for name, value in chosen.items() if options.get(name) != value):
        raise WrongUse(
            f"a stack already runs on {layout.home} with other options than {other}; "
            f"`noetls down --data {layout.home}` stops it, and then they can be given"
        )


def _run_in_foreground(layout: Any, chosen: dict[str, Any], as_json: bool) -> None:
    import asyncio

    from ...hosts.local.layout import InUse
    from ...hosts.local.stack import Stack, local_settings, log_file, stop_on_signals

    async def run_stack() -> None:
        stop = asyncio.Event()
        stop_on_signals(stop)
        settings = replace(local_settings(), **chosen)

        def on_ready(started: dict[str, Any]) -> None:
            print_started(started, as_json)
            _print_note(settings)

        await Stack(layout, settings).run(on_ready, stop)

    try:
        log_file(layout.log("supervisor"))
        asyncio.run(run_stack())
    except InUse as error:
        raise WrongUse(f"{error}; `noetls down --data {layout.home}` stops it") from error
    except (RuntimeError, OSError, ValueError, LookupError) as error:
        raise Failure(str(error)) from error


def _print_note(settings: Settings) -> None:
    """That a direct orchestrator has no effect, if it has none."""
    own_process = settings.processes == "separate" or settings.workers > settings.instances
    if settings.orchestrator == "direct" and not own_process:
        reason = "no worker has a process of its own (--processes separate, --workers N)"
        console(error=True).print(f"note: NOETL_ORCHESTRATOR=direct has no effect: {reason}", markup=False)


@command
def down(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Stop the stack and keep its data."""
    from ...hosts.local.launch import stop
    from ...hosts.local.layout import Layout

    layout = Layout(data_directory(data))
    try:
        stopped = stop(layout)
    except RuntimeError as error:
        raise Failure(str(error)) from error
    if as_json:
        print_json({"status": "stopped", "was_running": stopped, "data": str(layout.home)})
    else:
        echo(f"stopped; the data is kept in {layout.home}" if stopped else f"no stack is running on {layout.home}")


@command
def status(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the parts of the stack and whether they are ready. Exit status 1 if a part is not ready or no stack is
    running."""
    from ...hosts.local.layout import Layout

    layout = Layout(data_directory(data))
    running = layout.running()
    if running is None:
        state = "starting" if layout.is_locked() else "stopped"
        if as_json:
            print_json({"status": state, "data": str(layout.home)})
        else:
            echo(f"{state} ({layout.home})")
        raise typer.Exit(EXIT_FAILED)
    pids = running["pids"]
    served = {name: process for process, names in running["functions"].items() for name in names}
    servers = [name for name in pids if name not in running["functions"]]
    parts = {name: _part(name, pids.get(served.get(name, name)), running) for name in (*servers, *served)}
    ready = all(part["ready"] for part in parts.values())
    if as_json:
        print_json({"status": "running" if ready else "degraded", **public(running), "parts": parts})
    else:
        show(table(("part", "pid", "ready", "url"), [_row(name, part) for name, part in parts.items()]))
        echo(f"up since {running['started_at']}, data in {layout.home}")
    if not ready:
        raise typer.Exit(EXIT_FAILED)


@command
def token(
    data: DataOption = None,
    url: Annotated[
        bool, typer.Option("--url", help="Print the URL of the control plane with the token as its password.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the running stack's operator token, for other clients of its API.

    Who has the token may do everything.
    """
    from urllib.parse import urlsplit

    from ...hosts.local.layout import Layout
    from ...hosts.local.secrets import Secrets

    layout = Layout(data_directory(data))
    running = layout.running()
    if running is None:
        raise NoStack(f"no stack is running on {layout.home}. Start one: noetls up --detach --data {layout.home}")
    secret = Secrets.load(layout.secrets).operator_token
    address = urlsplit(running["control_plane_url"])
    with_token = address._replace(netloc=f"noetl:{secret}@{address.netloc}").geturl()
    if as_json:
        print_json({"token": secret, "url": with_token, "control_plane_url": running["control_plane_url"]})
    else:
        # as it is: a console would wrap it
        typer.echo(with_token if url else secret)


def public(running: dict[str, Any]) -> dict[str, Any]:
    """run.json without the servers' URLs, which hold passwords, and without what only `up` and `status` read."""
    return {
        key: value
        for key, value in running.items()
        if key not in ("database_url", "nats_url", "pids", "functions", "options")
    }


def print_started(started: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"status": "running", **public(started)})
        return
    echo(f"control plane  {started['control_plane_url']}")
    if "gateway_url" in started:
        echo(f"gateway        {started['gateway_url']}/graphql")
    echo(f"data           {started['data']}")


def _part(name: str, pid: int | None, running: dict[str, Any]) -> dict[str, Any]:
    """`pid`: None while its process is being restarted."""
    import psutil

    url = running.get(f"{name}_url")
    if name in ("postgres", "nats"):
        return {"pid": pid, "ready": pid is not None and psutil.pid_exists(pid), "url": None}
    return {"pid": pid, "ready": _answers(f"{url}/readyz"), "url": url}


def _answers(url: str) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _row(name: str, part: dict[str, Any]) -> tuple[Any, ...]:
    return name, part["pid"], part["ready"], part["url"]
