"""A requirements file with hashes, as uv compiles it. Its comments name what needs each distribution."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_HEAD = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")
_VIA = re.compile(r"^\s+#\s+(?:via\s+)?([A-Za-z0-9._-]+)")

# what a distribution imports without declaring it: PyJWT needs cryptography only for key pairs
UNDECLARED_REQUIREMENTS = {"pyjwt": ("cryptography",)}


class NotLocked(LookupError):
    """A distribution is imported that the lock does not have."""


@dataclass(slots=True)
class Locked:
    """`text` is the requirement with marker and hashes, ready to be installed."""

    name: str
    version: str
    text: str
    needed_by: set[str] = field(default_factory=set)


class Lock:
    def __init__(self, text: str) -> None:
        self._all: dict[str, Locked] = {}
        current: Locked | None = None
        for line in text.splitlines():
            if head := _HEAD.match(line):
                current = Locked(normal(head[1]), head[2], line)
                self._all[current.name] = current
            elif current is not None and line.lstrip().startswith("--hash"):
                current.text += f"\n{line}"
            elif current is not None and (via := _VIA.match(line)) and via[1] != "via":
                current.needed_by.add(normal(via[1]))

    def closure(self, names: Iterable[str]) -> list[Locked]:
        """Those named and all they need, by name. NotLocked if one is missing."""
        wanted: set[str] = set()
        waiting = [normal(name) for name in names]
        while waiting:
            name = waiting.pop()
            if name in wanted:
                continue
            if name not in self._all:
                raise NotLocked(f"{name} is not in the lock")
            wanted.add(name)
            waiting += UNDECLARED_REQUIREMENTS.get(name, ())
            waiting += [other.name for other in self._all.values() if name in other.needed_by]
        return [self._all[name] for name in sorted(wanted)]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(locked: Iterable[Locked]) -> str:
    return "".join(f"{_trimmed(package.text)}\n" for package in locked)


def _trimmed(text: str) -> str:
    return text.rstrip().rstrip("\\").rstrip()
