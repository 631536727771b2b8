"""A stack's data directory: its paths, its lock, and the stack that runs in it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


class InUse(Exception):
    """Another stack runs on this data directory."""


class Unusable(Exception):
    """The data directory cannot be created."""


class Layout:
    """DIR/{postgres,nats,results,scratch,logs,run.json,secrets.json,ports.json,stack.lock}."""

    def __init__(self, home: Path) -> None:
        self.home = home.expanduser().absolute()
        self.postgres = self.home / "postgres"
        self.nats = self.home / "nats"
        self.results = self.home / "results"
        self.scratch = self.home / "scratch"
        self.logs = self.home / "logs"
        self.secrets = self.home / "secrets.json"
        self._run = self.home / "run.json"
        self._ports = self.home / "ports.json"
        self._lock = self.home / "stack.lock"
        self._users = self.home / "users.lock"

    def create(self) -> None:
        """Unusable if it cannot be created."""
        try:
            # others may pass it but not list it: under root, PostgreSQL runs as another user
            self.home.mkdir(mode=0o711, parents=True, exist_ok=True)
            for folder in (self.results, self.scratch, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            # what exists already is no folder
            reason = "Not a directory" if isinstance(error, FileExistsError) else error.strerror
            raise Unusable(f"{self.home} cannot be the data directory: {error.filename}: {reason}") from error

    def private(self) -> list[Path]:
        """What task code has no business in: all of it, and the database's data if that is elsewhere."""
        return [self.home, self.postgres.resolve()]

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory for one stack; the kernel releases the lock if this process dies. InUse if it is
        locked."""
        with self._lock.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InUse(f"a stack already runs on {self.home}") from error
            lock.truncate(0)
            lock.write(str(os.getpid()).encode())
            lock.flush()
            yield

    def is_locked(self) -> bool:
        if not self._lock.exists():
            return False
        with self._lock.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def mark_used(self) -> IO[bytes]:
        """Mark the running stack as used by a command, until the file is closed."""
        lock = self._users.open("ab")
        fcntl.flock(lock, fcntl.LOCK_SH)
        return lock

    def wait_for_others(self, lock: IO[bytes]) -> None:
        """Wait until no other command uses the stack."""
        fcntl.flock(lock, fcntl.LOCK_EX)

    def running(self) -> dict[str, Any] | None:
        """The run.json of the stack that runs and is ready, if one does."""
        run = self.last_run()
        # a stack that is starting may not have deleted the run.json of a killed one yet
        return run if run and self.is_locked() and str(run["pid"]) == self._lock.read_text() else None

    def last_run(self) -> dict[str, Any] | None:
        with contextlib.suppress(OSError, ValueError):
            run: dict[str, Any] = json.loads(self._run.read_text())
            return run
        return None

    def write_run(self, run: dict[str, Any]) -> None:
        # it holds the URLs of the servers, with their passwords
        write_private(self._run, run)

    def delete_run(self) -> None:
        self._run.unlink(missing_ok=True)

    def ports(self) -> dict[str, int]:
        with contextlib.suppress(OSError, ValueError):
            ports: dict[str, int] = json.loads(self._ports.read_text())
            return ports
        return {}

    def write_ports(self, ports: dict[str, int]) -> None:
        write_private(self._ports, ports)


def write_private(path: Path, content: Any) -> None:
    """Write JSON that only its owner may read; a reader sees the old or the new file, never half of one."""
    temporary = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as target:
        json.dump(content, target, indent=2)
        target.flush()
        os.fsync(target.fileno())
    temporary.replace(path)
