"""Folders that task code cannot open: of a stack on a laptop, whose files belong to the same user.

Landlock knows no rule that refuses, so all else is allowed: at each folder on the way to a private one, what is beside
the way. Where the kernel has no Landlock, nothing is restricted.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence

from . import landlock

_CONTENT = landlock.READ_FILE | landlock.WRITE_FILE
_FOLDER = landlock.CHANGE_FOLDER | landlock.REFER
# of the versions of the interface: from which one files can be moved between folders, and signals be restricted
_MOVES_FILES = 2
_RESTRICTS_TRUNCATION = 3
_RESTRICTS_SIGNALS = 6


def is_enforced() -> bool:
    """Whether this kernel can keep a folder private."""
    return landlock.version() >= _MOVES_FILES


class PrivateFolders:
    def __init__(self, folders: Sequence[str]) -> None:
        version = landlock.version()
        private = {os.path.realpath(folder) for folder in folders} if version >= _MOVES_FILES else set()
        # what is beside one is not allowed if it is within another
        self._private = {folder for folder in private if private.isdisjoint(_ancestors(folder))}
        self._on_the_way = sorted({folder for private in self._private for folder in _ancestors(private)})
        self._content = _CONTENT | (landlock.TRUNCATE if version >= _RESTRICTS_TRUNCATION else 0)
        self._scoped = landlock.SCOPE_SIGNAL if version >= _RESTRICTS_SIGNALS else 0

    @property
    def separates_processes(self) -> bool:
        """Whether there are rules, which also keep each child from the others' memory."""
        return bool(self._private or self._scoped)

    def stamp(self) -> tuple[int, ...]:
        """Changes when there is something new beside a private folder, which a ruleset made earlier does not allow."""
        return tuple([os.stat(folder).st_mtime_ns for folder in self._on_the_way])

    def ruleset(self, own: str) -> int | None:
        """The descriptor of rules for one child, which may use the folder `own`, and signal and trace only what it has
        started; None if the kernel has no such rules."""
        if not self.separates_processes:
            return None
        ruleset = landlock.create_ruleset((self._content | _FOLDER) if self._private else 0, self._scoped)
        if self._private:
            for path in (own, *self._siblings()):
                self._allow(ruleset, path)
        return ruleset

    def _siblings(self) -> Iterator[str]:
        closed = self._private.union(self._on_the_way)
        for folder in self._on_the_way:
            # what may not be listed may not be opened either
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                yield from (entry.path for entry in entries if entry.path not in closed)

    def _allow(self, ruleset: int, path: str) -> None:
        try:
            # what a link leads to is allowed by where it is
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISLNK(mode):
                landlock.allow(ruleset, descriptor, self._content | (_FOLDER if stat.S_ISDIR(mode) else 0))
        finally:
            os.close(descriptor)


def _ancestors(path: str) -> Iterator[str]:
    while path != (path := os.path.dirname(path)):
        yield path
