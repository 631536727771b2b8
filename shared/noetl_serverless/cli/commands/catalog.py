"""register, list, lint: playbooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import Fault
from ..failure import EXIT_FAILED, Refused, WrongUse
from ..options import TEST_SUFFIX, DataOption, JsonOption, StrictOption, read_text
from ..output import command, console, echo, fault_line, print_json, show, table
from ..script_files import with_script_files
from ..target import running_stack

FilesArgument = Annotated[list[Path], typer.Argument(help="Playbook files, or folders to search for .yaml files.")]


@command
def register(
    files: FilesArgument, data: DataOption = None, strict: StrictOption = False, as_json: JsonOption = False
) -> None:
    """Register playbooks in the catalog. Each gets the next version of its path, unless it equals the newest one."""
    texts = [(file, read_text(str(file))) for file in playbook_files(files)]
    done = []
    with running_stack(data) as client:
        for file, text in texts:
            entry = register_text(client, str(file), text, strict=strict, quiet=as_json)
            done.append({"file": str(file), **entry})
            if not as_json:
                echo(f"{entry['path']} version {entry['version']}")
    if as_json:
        print_json(done)


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


def playbook_files(paths: list[Path]) -> list[Path]:
    """The files, with each folder replaced by the playbooks below it, without their tests."""
    return [file for path in paths for file in (_playbooks_below(path) if path.is_dir() else [path])]


def _playbooks_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*.yaml") if not file.name.endswith(TEST_SUFFIX))


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


@command
def lint(files: FilesArgument, as_json: JsonOption = False) -> None:
    """Check playbook files without a stack. Exit status 1 if one has an error.

    Warnings, about something that is allowed but probably not intended, do not change the exit status.
    """
    errors: list[dict[str, Any]] = []
    warnings: list[dict[str, Any]] = []
    for file in playbook_files(files):
        try:
            text = with_script_files(read_text(str(file)), str(file))
        except WrongUse as unreadable:
            if len(files) == 1 and file == files[0]:
                raise
            # an unreadable file does not hide the mistakes in the others
            errors.append({"file": str(file), "message": unreadable.detail.removeprefix(f"{file}: ")})
            continue
        faults = _faults(text)
        errors += [{"file": str(file), **fault} for fault in faults]
        warnings += [{"file": str(file), **fault} for fault in ([] if faults else _warnings(text))]
    if as_json:
        print_json({"ok": not errors, "errors": errors, "warnings": warnings})
    else:
        for fault in errors:
            echo(fault_line(fault, fault["file"]))
        for fault in warnings:
            echo(fault_line(as_warning(fault), fault["file"]))
        if not errors:
            echo("no errors")
    if errors:
        raise typer.Exit(EXIT_FAILED)


def _faults(text: str) -> list[dict[str, Any]]:
    from ...control_plane.registration import document_of
    from ...errors import InvalidPlaybook
    from ...playbook.scripts import SCRIPT_MISSING

    try:
        document_of(text)
    except InvalidPlaybook as problem:
        # a script at a URL is read when the playbook is registered
        faults = [fault.to_dict() for fault in problem.faults if fault.code != SCRIPT_MISSING]
        return faults if problem.faults else [{"message": problem.detail}]
    return []


def _warnings(text: str) -> list[dict[str, Any]]:
    """The warnings about a playbook without mistakes."""
    from ...control_plane.registration import as_text
    from ...playbook.scripts import SCRIPT_MISSING
    from ...tools.plans import lint as check

    return [Fault.to_dict(found) for found in check(as_text(text)) if found.code != SCRIPT_MISSING]
