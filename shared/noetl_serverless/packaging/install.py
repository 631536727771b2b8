"""Installs locked distributions into a folder, for a platform that may differ from this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from .lock import Locked, requirements
from .pip_config import pip_config, uv_environment
from .target import Target


class InstallFailed(RuntimeError):
    """The message is uv's own."""


def install(locked: Iterable[Locked], target: Target, folder: Path) -> None:
    """Installs wheels only, each checked against its hash, and nothing beyond those named. Raises InstallFailed."""
    wanted = folder.parent / f"{folder.name}.txt"
    wanted.write_text(requirements(locked), encoding="utf-8")
    try:
        _run(
            *("pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
            *("--python-version", target.python, "--python-platform", target.platform),
            *("--link-mode", "copy", "--no-compile-bytecode", "--target", str(folder), "--requirements", str(wanted)),
        )
    finally:
        wanted.unlink()


def _run(*arguments: str) -> None:
    command = [sys.executable, "-m", "uv", *arguments]
    done = subprocess.run(command, env=uv_environment(pip_config()), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        hint = "; `pip install uv` first" if "No module named uv" in done.stderr else ""
        raise InstallFailed(f"{done.stderr.strip()[-2000:]}{hint}")
