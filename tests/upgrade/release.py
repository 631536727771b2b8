"""A release of the engine: its code, and a Python that knows this code and no other."""

from __future__ import annotations

import lzma
import os
import subprocess
import sysconfig
import tarfile
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# the release before this one: what users upgrade from
OLD = "4fe7d66"
ARCHIVE = HERE / f"noetl_serverless-{OLD}.tar.xz"
# what of the repository makes a release
PARTS = ("shared", "functions", "pyproject.toml")
# A fault of the release before, mended in the copy that runs here, since it may strike in any store: an answer of
# PostgreSQL whose last message arrives in two pieces counted as complete after the first, and each later answer on that
# connection was taken for another statement's
MENDED_FILE = "shared/noetl_serverless/store/conversation.py"
FAULT = """            if end > len(received):
                break
"""
MENDED = """            if end > len(received):
                code = b""
                break
"""


@dataclass(frozen=True, slots=True)
class Release:
    name: str
    root: Path
    python: Path

    @property
    def functions(self) -> dict[str, dict[str, Any]]:
        """functions.yaml, as it stands: the other release's reader may not know all of it."""
        document = yaml.safe_load((self.root / "functions" / "functions.yaml").read_text())
        rows: dict[str, dict[str, Any]] = document["functions"]
        return rows

    def run(self, program: Path, *words: str) -> str:
        """What a program of ours prints, run by this release's Python. RuntimeError if it fails."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [str(self.python), str(program), *words], capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:
            raise RuntimeError(f"{program.name} by {self.name}: {done.stderr}")
        return done.stdout

    def migrate(self, database_url: str) -> None:
        self.run(HERE / "by_release" / "migrate.py", database_url)


def new_release(home: Path) -> Release:
    """The working tree."""
    return _installed("new", ROOT, home)


def old_release(home: Path) -> Release:
    """Release N-1, from the archive beside this file, with the fault above mended."""
    root = home / OLD
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    file = root / MENDED_FILE
    text = file.read_text()
    if text.count(FAULT) != 1:
        raise RuntimeError(f"{file} does not have the fault that is to be mended")
    file.write_text(text.replace(FAULT, MENDED))
    return _installed("old", root, home)


def _installed(name: str, root: Path, home: Path) -> Release:
    """An environment with the packages of ours and the release's own code; an editable install of another is not seen,
    since `.pth` files below a path that a `.pth` file adds are not read."""
    folder = home / f"python-{name}"
    venv.create(folder, with_pip=False, symlinks=True)
    place = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    packages = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (place / "release.pth").write_text("\n".join([str(root / "shared"), *packages]) + "\n")
    _describe(root, place)
    return Release(name, root, folder / "bin" / "python")


def _describe(root: Path, place: Path) -> None:
    """The release's own metadata, so that its entry points are found and not ours."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    folder = place / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")


def pack(commit: str, target: Path) -> None:
    """The archive of a commit of this repository."""
    made = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=tar", commit, *PARTS], capture_output=True, check=True
    )
    target.write_bytes(lzma.compress(made.stdout, preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    pack(OLD, ARCHIVE)
