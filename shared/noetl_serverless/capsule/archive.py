"""An untrusted zip file: read in memory, never unpacked to disk, and only within limits."""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path

MAX_ENTRIES = 10_000
MAX_BYTES = 512 * 1024 * 1024
# text compresses well, but no legitimate content by this factor
MAX_RATIO = 200
RATIO_FROM_BYTES = 10 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class BadCapsule(ValueError):
    """The file is no capsule, or one that is not safe to read."""


class CapsuleFile:
    """Raises BadCapsule for any fault of the file."""

    def __init__(self, file: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._left = max_bytes
        try:
            self._zip = zipfile.ZipFile(file)
            entries = self._zip.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise BadCapsule(f"{file} is no capsule of `noetls export`: {error}") from None
        except OSError as error:
            raise BadCapsule(f"{file}: {error.strerror or error}") from None
        try:
            self._entries = _checked(entries, max_bytes)
        except BadCapsule:
            self._zip.close()
            raise

    def __enter__(self) -> CapsuleFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str) -> bytes:
        entry = self._entries.get(name)
        if entry is None:
            raise BadCapsule(f"the capsule has no {name}")
        parts: list[bytes] = []
        size = 0
        try:
            with self._zip.open(entry) as stream:
                while part := stream.read(CHUNK_BYTES):
                    size += len(part)
                    # the size that an entry declares may be false
                    if size > entry.file_size or size > self._left:
                        raise BadCapsule(f"{name} is larger than the archive states")
                    parts.append(part)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
            raise BadCapsule(f"{name} cannot be read: {error}") from None
        except Exception as error:
            # the decompressors raise errors of their own
            if isinstance(error, BadCapsule):
                raise
            raise BadCapsule(f"{name} cannot be unpacked: {error}") from None
        self._left -= size
        return b"".join(parts)


def _checked(entries: Sequence[zipfile.ZipInfo], max_bytes: int) -> dict[str, zipfile.ZipInfo]:
    if len(entries) > MAX_ENTRIES:
        raise BadCapsule(f"the capsule has {len(entries)} entries; the limit is {MAX_ENTRIES}")
    found: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for entry in entries:
        name = entry.filename
        if not _NAME.fullmatch(name) or len(name) > 300:
            raise BadCapsule(f"the capsule has an entry with the name {name[:100]!r}")
        if name in found:
            raise BadCapsule(f"the capsule has two entries with the name {name!r}")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise BadCapsule(f"{name} is not a regular file")
        if entry.flag_bits & 0x1:
            raise BadCapsule(f"{name} is encrypted")
        if entry.file_size > RATIO_FROM_BYTES and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
            raise BadCapsule(f"{name} unpacks to more than {MAX_RATIO} times its size")
        total += entry.file_size
        if total > max_bytes:
            raise BadCapsule(f"the capsule unpacks to more than {max_bytes} bytes")
        found[name] = entry
    return found
