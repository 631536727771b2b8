"""Which user an embedded server runs as: PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OsUser:
    uid: int
    gid: int

    @property
    def is_current(self) -> bool:
        return self.uid == os.geteuid()

    def can_read(self, path: Path) -> bool:
        """Whether this user can pass every folder on the way to `path`, and enter `path` itself."""
        resolved = path.resolve()
        return all(self._may_enter(folder) for folder in (resolved, *resolved.parents))

    def _may_enter(self, folder: Path) -> bool:
        status = folder.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & 0o100)
        return bool(status.st_mode & (0o010 if status.st_gid == self.gid else 0o001))


def unprivileged() -> OsUser:
    """The current user; for root, `nobody` or `daemon`. LookupError if there is neither.

    initdb looks its user up by number, so the number must have an entry.
    """
    if os.geteuid() != 0:
        return OsUser(os.geteuid(), os.getegid())
    for name in ("nobody", "daemon"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return OsUser(entry.pw_uid, entry.pw_gid)
    raise LookupError(
        "PostgreSQL does not run as root, and there is no user `nobody` to run it as. "
        "To use another server, set NOETL_DATABASE_URL"
    )
