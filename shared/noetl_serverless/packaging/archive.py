"""An archive whose bytes depend on nothing but the names and the contents of its files."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zipfile
from pathlib import Path

# the earliest time stamp of a zip
TIMESTAMP = (1980, 1, 1, 0, 0, 0)
# a higher level would spend most of the time on the last tenth of the size
COMPRESSION_LEVEL = 6
_FILE, _PROGRAM = 0o644, 0o755
_REGULAR = 0o100000
_UNIX = 3


def write(folder: Path, path: Path) -> None:
    """Pack `folder` as `path` says, .zip or .tar.gz: entries in order, one time stamp, one of two modes, no folders, no
    links."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    if path.suffix == ".zip":
        _write_zip(folder, temporary)
    else:
        _write_tar(folder, temporary)
    os.replace(temporary, path)


def files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.as_posix())


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in files(folder))


def digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _write_zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL) as archive:
        for file in files(folder):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), TIMESTAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = _UNIX
            entry.external_attr = (_REGULAR | _mode(file)) << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED, COMPRESSION_LEVEL)


def _write_tar(folder: Path, path: Path) -> None:
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", COMPRESSION_LEVEL, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for file in files(folder):
            entry = tarfile.TarInfo(file.relative_to(folder).as_posix())
            entry.size = file.stat().st_size
            entry.mode = _mode(file)
            with file.open("rb") as content:
                archive.addfile(entry, content)


def _mode(file: Path) -> int:
    return _PROGRAM if os.access(file, os.X_OK) else _FILE
