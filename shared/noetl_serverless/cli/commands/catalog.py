"""register, list, and catalog register, list, get, versions, diff, delete, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...playbook.grammar import RESOURCES
from ..client import Client
from ..failure import EXIT_FAILED, Failure, Refused, WrongUse
from ..options import DataOption, JsonOption, StrictOption, read_text
from ..output import command, console, echo, fault_line, print_failure, print_json, show, table
from ..playbooks import FilesArgument, playbook_files
from ..script_files import with_script_files
from ..target import running_stack

app = typer.Typer(help="Manage the catalog: playbooks, tools, agents and others, in versions.", no_args_is_help=True)

PathArgument = Annotated[str, typer.Argument(help="Path in the catalog.", show_default=False)]
DeletedOption = Annotated[bool, typer.Option("--deleted", help="Also list what is deleted.")]
# of what others call, before what calls it
_NOT_PLAYBOOKS = ("Credential", "Tool", "Mcp")
# begins a line of a difference
_STYLES = {"+": "green", "-": "red", "@": "cyan"}


@app.command()
@command
def register(
    files: FilesArgument, data: DataOption = None, strict: StrictOption = False, as_json: JsonOption = False
) -> None:
    """Register playbooks, tools and other documents in the catalog. Each gets the next version of its path, unless it
    equals the newest one. Tools are registered before the playbooks, which call them.

    One that is refused does not keep the others from being registered; the exit status is then 2.
    """
    texts = sorted([(file, read_text(str(file))) for file in playbook_files(files)], key=lambda one: _rank(one[1]))
    done: list[dict[str, Any]] = []
    # path -> the file that was registered last, and its version
    last: dict[str, tuple[Path, int]] = {}
    status = 0
    with running_stack(data) as client:
        for file, text in texts:
            try:
                entry = register_text(client, str(file), text, strict=strict, quiet=as_json)
            except Failure as failure:
                if len(texts) == 1:
                    raise
                status = max(status, failure.status)
                done.append({"file": str(file), "problem": failure.problem})
                if not as_json:
                    print_failure(failure)
                continue
            other, version = last.get(entry["path"], (file, entry["version"]))
            if version != entry["version"]:
                warning = {"message": _same_path(entry["path"], other, file)}
                entry["warnings"] = [*entry.get("warnings", ()), warning]
                if not as_json:
                    console(error=True).print(fault_line(as_warning(warning)), markup=False)
            last[entry["path"]] = file, entry["version"]
            done.append({"file": str(file), **entry})
            if not as_json:
                echo(f"{entry['path']} version {entry['version']}")
    if as_json:
        print_json(done)
    if status:
        raise typer.Exit(status)


def _same_path(path: str, first: Path, second: Path) -> str:
    return (
        f"two files have the path {path}: {first} and {second}. Whenever both are registered, each is a new version "
        "after the other; give one another metadata.path"
    )


def _rank(text: str) -> int:
    """Sorting keeps what has the same rank as it is."""
    from ...control_plane.registration import as_text
    from ...tools.resources import kind_of

    kind = kind_of(as_text(text))
    return _NOT_PLAYBOOKS.index(kind) if kind in _NOT_PLAYBOOKS else len(_NOT_PLAYBOOKS)


def register_text(client: Any, file: str, text: str, *, strict: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Register one document, with the scripts beside it; a refusal names the file. Its warnings are printed on standard
    error, unless `quiet`."""
    try:
        entry: dict[str, Any] = client.register(with_script_files(text, file), strict=strict)
    except Refused as refused:
        refused.detail = f"{file}: {refused.detail}"
        refused.problem["file"] = file
        raise
    warnings = entry.get("warnings", [])
    for warning in () if quiet else warnings:
        console(error=True).print(fault_line(as_warning(warning), file), markup=False)
    kept: dict[str, Any] = {key: entry[key] for key in ("path", "version", "catalog_id", "kind") if key in entry}
    return {**kept, **({"warnings": warnings} if warnings else {})}


def as_warning(fault: dict[str, Any]) -> dict[str, Any]:
    return {**fault, "message": f"warning: {fault['message']}"}


