"""export, rerun: write an execution to a file, and run it again with its recorded answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...plurals import counted
from ..client import Client
from ..execution_id import checked
from ..failure import EXIT_FAILED, Failure, WrongUse
from ..options import DataOption, JsonOption, read_text
from ..output import command, echo, print_json, remark, show, table
from ..recordings import RecordedArgument, fetch, fetch_result, is_capsule, read_capsule
from ..target import running_stack

if TYPE_CHECKING:
    from ...capsule.recording import Recording
    from ...capsule.rerun import Rerun

DEFAULT_BYTES = 64 * 1024 * 1024
# fields of a credential that are not secret
NON_SECRET_FIELDS = frozenset(
    {"host", "port", "user", "username", "database", "dbname", "sslmode", "type", "header", "name"}
)


@command
def export(
    execution_id: Annotated[str, typer.Argument(metavar="ID", help="Execution id.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="File to write; the default is ID.noetl")
    ] = None,
    data: DataOption = None,
    max_bytes: Annotated[
        int,
        typer.Option(
            "--max-bytes", min=0, help="Limit the total size of stored results; the smallest are included first."
        ),
    ] = DEFAULT_BYTES,
    as_json: JsonOption = False,
) -> None:
    """Write an execution into one file: its log, its playbook, its sub-playbooks, its stored results.

    The values of all stored credentials, and whatever looks like a secret, are masked. `noetls replay`, `diff`,
    `digest`, `explain`, `cost` and `rerun` read the file without a stack.
    """
    from importlib.metadata import version

    from ...capsule.capsule import write
    from ...telemetry.masking import Masking

    file = output or Path(f"{checked(execution_id)}.noetl")
    masking = Masking()
    with running_stack(data) as client:
        _register_secrets(client, masking)
        recording = fetch(client, execution_id, results=lambda id, row: fetch_result(client, id, row, max_bytes))
    try:
        packed = write(recording, file, masking, max_bytes=max_bytes, release=version("noetl-serverless"))
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or error}") from None
    damaged = [
        result.ref
        for nested in recording.with_descendants()
        for result in nested.results.values()
        if result.left_out == "changed"
    ]
    for ref in damaged:
        remark(f"{ref} is damaged: its store has other bytes than those that were written, and it was left out")
    if as_json:
        print_json(
            {
                "file": str(file),
                "execution_id": execution_id,
                "executions": packed.executions,
                "events": packed.events,
                "result_bytes": packed.bytes,
                "results_left_out": packed.left_out,
                "results_damaged": damaged,
                "masked": packed.masked,
            }
        )
        return
    left = f", {counted(packed.left_out, 'result')} left out" if packed.left_out else ""
    masked = f", {counted(packed.masked, 'value')} masked" if packed.masked else ""
    executions, events = counted(packed.executions, "execution"), counted(packed.events, "event")
    echo(f"{file}: {executions}, {events}, {counted(packed.bytes, 'byte')} of results{left}{masked}")


def _register_secrets(client: Client, masking: object) -> None:
    from urllib.parse import quote

    from ...telemetry.masking import Masking

    assert isinstance(masking, Masking)
    for entry in client.items("/api/credentials"):
        name = quote(entry["name"], safe="")
        for key, value in client.get(f"/api/credentials/{name}", include_data="true")["data"].items():
            if isinstance(value, str) and key not in NON_SECRET_FIELDS:
                masking.register(value)


@command
def rerun(
    recorded: RecordedArgument,
    _: Annotated[
        bool, typer.Option("--stub", help="Use the recorded answers; this is the default, and may be omitted.")
    ] = True,
    playbook: Annotated[
        str | None, typer.Option("--playbook", metavar="FILE", help="Run this playbook instead of the recorded one.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recorded execution again, with the recorded answers instead of tools.

    Templates, rules, loops and sub-playbooks are evaluated again; delays, limits and waits are passed over, and signals
    sent as they were. If a task was called several
    times, only its last answer is known. Exit status 1 if the digest of the new run differs, or if a call has no
    recorded answer; 2 if the recording does not have all that the execution did.
    """
    import asyncio

    from ...capsule.rerun import rerun as run_again
    from ...errors import InvalidRequest
    from ..playbooks import plan_of

    text = None if playbook is None else read_text(playbook)
    if text is not None:
        plan_of(text, str(playbook))
    recording = _with_results(recorded, data)
    for nested in recording.with_descendants():
        plan_of(nested.playbook, f"the playbook of execution {nested.execution_id}")
    try:
        result = asyncio.run(run_again(recording, text))
    except InvalidRequest as problem:
        raise WrongUse(problem.detail, problem.to_dict()) from None
    if as_json:
        print_json(_document(recording, result))
    else:
        _show(result)
    if not result.same or result.missing:
        raise typer.Exit(EXIT_FAILED)


def _divergence_text(recorded: str | None, now: str | None) -> str:
    if recorded == now:
        return f"the first difference is in the input, outcome or arcs of {now}; for details, run noetls diff"
    return f"the first difference is {recorded or 'the end'}, now {now or 'the end'}"


def _with_results(recorded: str, data: Path | None) -> Recording:
    if is_capsule(recorded):
        return read_capsule(Path(recorded))[0]
    with running_stack(data) as client:
        return fetch(client, recorded, results=lambda id, row: fetch_result(client, id, row, DEFAULT_BYTES))


def _document(recording: Recording, result: Rerun) -> dict[str, Any]:
    recorded, now = result.first_difference()
    return {
        "execution_id": recording.execution_id,
        "status": result.status.upper(),
        "error": result.error,
        "calls": result.calls,
        "same": result.same,
        "digest": {"recorded": result.recorded.value, "now": result.now.value},
        "first_difference": None if result.same else {"recorded": recorded, "now": now},
        "missing": [
            {name: getattr(call, name) for name in ("step", "generation", "item", "task", "why")}
            for call in result.missing
        ],
    }


def _show(result: Rerun) -> None:
    echo(f"{result.status} after {counted(result.calls, 'recorded answer')}")
    if result.error:
        echo(f"error: {result.error.get('message')}")
    if result.missing:
        rows = [(call.step, call.generation, call.item, call.task, call.why) for call in result.missing]
        show(table(("step", "run", "item", "task", "why no answer"), rows))
    if result.same:
        echo(f"same as recorded: {result.now.value}")
    else:
        recorded, now = result.first_difference()
        echo(f"not as recorded: {_divergence_text(recorded, now)}")
