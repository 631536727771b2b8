"""The packages that are deployed, and Terraform's variables for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from ...hosts.table import functions_folder
from ..failure import Failure, WrongUse


def project() -> Path:
    """The folder with functions/ and infra/. Failure if only the library is installed."""
    try:
        return functions_folder().parent
    except FileNotFoundError as error:
        raise Failure(str(error)) from error


def package(host: str, python: str, architecture: str, out: Path | None) -> Path:
    """Build the packages; returns the folder from which Terraform takes the zips."""
    from ...packaging.build import build
    from ...packaging.function import TooBig
    from ...packaging.install import InstallFailed
    from ...packaging.lock import NotLocked
    from ...packaging.target import Architecture, NoInterpreter, Target, Version

    for option, value, known in (
        ("--python", python, get_args(Version)),
        ("--architecture", architecture, get_args(Architecture)),
    ):
        if value not in known:
            raise WrongUse(f"{option} {value!r}: expected one of {', '.join(known)}")
    target = Target(python, architecture)  # type: ignore[arg-type]
    try:
        return build(project(), host, target, out or project() / "dist" / host)
    except (NoInterpreter, InstallFailed, NotLocked, TooBig) as error:
        raise Failure(str(error)) from error


def variables(folder: Path, files: Sequence[Path], assignments: Sequence[str]) -> list[str]:
    """Terraform's options: the user's come last, and so win."""
    return [
        f"-var=package={json.dumps({'directory': str(folder.resolve())})}",
        *(f"-var-file={file.resolve()}" for file in files),
        *(f"-var={assignment}" for assignment in assignments),
    ]
