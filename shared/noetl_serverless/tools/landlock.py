"""Landlock: rules that a process of Linux puts on itself and on all that it starts, for good, without privileges.

A rule allows access to what is beneath a folder; what a ruleset handles and no rule allows is refused. A process under
a ruleset can trace, and read the memory of, only those that are under the same.
"""

from __future__ import annotations

import ctypes
import os
import sys

# the same on every architecture
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_GET_VERSION = 1
_PATH_BENEATH = 1

WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
# REMOVE_DIR, REMOVE_FILE, and all of MAKE_*
CHANGE_FOLDER = sum(1 << bit for bit in range(4, 13))
# files may go to another folder; without it, also where this is not restricted, they may not
REFER = 1 << 13
TRUNCATE = 1 << 14
SCOPE_SIGNAL = 1 << 1

_libc = ctypes.CDLL(None, use_errno=True)


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def version() -> int:
    """Of the interface that the kernel has; 0 if it has none. 2: Linux 5.19, 3: 6.2, 6: 6.12."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _GET_VERSION)))


def create_ruleset(accesses: int, scoped: int = 0) -> int:
    """The descriptor of a ruleset without rules, which handles these. Raises OSError."""
    attributes = _RulesetAttributes(accesses, 0, scoped)
    return _checked(_libc.syscall(_CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), 0))


def allow(ruleset: int, folder: int, accesses: int) -> None:
    """Allow accesses beneath what the descriptor is of. Raises OSError, also if they are not for what it is."""
    beneath = _PathBeneath(accesses, folder)
    _checked(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(beneath), 0))


def restrict_self(ruleset: int) -> None:
    """Put this process under a ruleset; it must have given up to gain privileges. Raises OSError."""
    _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)
