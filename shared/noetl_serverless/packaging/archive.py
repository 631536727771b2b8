"""A zip whose bytes depend on nothing but the names and the contents of its files."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

# the earliest time stamp of a zip
TIMESTAMP = (1980, 1, 1, 0, 0, 0)
# a higher level would spend most of the time on the last tenth of the size
COMPRESSION_LEVEL = 6
_FILE, _PROGRAM = 0o100644, 0o100755
_UNIX = 3


def write(folder: Path, path: Path) -> None:
    """Zip `folder`: entries in order, one time stamp, one of two modes, no folders, no links."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL) as archive:
        for file in files(folder):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), TIMESTAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = _UNIX
            entry.external_attr = (_PROGRAM if os.access(file, os.X_OK) else _FILE) << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED, COMPRESSION_LEVEL)
    os.replace(temporary, path)


def files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.as_posix())


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in files(folder))


def digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
