"""Packages that differ from those of `make package` in one file."""

from __future__ import annotations

import json
import shutil
import tempfile
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from noetl_serverless.packaging import archive


def repacked(packages: Path, function: str, target: Path, name: str, text: str) -> Path:
    """The packages, with this text as the file `name` in the package of one function."""
    shutil.copytree(packages, target, ignore=shutil.ignore_patterns("build"))
    manifest: dict[str, Any] = json.loads((target / "manifest.json").read_text())
    package = manifest["functions"][function]
    path = target / package["file"]
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(path, folder, **({} if path.suffix == ".zip" else {"filter": "data"}))
        (Path(folder) / name).write_text(text)
        archive.write(Path(folder), path)
    digest = sha256(path.read_bytes()).digest()
    package |= {"sha256": digest.hex(), "base64sha256": b64encode(digest).decode()}
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target
