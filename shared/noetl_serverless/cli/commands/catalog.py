"""register, list: the catalog."""

from __future__ import annotations

from typing import Any

import typer

from ..failure import Failure, Refused
from ..options import DataOption, JsonOption, StrictOption, read_text
from ..output import command, console, echo, fault_line, print_failure, print_json, show, table
from ..playbooks import FilesArgument, playbook_files
from ..script_files import with_script_files
from ..target import running_stack


@command
def register(
    files: FilesArgument, data: DataOption = None, strict: StrictOption = False, as_json: JsonOption = False
) -> None:
    """Register playbooks in the catalog. Each gets the next version of its path, unless it equals the newest one.

    One that is refused does not keep the others from being registered; the exit status is then 2.
    """
    texts = [(file, read_text(str(file))) for file in playbook_files(files)]
    done: list[dict[str, Any]] = []
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
            done.append({"file": str(file), **entry})
            if not as_json:
                echo(f"{entry['path']} version {entry['version']}")
    if as_json:
        print_json(done)
    if status:
        raise typer.Exit(status)


def register_text(client: Any, file: str, text: str, *, strict: bool = False, quiet: bool = False) -> dict[str, Any]:
    """Register one playbook, with the scripts beside it; a refusal names the file. Its warnings are printed on standard
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


@command
def list_(data: DataOption = None, as_json: JsonOption = False) -> None:
    """List the catalog."""
    with running_stack(data) as client:
        entries, offset = [], 0
        while offset is not None:
            page = client.post("/api/catalog/list", {"resource_type": "Playbook", "offset": offset})
            entries += page["entries"]
            offset = page.get("next")
    if as_json:
        print_json(entries)
        return
    columns = ("path", "version", "kind", "created_at")
    show(table(columns, [[entry.get(column) for column in columns] for entry in entries]))
