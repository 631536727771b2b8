"""Installs locked distributions into a folder, for a platform that may differ from this one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .lock import Locked, requirements
from .pip_config import UnsupportedByUv, uv_pip
from .target import Target


class InstallFailed(RuntimeError):
    """The message is uv's own, or names the option of pip's configuration that uv does not support."""


def install(locked: Iterable[Locked], target: Target, folder: Path) -> None:
    """Installs wheels only, each checked against its hash, and nothing beyond those named. Raises InstallFailed."""
    wanted = folder.parent / f"{folder.name}.txt"
    wanted.write_text(requirements(locked), encoding="utf-8")
    try:
        done = uv_pip(
            *("install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
            *("--python-version", target.python, "--python-platform", target.platform),
            *("--link-mode", "copy", "--no-compile-bytecode", "--target", str(folder), "--requirements", str(wanted)),
        )
    except UnsupportedByUv as error:
        raise InstallFailed(str(error)) from error
    finally:
        wanted.unlink()
    if done.returncode != 0:
        hint = "; `pip install uv` first" if "No module named uv" in done.stderr else ""
        raise InstallFailed(f"{done.stderr.strip()[-2000:]}{hint}")
