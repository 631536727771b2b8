"""export: an execution as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..client import Client
from ..failure import Failure
from ..options import DataOption, JsonOption
from ..output import command, print_json, say
from ..recordings import fetch, fetch_result
from ..target import running_stack

DEFAULT_BYTES = 64 * 1024 * 1024
# of a credential, what is a name and no secret
PUBLIC = frozenset({"host", "port", "user", "username", "database", "dbname", "sslmode", "type", "header", "name"})


@command
def export(
    execution_id: Annotated[str, typer.Argument(metavar="ID", help="Execution id.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Default: ID.noetl")] = None,
    data: DataOption = None,
    max_bytes: Annotated[
        int, typer.Option("--max-bytes", min=0, help="Of stored results, the small ones first; the rest stays out.")
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

    file = output or Path(f"{execution_id}.noetl")
    masking = Masking()
    with running_stack(data) as client:
        _learn_secrets(client, masking)
        recording = fetch(client, execution_id, results=lambda id, row: fetch_result(client, id, row, max_bytes))
    try:
        packed = write(recording, file, masking, max_bytes=max_bytes, release=version("noetl-serverless"))
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or error}") from None
    if as_json:
        print_json(
            {
                "file": str(file),
                "execution_id": execution_id,
                "executions": packed.executions,
                "events": packed.events,
                "result_bytes": packed.bytes,
                "results_left_out": packed.left_out,
                "masked": packed.masked,
            }
        )
        return
    left = f", {packed.left_out} results left out" if packed.left_out else ""
    masked = f", {packed.masked} values masked" if packed.masked else ""
    say(
        f"{file}: {packed.executions} executions, {packed.events} events, {packed.bytes} bytes of results{left}{masked}"
    )


def _learn_secrets(client: Client, masking: object) -> None:
    from urllib.parse import quote

    from ...telemetry.masking import Masking

    assert isinstance(masking, Masking)
    found = client.get("/api/credentials")
    for entry in found if isinstance(found, list) else found["items"]:
        name = quote(entry["name"], safe="")
        for key, value in client.get(f"/api/credentials/{name}", include_data="true")["data"].items():
            if isinstance(value, str) and key not in PUBLIC:
                masking.register(value)
