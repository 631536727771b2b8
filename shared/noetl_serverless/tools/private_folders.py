"""Folders that task code cannot open: of a stack on a laptop, whose files belong to the same user.

Landlock knows no rule that refuses, so all else is allowed: at each folder on the way to a private one, what is beside
the way. Where the kernel has no Landlock, nothing is restricted.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import landlock

_CONTENT = landlock.READ_FILE | landlock.WRITE_FILE
_FOLDER = landlock.CHANGE_FOLDER | landlock.REFER
# of the versions of the interface: from which one files can be moved between folders, and signals be restricted
_MOVES_FILES = 2
_RESTRICTS_TRUNCATION = 3
_RESTRICTS_SIGNALS = 6
# paths that are kept though nothing is there any more
_FEW = 100


def is_enforced() -> bool:
    """Whether this kernel can keep a folder private."""
    return landlock.version() >= _MOVES_FILES


@dataclass(slots=True)
class Rules:
    """For one child: `own` is its folder; `allowed`: how many of the entries, as they were counted then."""

    own: str
    descriptor: int
    generation: int
    allowed: int = 0


class PrivateFolders:
    def __init__(self, folders: Sequence[str]) -> None:
        version = landlock.version()
        private = {os.path.realpath(folder) for folder in folders} if version >= _MOVES_FILES else set()
        # what is beside one is not allowed if it is within another
        self._private = {folder for folder in private if private.isdisjoint(_ancestors(folder))}
        self._on_the_way = sorted({folder for private in self._private for folder in _ancestors(private)})
        self._content = _CONTENT | (landlock.TRUNCATE if version >= _RESTRICTS_TRUNCATION else 0)
        self._scoped = landlock.SCOPE_SIGNAL if version >= _RESTRICTS_SIGNALS else 0
        # when the folders on the way were read, what was there, by path and inode (which is not used again while rules
        # refer to it), and the paths that were found, in order
        self._read_at: tuple[int, ...] | None = None
        self._present: set[tuple[str, int]] = set()
        self._found: list[str] = []
        # counts how often the paths were listed anew
        self._generation = 0

    @property
    def separates_processes(self) -> bool:
        """Whether there are rules, which also keep each child from the others' memory."""
        return bool(self._private or self._scoped)

    def rules(self, own: str) -> Rules | None:
        """Rules for one child, which may use the folder `own`, and signal and trace only what it has started; None if
        the kernel has no such rules. `renew` completes them."""
        if not self.separates_processes:
            return None
        return Rules(own, self._new_ruleset(own), self._generation)

    def renew(self, rules: Rules) -> None:
        """Also allow what has appeared beside a private folder since."""
        if not self._private:
            return
        self._look()
        if rules.generation != self._generation:
            os.close(rules.descriptor)
            rules.descriptor = self._new_ruleset(rules.own)
            rules.generation, rules.allowed = self._generation, 0
        for path in self._found[rules.allowed :]:
            self._allow(rules.descriptor, path)
        rules.allowed = len(self._found)

    def _new_ruleset(self, own: str) -> int:
        ruleset = landlock.create_ruleset((self._content | _FOLDER) if self._private else 0, self._scoped)
        if self._private:
            self._allow(ruleset, own)
        return ruleset

    def _look(self) -> None:
        """Note what has appeared, as far as anything has changed."""
        now = tuple([os.stat(folder).st_mtime_ns for folder in self._on_the_way])
        if now == self._read_at:
            return
        self._read_at = now
        present = set(self._siblings())
        self._found += [path for path, _ in present - self._present]
        self._present = present
        if len(self._found) > 2 * len(present) + _FEW:
            self._found = [path for path, _ in present]
            self._generation += 1

    def _siblings(self) -> Iterator[tuple[str, int]]:
        closed = self._private.union(self._on_the_way)
        for folder in self._on_the_way:
            # what may not be listed may not be opened either
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                yield from ((entry.path, entry.inode()) for entry in entries if entry.path not in closed)

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