@app.command("list")
@command
def list_(
    kind: Annotated[
        str | None, typer.Option("--kind", help=f"List only this kind: {', '.join(RESOURCES)}.", show_default=False)
    ] = None,
    path: Annotated[str | None, typer.Option("--path", help="List only this path and everything below it.")] = None,
    agents: Annotated[bool, typer.Option("--agents", help="List only agents.")] = False,
    capability: Annotated[
        list[str] | None, typer.Option("--capability", help="List only what has it; of several, all of them.")
    ] = None,
    deleted: DeletedOption = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the newest version of each path of the catalog."""
    if kind is not None and (known := {name.lower(): name for name in RESOURCES}).get(kind.lower()) is None:
        raise WrongUse(f"--kind {kind}: expected one of {', '.join(known.values())}")
    body = {"resource_type": kind, "path": path, "agent_only": agents, "capabilities": capability or []}
    given = {name: value for name, value in {**body, "include_deleted": deleted}.items() if value}
    with running_stack(data) as client:
        # stored credentials, which have no hash, are no documents: `credential list` lists them
        entries = [entry for entry in _pages(client, "/api/catalog/list", given, "offset") if entry["hash"] is not None]
    _print_entries(entries, deleted=deleted, as_json=as_json)


def _pages(client: Client, path: str, body: dict[str, Any], parameter: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    position: int | None = None
    while True:
        page = client.post(path, {**body, **({} if position is None else {parameter: position})})
        entries += page["entries"]
        position = page["next"]
        if position is None:
            return entries


def _print_entries(entries: list[dict[str, Any]], *, deleted: bool, as_json: bool) -> None:
    if as_json:
        print_json(entries)
        return
    columns = ("path", "version", "kind", "created_at", *(("deleted_at",) if deleted else ()))
    show(table(columns, [[entry.get(column) for column in columns] for entry in entries]))


@app.command()
@command
def get(
    path: PathArgument,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="The version to print; by default, the newest.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the text of a version, with --json the whole entry."""
    with running_stack(data) as client:
        entry = client.post("/api/catalog/resource", {"path": path, "version": version or "latest"})
    if as_json:
        print_json(entry)
    else:
        echo(entry["content"].removesuffix("\n"))


@app.command()
@command
def versions(
    path: PathArgument, deleted: DeletedOption = False, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """List the versions of a path, the newest first."""
    with running_stack(data) as client:
        entries = _pages(client, "/api/catalog/versions", {"path": path, "include_deleted": deleted}, "before")
    _print_entries(entries, deleted=deleted, as_json=as_json)


@app.command()
@command
def diff(
    path: PathArgument,
    base: Annotated[int, typer.Argument(min=1, help="The version that is compared with.", show_default=False)],
    version: Annotated[
        int | None, typer.Argument(min=1, help="The version that is compared. Default: the newest.", show_default=False)
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two versions of a path: their texts and, of playbooks, the steps that differ. Exit status 1 if anything
    differs."""
    body = {"path": path, "base": base, **({"version": version} if version else {})}
    with running_stack(data) as client:
        found = client.post("/api/catalog/diff", body)
    if as_json:
        print_json(found)
    else:
        for line in found["text"].splitlines():
            console().print(line, style=_STYLES.get(line[:1]), markup=False, highlight=False, soft_wrap=True)
        for step in found["steps"] or ():
            where = ", ".join(part["where"] for part in step["parts"])
            echo(f"step {step['step']} {step['change']}{f': {where}' if where else ''}")
        if not found["text"]:
            echo(f"{path}: version {found['base']} and version {found['version']} are the same")
    if found["text"]:
        raise typer.Exit(EXIT_FAILED)


VersionOption = Annotated[
    int | None, typer.Option("--version", min=1, help="Only this version; by default, all versions of the path.")
]


@app.command()
@command
def delete(
    path: PathArgument, version: VersionOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Delete a version of a path, or all of them: nothing new is started or resolved from it. What runs goes on, and so
    do playbooks that were registered with it. `noetls catalog restore` brings it back."""
    _change("delete", path, version, data, as_json)


@app.command()
@command
def restore(
    path: PathArgument, version: VersionOption = None, data: DataOption = None, as_json: JsonOption = False
) -> None:
    """Restore a deleted version of a path, or all of them."""
    _change("restore", path, version, data, as_json)


def _change(what: str, path: str, version: int | None, data: Path | None, as_json: bool) -> None:
    with running_stack(data) as client:
        answer = client.post(f"/api/catalog/{what}", {"path": path, **({"version": version} if version else {})})
    if as_json:
        print_json(answer)
    else:
        echo(answer["message"])
