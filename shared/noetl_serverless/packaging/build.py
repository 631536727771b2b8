"""Packages all functions of a host and writes manifest.json, which Terraform reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from ..hosts.table import load_functions
from .function import Package, Packager
from .target import Target

MANIFEST = "manifest.json"


def build(
    project: Path,
    host: str,
    target: Target,
    out: Path,
    *,
    only: Collection[str] = (),
    report: Callable[[str, Package], None] = lambda name, package: None,
) -> Path:
    """Write the zips to `out/<target>/` and return that folder. `only`: build these functions, and leave the zips of
    the others as they are.

    Raises NoInterpreter, InstallFailed, NotLocked, TooBig; ValueError for a function that is not in the table.
    """
    specs = load_functions(project / "functions", host)
    if unknown := set(only) - {spec.name for spec in specs}:
        raise ValueError(f"there is no function {', '.join(sorted(unknown))} on {host}")
    folder = out / target.name
    folder.mkdir(parents=True, exist_ok=True)
    packager = Packager(project, host, target)
    packages = _known(folder) if only else {}
    for spec in specs:
        if not only or spec.name in only:
            package = packager.build(spec, folder)
            packages[spec.name] = package
            report(spec.name, package)
    shutil.rmtree(folder / "build", ignore_errors=True)
    _write(folder, target, packages)
    return folder


def _known(folder: Path) -> dict[str, Package]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {name: Package(**package) for name, package in manifest["functions"].items()}


def _write(folder: Path, target: Target, packages: dict[str, Package]) -> None:
    manifest = {
        "python": target.python,
        "architecture": target.architecture,
        "functions": {name: package.to_dict() for name, package in sorted(packages.items())},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
