"""Results in files of shared memory, where the next step in this container maps them without a copy.

Never the only copy: what is admitted has been written to its store. A reference then has a hint, with which a reader
finds the file; whatever is wrong with that, the reader falls back to the store. The files are below a folder of this
process, which goes with it.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import re
import secrets
import stat
import threading
import time
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from ..limits import MIB
from ..scratch import ScratchFolder
from ..tables.mapped import MappedFile

KIND: Final = "arrow_ipc"
DEFAULT_BYTES: Final = 256 * MIB
LEASE_SECONDS: Final = 60.0
# of the file system, at most
SHARE: Final = 4
_NAME = re.compile(r"[a-z0-9_-]{1,64}/[0-9a-f]{32}")
_SHARED_MEMORY = Path("/dev/shm")

Fallback = Literal["no_hint", "off", "node", "expired", "missing", "length", "digest"]


class NotShared(Exception):
    """The hint of a reference does not lead to its bytes; `reason` says why."""

    def __init__(self, reason: Fallback) -> None:
        super().__init__(reason)
        self.reason: Fallback = reason


@dataclass(slots=True)
class _Segment:
    path: Path
    file: MappedFile
    bytes: int
    lease_until: float


class SharedMemory:
    """At most `budget` bytes, in files below `root`. `kind`: memory (a tmpfs), or file (mapped from a disk).

    A segment is kept as long as its lease, which every read extends; after that it goes when room is needed, the least
    recently used first, or with `evict_expired`. Who has mapped it keeps it, and its bytes count until then.
    """

    def __init__(
        self, root: Path, budget: int, *, lease_seconds: float = LEASE_SECONDS, now: Callable[[], float] = time.time
    ) -> None:
        """Raises OSError if there can be no such files."""
        self._folder = ScratchFolder(root, "ipc")
        self.root = root
        self.kind = "memory" if root.is_relative_to(_SHARED_MEMORY) else "file"
        self.budget = budget
        self.node = _node_of(root)
        self.lease_seconds = lease_seconds
        self._now = now
        # workers of several pools may share a process, each in a thread of its own
        self._lock = threading.RLock()
        self._segments: OrderedDict[str, _Segment] = OrderedDict()
        # bytes of the segments, and of those whose names are gone while somebody still has them mapped
        self._used = 0
        # bytes of those that nobody has mapped any more, from whatever thread
        self._unmapped: deque[int] = deque()
        # what happened how often: admitted, rejected, evicted, read, and each reason of a fallback
        self.counts: Counter[str] = Counter()

    def open(self, size: int) -> int | None:
        """The descriptor of an empty file without a name, for about so many bytes; None if they have no room."""
        with self._lock:
            if not self._make_room(size):
                return None
        with suppress(OSError):
            return os.open(self._folder.path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        return None

    def admit(
        self, file: MappedFile, sha256: str, *, rows: int, schema_digest: str, media_type: str, producer: str
    ) -> dict[str, Any] | None:
        """The hint; None if there is no room, or the file is not one that `open` has made. Nobody may have it open for
        writing."""
        with self._lock:
            return self._admit(file, sha256, rows, schema_digest, media_type, producer)

    def _admit(
        self, file: MappedFile, sha256: str, rows: int, schema_digest: str, media_type: str, producer: str
    ) -> dict[str, Any] | None:
        if os.fstat(file.fileno()).st_dev != os.stat(self._folder.path).st_dev or not self._make_room(file.size):
            self.counts["rejected"] += 1
            return None
        name = f"{self._folder.path.name}/{secrets.token_hex(16)}"
        path = self.root / name
        try:
            os.fchmod(file.fileno(), stat.S_IRUSR)
            # with a folder's descriptor, which a full path does not need, Python lets the kernel follow the link
            os.link(f"/proc/self/fd/{file.fileno()}", path, src_dir_fd=file.fileno(), follow_symlinks=True)
        except OSError:
            self.counts["rejected"] += 1
            return None
        until = self._now() + self.lease_seconds
        self._segments[name] = _Segment(path, file, file.size, until)
        self._used += file.size
        weakref.finalize(file, self._unmapped.append, file.size)
        self.counts["admitted"] += 1
        return {
            "kind": KIND,
            "shm_name": name,
            "sha256": sha256,
            "schema_digest": schema_digest,
            "byte_length": file.size,
            "row_count": rows,
            "producer": producer,
            "node_id": self.node,
            "lease_expires_at": _instant(until),
            "media_type": media_type,
        }

    def read(self, hint: Mapping[str, Any] | None, sha256: str, size: int) -> MappedFile:
        """The file of the reference with this digest and size. Raises NotShared."""
        with self._lock:
            try:
                file = self._read(hint, sha256, size)
            except NotShared as fallback:
                self.counts[fallback.reason] += 1
                raise
            self.counts["read"] += 1
            return file

    def evict(self, name: str) -> None:
        """Remove the name of a segment; nothing, if it has gone."""
        with self._lock:
            segment = self._segments.pop(name, None)
        if segment is not None:
            segment.path.unlink(missing_ok=True)
            self.counts["evicted"] += 1

    def evict_expired(self) -> float | None:
        """Evict what nobody has a lease for; the seconds until the next lease expires."""
        now = self._now()
        with self._lock:
            return self._evict_expired(now)

    def _evict_expired(self, now: float) -> float | None:
        for name in [name for name, segment in self._segments.items() if segment.lease_until <= now]:
            self.evict(name)
        return min((segment.lease_until - now for segment in self._segments.values()), default=None)

    def close(self) -> None:
        atexit.unregister(self.close)
        self._segments.clear()
        self._folder.remove()

    # --

    def _read(self, hint: Mapping[str, Any] | None, sha256: str, size: int) -> MappedFile:
        if hint is None:
            raise NotShared("no_hint")
        if hint.get("node_id") != self.node:
            raise NotShared("node")
        name = str(hint.get("shm_name"))
        segment = self._segments.get(name)
        # a lease that was extended since is known only here
        until = segment.lease_until if segment is not None else _seconds(hint.get("lease_expires_at"))
        if until <= self._now():
            raise NotShared("expired")
        if hint.get("sha256") != sha256:
            raise NotShared("digest")
        if hint.get("byte_length") != size:
            raise NotShared("length")
        if segment is None:
            return self._of_another_process(name, size)
        if os.fstat(segment.file.fileno()).st_size != size:
            raise NotShared("length")
        segment.lease_until = self._now() + self.lease_seconds
        self._segments.move_to_end(name)
        return segment.file

    def _of_another_process(self, name: str, size: int) -> MappedFile:
        if not _NAME.fullmatch(name):
            raise NotShared("missing")
        try:
            descriptor = os.open(self.root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise NotShared("missing") from None
        file = MappedFile(descriptor, size)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise NotShared("missing")
        if found.st_size != size:
            raise NotShared("length")
        return file

    def _make_room(self, size: int) -> bool:
        self._count_unmapped()
        if size > self.budget:
            return False
        now = self._now()
        for name in list(self._segments):
            if self._used + size <= self.budget:
                break
            if self._segments[name].lease_until <= now:
                self.evict(name)
                self._count_unmapped()
        return self._used + size <= self.budget

    def _count_unmapped(self) -> None:
        while self._unmapped:
            self._used -= self._unmapped.popleft()


@cache
def shared_memory_of(scratch: Path, megabytes: int, lease_seconds: float = LEASE_SECONDS) -> SharedMemory | None:
    """That of this process: in /dev/shm where that can be used, else below `scratch`; None if `megabytes` is 0, or
    nothing can be used. -1: 256, or a quarter of the file system."""
    if megabytes == 0:
        return None
    user = os.geteuid()
    for root in (_SHARED_MEMORY / f"noetls-{user}", scratch / f"noetls-ipc-{user}"):
        with suppress(OSError):
            _make_private(root)
            found = os.statvfs(root)
            room = found.f_frsize * found.f_blocks // SHARE
            budget = min(DEFAULT_BYTES, room) if megabytes < 0 else megabytes * MIB
            memory = SharedMemory(root, budget, lease_seconds=lease_seconds)
            if _works(memory):
                atexit.register(memory.close)
                return memory
            memory.close()
    return None


def _make_private(root: Path) -> None:
    """Raises OSError if it is not this user's alone: others could put files there."""
    root.mkdir(mode=0o700, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{root} is not a folder of this user alone")


def _works(memory: SharedMemory) -> bool:
    """Whether a file can be made, named and read again; AWS Lambda has no usable /dev/shm."""
    descriptor = memory.open(1)
    if descriptor is None:
        return False
    os.write(descriptor, b"x")
    hint = memory.admit(MappedFile(descriptor, 1), "", rows=0, schema_digest="", media_type="", producer="")
    if hint is None:
        return False
    try:
        return bytes(memory.read(hint, "", 1).view) == b"x"
    except (NotShared, OSError, ValueError):
        return False
    finally:
        memory.evict(hint["shm_name"])
        memory.counts.clear()


def _node_of(root: Path) -> str:
    """The same for all processes that see the same files: of one container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = secrets.token_hex(8)
    return hashlib.sha256(f"{boot}\n{os.stat(root).st_dev}\n{root}".encode()).hexdigest()[:16]


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(instant: Any) -> float:
    try:
        return datetime.fromisoformat(str(instant)).timestamp()
    except ValueError:
        return 0.0
