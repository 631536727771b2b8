"""Playbook files and the plans of files and of catalog entries. Mistakes in a playbook are reported as wrong use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .client import Client
from .failure import Refused, WrongUse
from .options import TEST_SUFFIX, read_text
from .script_files import with_script_files

if TYPE_CHECKING:
    from ..capsule.recording import Recording
    from ..playbook.plan import Plan

STANDARD_INPUT = "-"
NOT_FOUND = 404
FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        help="Playbook files, or folders to search for .yaml and .yml files; - is standard input.", show_default=False
    ),
]


def playbook_files(paths: list[Path]) -> list[Path]:
    """The files, with each folder replaced by the playbooks below it, without their tests. WrongUse if a folder has
    none."""
    found: list[Path] = []
    for path in paths:
        below = _playbooks_below(path) if path.is_dir() else [path]
        if not below:
            raise WrongUse(f"there is no .yaml or .yml file below {path}")
        found += below
    return found


def _playbooks_below(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*.y*ml") if is_yaml(file.name) and not file.name.endswith(TEST_SUFFIX))


def is_playbook_file(name: str) -> bool:
    """A name that ends like a file's counts as a file even if it does not exist, so that the error message says so."""
    return name == STANDARD_INPUT or is_yaml(name) or Path(name).is_file()


def is_yaml(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


@contextmanager
def in_catalog(name: str) -> Iterator[None]:
    """Of a name that the catalog does not have, it is said if it may be that of a file."""
    try:
        yield
    except Refused as refused:
        if refused.http_status == NOT_FOUND and Path(name).suffix and not is_playbook_file(name):
            refused.detail += "; nor is there a file of this name"
        raise


def plan_of(text: str, name: str, *, with_fields: bool = False) -> Plan:
    """WrongUse that lists every mistake, `with_fields` those in the fields of tools, too; `name` stands for the
    playbook in the message."""
    from ..errors import InvalidPlaybook
    from ..tools.plans import load_checked, load_plan

    try:
        return load_checked(text).plan if with_fields else load_plan(text)
    except InvalidPlaybook as problem:
        raise WrongUse(f"{name}: {problem.detail}", {**problem.to_dict(), "file": name}) from None


def plan_of_file(file: str) -> Plan:
    return plan_of(with_script_files(read_text(file), file), file)


def plan_of_version(client: Client, path: str, version: int | None) -> Plan:
    """The plan of a registered version; by default the newest."""
    entry = client.post("/api/catalog/resource", {"path": path, "version": version or "latest"})
    return plan_of(entry["content"], f"{path} version {entry['version']}")


def recorded_plan(recording: Recording) -> Plan:
    if not recording.playbook:
        raise WrongUse(f"the playbook that execution {recording.execution_id} ran is no longer in the catalog")
    return plan_of(recording.playbook, f"the playbook of execution {recording.execution_id}")
