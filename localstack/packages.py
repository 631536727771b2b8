"""Packages that differ from those of `make package` in one file."""

from __future__ import annotations

import json
import shutil
import zipfile
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any


def repacked(packages: Path, function: str, target: Path, name: str, text: str) -> Path:
    """The packages, with this text as the file `name` in the package of one function."""
    shutil.copytree(packages, target, ignore=shutil.ignore_patterns("build"))
    path = target / f"{function}.zip"
    with zipfile.ZipFile(packages / path.name) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            if entry.filename != name:
                new.writestr(entry, old.read(entry))
        new.writestr(name, text)
    manifest: dict[str, Any] = json.loads((target / "manifest.json").read_text())
    digest = sha256(path.read_bytes()).digest()
    manifest["functions"][function] |= {"sha256": digest.hex(), "base64sha256": b64encode(digest).decode()}
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target
