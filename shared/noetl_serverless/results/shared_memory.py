"""Results in shared memory, where the next step in this container maps them without a copy.

Never the only copy: what is admitted has been written to its store. A reference then has a hint, with which a reader
finds the bytes; whatever is wrong with that, the reader falls back to the store.

A segment is a file in memory that the kernel has sealed: nobody can change it, task code that has it mapped least of
all, and nothing of it stays when the process ends, however that happens. It has no path that task code could open, nor
needs /dev/shm, which AWS Lambda does not have; another worker of the container asks for its descriptor over a socket.
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
from ..tables.mapped import MappedFile
from ..tables.sealed import is_in_memory, is_sealed, memory_file, seal
from ..telemetry import metrics
from .reference import instant
from .segment_socket import SegmentServer, requested_segment

KIND: Final = "arrow_ipc"
DEFAULT_BYTES: Final = 256 * MIB
LEASE_SECONDS: Final = 60.0
# of the memory that this container may use, at most
SHARE: Final = 4
_NAME = re.compile(r"([0-9a-f]{16})/[0-9a-f]{32}")

# device and inode
_FileId = tuple[int, int]

Fallback = Literal["no_hint", "off", "node", "expired", "missing", "length", "digest"]


class NotShared(Exception):
    """The hint of a reference does not lead to its bytes; `reason` says why."""

    def __init__(self, reason: Fallback) -> None:
        super().__init__(reason)
        self.reason: Fallback = reason


@dataclass(slots=True)
class _Segment:
    file: MappedFile
    lease_until: float


class SharedMemory:
    """At most `budget` bytes. `root`: a folder of this user alone, which is the same in all workers of a container.

    A segment is kept as long as its lease, which every read extends; after that it goes when room is needed, the least
    recently used first, or with `evict_expired`. Who has mapped it keeps it, and its bytes count until then. As long as
    this process has it, so does the room of a file that is being written, or is not admitted.
    """

    def __init__(
        self, root: Path, budget: int, *, lease_seconds: float = LEASE_SECONDS, now: Callable[[], float] = time.time
    ) -> None:
        """Raises OSError if there can be no segments."""
        _make_private(root)
        self.root = root
        self.budget = budget
        self.node = _node_of(root)
        self.lease_seconds = lease_seconds
        self._now = now
        # workers of several pools may share a process, each in a thread of its own
        self._lock = threading.RLock()
        self._segments: OrderedDict[str, _Segment] = OrderedDict()
        # the room of the files that are open and not admitted
        self._opened: dict[_FileId, int] = {}
        # the sum of those, the segments, and those that are evicted while somebody still has them mapped
        self._used = 0
        # bytes of those that nobody has mapped any more, from whatever thread
        self._unmapped: deque[int] = deque()
        # what happened how often: admitted, rejected, evicted, read, and each reason of a fallback
        self.counts: Counter[str] = Counter()
        # begins the names of this process's segments, and is that of its socket
        self._process = ""
        self._pid = 0
        self._server: SegmentServer | None = None

    def open(self, size: int) -> int | None:
        """The descriptor of an empty file in memory, for about so many bytes; None if they have no room."""
        with self._lock:
            if not self._make_room(size):
                return None
            descriptor = memory_file()
            self._opened[_id_of(descriptor)] = size
            self._use(size)
            return descriptor

    def extend(self, descriptor: int, size: int) -> bool:
        """Whether a file that `open` has made may have so many bytes; True for one on a disk."""
        if not is_in_memory(descriptor):
            return True
        with self._lock:
            room = self._opened.get(_id_of(descriptor), 0)
            if size > room:
                if not self._make_room(size - room):
                    return False
                self._opened[_id_of(descriptor)] = size
                self._use(size - room)
            return True

    def admit(
        self, file: MappedFile, sha256: str, *, rows: int, schema_digest: str, media_type: str, producer: str
    ) -> dict[str, Any] | None:
        """The hint; None if there is no room, or the file is not one that `open` has made and that can be sealed."""
        with self._lock:
            room = self._opened.get(_id_of(file.fileno()), 0)
            if not _seal(file.fileno()) or not self._make_room(file.size - room):
                self.counts["rejected"] += 1
                return None
            self._use(-self._opened.pop(_id_of(file.fileno()), 0))
            self._serve()
            name = f"{self._process}/{secrets.token_hex(16)}"
            until = self._now() + self.lease_seconds
            self._segments[name] = _Segment(file, until)
            self._use(file.size)
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
            "lease_expires_at": instant(datetime.fromtimestamp(until, UTC)),
            "media_type": media_type,
        }

    def read(self, hint: Mapping[str, Any] | None, sha256: str, size: int) -> MappedFile:
        """The file of the reference with this digest and size. Raises NotShared."""
        try:
            file = self._read(hint, sha256, size)
        except NotShared as fallback:
            with self._lock:
                self.counts[fallback.reason] += 1
            raise
        with self._lock:
            self.counts["read"] += 1
        return file

    def is_elsewhere(self, hint: Mapping[str, Any] | None) -> bool:
        """Whether another process of this node is asked for it, which may be busy."""
        return hint is not None and hint.get("node_id") == self.node and hint.get("shm_name") not in self._segments

    def evict(self, name: str) -> None:
        """Forget a segment; nothing, if it has gone."""
        with self._lock:
            if self._segments.pop(name, None) is not None:
                self.counts["evicted"] += 1
            self._count_unmapped()

    def evict_expired(self) -> float | None:
        """Evict what nobody has a lease for; the seconds until the next lease expires, or the next look is due at what
        is open and not admitted."""
        with self._lock:
            now = self._now()
            for name in [name for name, segment in self._segments.items() if segment.lease_until <= now]:
                self.evict(name)
            self._forget_closed()
            waits = [segment.lease_until - now for segment in self._segments.values()]
            return min(waits + [self.lease_seconds] * bool(self._opened), default=None)

    def close(self) -> None:
        atexit.unregister(self.close)
        if self._server is not None and self._pid == os.getpid():
            self._server.close()
        with self._lock:
            self._segments.clear()

    # --

    def _read(self, hint: Mapping[str, Any] | None, sha256: str, size: int) -> MappedFile:
        if hint is None:
            raise NotShared("no_hint")
        if hint.get("node_id") != self.node:
            raise NotShared("node")
        name = str(hint.get("shm_name"))
        with self._lock:
            segment = self._segments.get(name)
            # a lease that was extended since is known only to its process
            until = segment.lease_until if segment is not None else _seconds(hint.get("lease_expires_at"))
            if until <= self._now():
                raise NotShared("expired")
            if hint.get("sha256") != sha256:
                raise NotShared("digest")
            if hint.get("byte_length") != size:
                raise NotShared("length")
            file = None if segment is None else self._extended(name, segment)
        if file is None:
            # without the lock, which the other process may wait for in turn
            file = self._of_another_process(name, size)
        if file.size != size:
            raise NotShared("length")
        return file

    def _extended(self, name: str, segment: _Segment) -> MappedFile:
        segment.lease_until = self._now() + self.lease_seconds
        self._segments.move_to_end(name)
        return segment.file

    def _of_another_process(self, name: str, size: int) -> MappedFile:
        match = _NAME.fullmatch(name)
        descriptor = None if match is None else requested_segment(self.root / match[1], name)
        if descriptor is None:
            raise NotShared("missing")
        file = MappedFile(descriptor, size)
        if not is_sealed(descriptor):
            raise NotShared("missing")
        if os.fstat(descriptor).st_size != size:
            raise NotShared("length")
        return file

    def _serve(self) -> None:
        """With the first segment of a process: a host may fork after it has loaded a function, without the thread."""
        if self._pid != os.getpid():
            self._pid, self._process = os.getpid(), secrets.token_hex(8)
            with suppress(OSError):
                self._server = SegmentServer(self.root / self._process, self._descriptor_of)

    def _descriptor_of(self, name: str) -> int | None:
        """For another process that reads it, which extends its lease like every read. Called from a thread."""
        with self._lock:
            segment = self._segments.get(name)
            return None if segment is None else os.dup(self._extended(name, segment).fileno())

    def _make_room(self, size: int) -> bool:
        self._count_unmapped()
        if size > self.budget:
            return False
        if self._used + size > self.budget:
            self._forget_closed()
        now = self._now()
        for name in list(self._segments):
            if self._used + size <= self.budget:
                break
            if self._segments[name].lease_until <= now:
                self.evict(name)
        return self._used + size <= self.budget

    def _forget_closed(self) -> None:
        """Files that were opened and are neither admitted nor there any more."""
        if self._opened:
            # twice, since one look may miss what gets another number meanwhile
            held = _held_files() | _held_files()
            for one in self._opened.keys() - held:
                self._use(-self._opened.pop(one))

    def _count_unmapped(self) -> None:
        while self._unmapped:
            self._use(-self._unmapped.popleft())

    def _use(self, size: int) -> None:
        self._used += size
        metrics.shared_memory_bytes.set(self._used)


@cache
def shared_memory_of(scratch: Path, megabytes: int, lease_seconds: float = LEASE_SECONDS) -> SharedMemory | None:
    """That of this process; None if `megabytes` is 0, or the system has no files in memory that can be sealed. -1: 256,
    or a quarter of the memory that there is."""
    if megabytes == 0:
        return None
    budget = min(DEFAULT_BYTES, _memory_limit() // SHARE) if megabytes < 0 else megabytes * MIB
    with suppress(OSError):
        memory = SharedMemory(scratch / f"noetls-ipc-{os.geteuid()}", budget, lease_seconds=lease_seconds)
        if _works(memory):
            atexit.register(memory.close)
            return memory
        memory.close()
    return None


def _seal(descriptor: int) -> bool:
    """False for a file on a disk, and for one that somebody has mapped for writing."""
    try:
        return is_sealed(descriptor) or seal(descriptor)
    except OSError:
        return False


def _id_of(descriptor: int) -> _FileId:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _held_files() -> set[_FileId]:
    """Those that this process has open or mapped."""
    held: set[_FileId] = set()
    # what is closed after it was mapped is found among the maps, which are read later
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            held.add(_id_of(int(name)))
    with open("/proc/self/maps") as maps:
        for line in maps:
            _, _, _, device, inode, *_ = line.split(None, 5)
            major, minor = device.split(":")
            held.add((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
    return held


def _make_private(root: Path) -> None:
    """Raises OSError if it is not this user's alone: others could listen there."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{root} is not a folder of this user alone")


def _works(memory: SharedMemory) -> bool:
    """Whether a file can be made, sealed and read again."""
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


def _memory_limit() -> int:
    """Bytes that this container may use."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            limit = min(limit, int(Path(path).read_text()))
    return limit


def _node_of(root: Path) -> str:
    """The same for all workers of one container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = secrets.token_hex(8)
    found = root.stat()
    return hashlib.sha256(f"{boot}\n{found.st_dev}\n{found.st_ino}\n{root}".encode()).hexdigest()[:16]


def _seconds(instant: Any) -> float:
    try:
        return datetime.fromisoformat(str(instant)).timestamp()
    except ValueError:
        return 0.0
