"""result: read, list, put and delete results of executions."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any, Literal, cast
from urllib.parse import quote, urlencode

import typer

from ...plurals import counted
from ...tables.media_types import MEDIA_TYPES, Form, form_named, form_of_file
from ...uri import SCHEME, ResultUri
from ..client import Client
from ..conversion import write_converted
from ..execution_id import checked
from ..failure import Failure, Refused, WrongUse
from ..loop_results import LoopResults, Value, loop_path
from ..options import DataOption, JsonOption
from ..output import command, console, echo, print_json, remark, show, table
from ..tabular import type_of_file, write
from ..target import running_stack
from ..transfer import Progress, described, download, upload
from ..visible_bytes import VisibleBytes

# a transfer of less is over before anybody wonders
LARGE_BYTES = 8 * 1024 * 1024
LIST_ROWS = 500
# what a shell reports of a program that SIGPIPE has ended
EXIT_PIPE = 128 + 13
STDIN = "-"
# the last part of the path of what lists results, at which no step can be read
LIST = "list"

app = typer.Typer(help="Read, list, put and delete results of executions.", no_args_is_help=True)

StepArgument = Annotated[
    str | None, typer.Argument(metavar="[STEP]", help="With the id of an execution: the newest result of this step.")
]
ScopeOption = Literal["step", "execution", "workflow", "permanent"]
CodecOption = Literal["gzip", "zstd"]
StoreOption = Literal["auto", "object", "disk", "s3", "gcs", "kv", "postgres", "db"]


@app.command("get")
@command
def get(
    ref: Annotated[str, typer.Argument(metavar="REF|ID", help="URI of a result, or the id of an execution.")],
    step: StepArgument = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write a file, whole or not at all.", dir_okay=False),
    ] = None,
    wanted: Annotated[
        Form | None,
        typer.Option(
            "--as",
            help="Convert a table, or a list of objects.",
            show_default="by the ending of FILE, if it is that of such a form; else as it is stored",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="NAME", help="Of a result with several tables, this one: a field, or a.b.0."),
    ] = None,
    item: Annotated[
        int | None,
        typer.Option("--item", min=0, metavar="N", help="Of a loop, the result of this item; 0 is the first."),
    ] = None,
    data: DataOption = None,
) -> None:
    """Write a result to standard output, or to a file.

    Of a result that has one table in it, or one called rows, --as csv, ndjson, parquet and arrow give that table; where
    a step has accumulated something, they give what it has accumulated, however much that is, and --table NAME another
    one. --as json gives the whole result. That of a loop has the list of the items' results, and how many have
    succeeded.
    """
    if output is not None:
        wanted = _form_of(output, wanted)
    with running_stack(data) as client:
        path = _of_loop(client, ref, step, item) if item is not None else _path_of(client, ref, step)
        if output is not None and wanted is None:
            _check_ending(client, path, output)
        if isinstance(path, Value | LoopResults):
            content_type = _written(path, output, wanted, table)
        elif wanted is None and table is None:
            with _target(output) as file, _progress() as progress:
                content_type = download(client, path, file.write, progress).content_type
        else:
            with _target(output) as file:
                content_type = write_converted(client, path, file, wanted, table, _progress)
    if output is not None:
        remark(f"{output}: {counted(output.stat().st_size, 'byte')} written, {content_type}")


def _form_of(output: Path, wanted: Form | None) -> Form | None:
    """That which the file is to have. Raises WrongUse if its ending says another than is wanted."""
    form = form_of_file(output.suffix)
    if form is not None and wanted not in (None, form):
        raise WrongUse(
            f"{output.name} is the name of a file of {form}, and --as says {wanted}: leave --as out, or give the file "
            "another ending"
        )
    return wanted or form


def _check_ending(client: Client, path: str | Value | LoopResults, output: Path) -> None:
    """Raises Failure for a table, or JSON, in a file of whose ending people expect something else."""
    if not output.suffix:
        return
    stored = described(client, path).content_type if isinstance(path, str) else MEDIA_TYPES["json"]
    form = form_named(stored)
    if form is not None:
        raise WrongUse(
            f"{output.name}: no form of a result is known by the ending {output.suffix}. Use .csv, .json, .ndjson, "
            f".parquet or .arrow, or say the form: --as {form} writes it as it is stored"
        )


def _of_loop(client: Client, ref: str, step: str | None, item: int) -> Value:
    if step is None or ref.startswith(SCHEME):
        raise WrongUse("--item is for the id of an execution and a STEP that is a loop")
    return Value(LoopResults(client, loop_path(checked(ref), step)).item(item))


def _written(found: Value | LoopResults, output: Path | None, wanted: Form | None, table: str | None) -> str:
    """What needs no download, or many. Its media type."""
    form = wanted or ("json" if table is None else "arrow")
    pieces = found.json() if table is None and form == "json" else None
    # what there is not is said before a file is begun
    first = b"" if pieces is None else next(pieces, b"")
    with _target(output) as target:
        target.write(first)
        if pieces is None:
            write(found.whole, target, form, table)
        else:
            target.writelines(pieces)
    return MEDIA_TYPES[form]


def _path_of(client: Client, ref: str, step: str | None) -> str | LoopResults:
    if ref.startswith(SCHEME):
        if step is not None:
            raise WrongUse("give a URI alone, or the id of an execution and a STEP")
        return f"/api/result/resolve?{urlencode({'ref': _uri(ref)})}"
    if step is None:
        raise WrongUse(
            f"name the step, too: noetls result get {ref} STEP. noetls result list {ref} shows what there is"
        )
    if step == LIST:
        raise WrongUse(
            f"the name {LIST} is that of the list of results: noetls result list {ref} --step {LIST} shows the URI of "
            "what this step has given, and noetls result get URI reads it. A small result is in the log: noetls events "
            f"{ref} --json"
        )
    path = f"/api/result/{checked(ref)}/{quote(step, safe='')}"
    try:
        found = client.get(path)
    except Refused as refused:
        loop = refused.problem.get("loop_results")
        if not isinstance(loop, str):
            raise
        return LoopResults(client, loop)
    if found["ref"] is None:
        # it is small, and in the log
        return f"{path}?resolve=true"
    # one result, though another may be stored meanwhile
    return f"/api/result/resolve?{urlencode({'ref': found['ref'], 'sha256': found['sha256']})}"


def _uri(text: str) -> str:
    try:
        ResultUri.parse(text)
    except ValueError as error:
        raise WrongUse(str(error)) from None
    return text


@contextlib.contextmanager
def _target(output: Path | None) -> Iterator[IO[bytes]]:
    """Standard output, or a file that takes its place once it is whole. Failure if it cannot be written."""
    if output is None:
        if sys.stdout.isatty():
            # it is text there, with its control characters as JSON has them
            remark("writing to a terminal; -o FILE writes a file")
        with _ended_by_reader():
            if sys.stdout.isatty():
                shown = VisibleBytes(sys.stdout.buffer)
                yield cast(IO[bytes], shown)
                shown.finish()
            else:
                yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(output)
    except OSError as error:
        raise Failure(f"{output} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _ended_by_reader() -> Iterator[None]:
    """As of other programs: whoever reads our output, such as `head`, has enough of it, and nothing is said of that."""
    try:
        yield
    except BrokenPipeError:
        # else the interpreter writes what is left, and complains
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_PIPE) from None


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on stderr, for large results and people."""
    shown = console(error=True)
    if not shown.is_terminal:
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    bars = Bars(BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=shown)
    with bars:
        task = bars.add_task("", total=None, visible=False)
        yield lambda done, total: bars.update(task, completed=done, total=total, visible=total >= LARGE_BYTES)


