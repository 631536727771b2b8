"""The Python version and the processor that a package is for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Version = Literal["3.11", "3.12", "3.13"]
Architecture = Literal["x86_64", "arm64"]


class NoInterpreter(RuntimeError):
    """There is no Python of the version that the code is to be compiled for."""


@dataclass(frozen=True, slots=True)
class Target:
    python: Version
    architecture: Architecture

    @property
    def name(self) -> str:
        return f"python{self.python}-{self.architecture}"

    @property
    def platform(self) -> str:
        """uv's name for a platform that Amazon Linux 2023 can run."""
        machine = "aarch64" if self.architecture == "arm64" else self.architecture
        return f"{machine}-manylinux_2_28"


TARGETS = [Target(python, architecture) for python in get_args(Version) for architecture in get_args(Architecture)]


def interpreter(version: str, home: Path | None = None) -> Path:
    """A Python of that version on this machine. Raises NoInterpreter."""
    name = f"python{version}"
    managed = sorted((home or Path.home()).glob(f".pyenv/versions/{version}*/bin/{name}"))
    candidates = [sys.executable, shutil.which(name), *(str(path) for path in managed)]
    for candidate in candidates:
        if candidate and _version(candidate) == version:
            return Path(candidate)
    raise NoInterpreter(f"compiling for Python {version} requires {name}, which was not found")


def _version(executable: str) -> str:
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([executable, "-I", "-c", ask], capture_output=True, text=True, check=False)
    return done.stdout.strip()
