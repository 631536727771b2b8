"""Tools that cannot live in the development environment, each in its own environment below build/tools.

    python localstack/toolbox.py terraform    prints the folder of the environment, and creates it if it is missing

terraform   Terraform itself, and what the fake provider of the tests needs (an older protobuf than Google's)
emulator    MiniStack, alone: its functions see the packages of its environment, and must find no others than their own
check       checkov and trivy
noetl       the command line of the original NoETL, which tests run against a stack
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import venv
from contextlib import suppress
from pathlib import Path

from noetl_serverless.packaging.pip_config import PIP, UnsupportedByUv, uv_pip

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "build" / "tools"
LOCKS = Path(__file__).with_name("tools")


def tool(name: str) -> Path:
    """The environment's folder. Rebuilt when its lock file or this Python has changed; RuntimeError if that fails."""
    lock = LOCKS / f"{name}.txt"
    folder = HERE / name
    stamp = folder / "made-from"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return folder
    HERE.mkdir(parents=True, exist_ok=True)
    making = HERE / f".{name}-{os.getpid()}"
    with open(HERE / f".{name}.lock", "w") as alone:
        # two test processes may need it at once: the second uses what the first has built
        fcntl.flock(alone, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == digest):
            _replace(making, folder, lock, digest)
    return folder


def _replace(making: Path, folder: Path, lock: Path, digest: str) -> None:
    try:
        _make(making, lock)
        (making / "made-from").write_text(digest)
        shutil.rmtree(folder, ignore_errors=True)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def python(name: str) -> str:
    return str(tool(name) / "bin" / "python")


def _make(folder: Path, lock: Path) -> None:
    venv.create(folder, with_pip=False)
    target = str(folder / "bin" / "python")
    done = _install(target, "--quiet", "--require-hashes", "--no-deps", "-r", str(lock))
    if done.returncode:
        raise RuntimeError(f"{lock.stem}: {done.stderr.strip()}")


def _install(target: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """With uv where it is installed and supports what pip's configuration says, else with pip."""
    if importlib.util.find_spec("uv"):
        with suppress(UnsupportedByUv):
            return uv_pip("install", "--python", target, *arguments)
    return subprocess.run(
        [*PIP, "--python", target, "install", *arguments], capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    print(tool(sys.argv[1]))