@app.command("list")
@command
def list_(
    execution_id: Annotated[str, typer.Argument(metavar="ID", help="Id of an execution.")],
    step: Annotated[str | None, typer.Option("--step", help="List only results of this step.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="List only results of this name.")] = None,
    scope: Annotated[ScopeOption | None, typer.Option("--scope", help="List only results with this scope.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the results of an execution that are stored by reference: those of its steps, and those that were put."""
    query: dict[str, Any] = {"step": step, "name": name, "scope": scope, "limit": LIST_ROWS}
    found: list[dict[str, Any]] = []
    with running_stack(data) as client:
        after: str | None = ""
        while after is not None:
            page = client.get(f"/api/result/{checked(execution_id)}/list", after=after, **query)
            found += page["results"]
            after = page["next"]
    if as_json:
        print_json(found)
        return
    if not found:
        echo("no results")
        return
    columns = ("name", "step", "bytes", "content_type", "store", "scope", "expires_at", "ref")
    show(table(columns, [[row[column] for column in columns] for row in found]))


@app.command("put")
@command
def put(
    execution_id: Annotated[str, typer.Argument(metavar="ID", help="Id of an execution.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the result.")],
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="File to put; - for standard input.")],
    store: Annotated[StoreOption, typer.Option("--store", help="Where it is kept.")] = "auto",
    scope: Annotated[ScopeOption, typer.Option("--scope", help="Whose end it outlives, if any.")] = "execution",
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="TIME", help="Gone after this time, such as 30m or 1d, or forever.")
    ] = None,
    source_step: Annotated[str | None, typer.Option("--step", help="Step that it is of; by default, its name.")] = None,
    compress: Annotated[CodecOption | None, typer.Option("--compress", help="Store it compressed.")] = None,
    as_type: Annotated[
        str | None,
        typer.Option(
            "--as-type", metavar="TYPE", help="Media type, such as text/csv.", show_default="by the file's ending"
        ),
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a file into an execution, as a result of any type."""
    content_type = as_type or type_of_file(Path(file))
    query = {
        "name": name,
        "store": store,
        "scope": scope,
        **({"ttl": ttl} if ttl is not None else {}),
        **({"source_step": source_step} if source_step is not None else {}),
        **({"compress": compress} if compress is not None else {}),
    }
    path = f"/api/result/{checked(execution_id)}?{urlencode(query)}"
    with running_stack(data) as client, _source(file) as (content, size), _progress() as progress:
        answer = upload(
            client, path, content, size, content_type=content_type, key=str(uuid.uuid4()), progress=progress
        )
    if as_json:
        print_json(answer)
        return
    echo(answer["ref"])
    if answer["status"] == "same":
        remark("the name has this content already")


@contextlib.contextmanager
def _source(name: str) -> Iterator[tuple[IO[bytes], int]]:
    """The file and its size; standard input becomes a file, so that it can be sent again. WrongUse if it cannot be
    read."""
    with contextlib.ExitStack() as opened:
        try:
            if name == STDIN:
                file: IO[bytes] = opened.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(sys.stdin.buffer, file, 1024 * 1024)
                file.flush()
            else:
                file = opened.enter_context(Path(name).open("rb"))
            size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise WrongUse(f"{name}: {error.strerror or error}") from None
        yield file, size


@app.command("delete")
@command
def delete(
    ref: Annotated[str, typer.Argument(metavar="REF|ID", help="URI of a result, or the id of an execution.")],
    step: Annotated[str | None, typer.Option("--step", help="With an ID: delete the results of this step.")] = None,
    scope: Annotated[
        ScopeOption | None, typer.Option("--scope", help="With an ID: delete the results with this scope.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="With an ID: delete all but the permanent results.")
    ] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a result, or results of an execution, with their objects. A step that reads one then fails with
    REFERENCE_NOT_AVAILABLE, unless its worker still has it in memory."""
    is_uri = ref.startswith(SCHEME)
    if is_uri and (step is not None or scope is not None or everything):
        raise WrongUse("--step, --scope and --all are for the id of an execution, not for a URI")
    if not is_uri and step is None and scope is None and not everything:
        raise WrongUse("say what to delete: a URI, or with the id of an execution --step, --scope or --all")
    deleted = 0
    with running_stack(data) as client:
        if is_uri:
            deleted = client.delete(f"/api/result?{urlencode({'ref': _uri(ref)})}")["deleted_count"]
        else:
            path = f"/api/result/{checked(ref)}" + (f"/step/{quote(step, safe='')}" if step is not None else "")
            after: str | None = ""
            while after is not None:
                query = {"after": after, **({"scope": scope} if scope is not None else {})}
                answer = client.delete(f"{path}?{urlencode(query)}")
                deleted += answer["deleted_count"]
                after = answer["next"]
    if not deleted and is_uri:
        raise Failure(f"there is no result {ref}, or it has been deleted before")
    if not deleted and step is not None:
        raise Failure(
            f"execution {ref} has no result of a step {step!r} that could be deleted. noetls result list {ref} shows "
            "what there is"
        )
    if as_json:
        print_json({"deleted_count": deleted})
    else:
        echo(f"deleted {counted(deleted, 'result')}")
