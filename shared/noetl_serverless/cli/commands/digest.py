"""digest: a checksum of what an execution did."""

from __future__ import annotations

from typing import Annotated

import typer

from ..failure import EXIT_FAILED, WrongUse
from ..options import DataOption, JsonOption
from ..output import command, echo, print_json, show, table
from ..recordings import RecordedArgument, recording_of


@command
def digest(
    recorded: RecordedArgument,
    data: DataOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Include every event in full, with ids and times.")] = False,
    verify: Annotated[
        str | None,
        typer.Option("--verify", metavar="DIGEST", help="Compare with this digest; exit status 1 if it differs."),
    ] = None,
    entries: Annotated[bool, typer.Option("--entries", help="Show each entry of the hash chain.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the digest of an execution. It is the same for the same playbook and the same tool answers, on every host
    and with any number of workers.

    It ignores ids, times, durations, retries, workers and error messages. With --raw it includes everything, so that
    it detects any change of the log.
    """
    from ...engine import digest as engine

    if verify is not None and not verify.startswith((engine.CANONICAL, engine.RAW)):
        raise WrongUse(f"--verify {verify!r}: a digest begins with {engine.CANONICAL} or {engine.RAW}")
    found = recording_of(recorded, data)
    result = engine.digest(found.execution_id, found.events, found.workload)
    is_raw = raw if verify is None else verify.startswith(engine.RAW)
    value = engine.raw_digest(found.events) if is_raw else result.value
    matches = verify is None or verify == value
    if as_json:
        links = [{"entry": link.name, "sha256": link.sha256, "chain": link.chain} for link in result.links]
        document = {"execution_id": found.execution_id, "digest": value, "ended": result.ended}
        matched = {} if verify is None else {"matches": matches}
        print_json({**document, **matched, **({} if is_raw else {"entries": links})})
    else:
        echo(value)
        if entries:
            show(table(("entry", "sha256"), [(link.name, link.sha256) for link in result.links]))
        if not result.ended:
            echo("the execution is still running; the digest covers what has ended so far")
        if not matches:
            echo(f"the digest of the execution, {value}, differs from the expected one, {verify}")
    if not matches:
        raise typer.Exit(EXIT_FAILED)
