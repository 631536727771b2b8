"""Keeps task code from reading the engine's memory and environment, on Linux; elsewhere this has no effect.

A process's environment can be read in /proc by others of the same user, and by root. `close_to_inspection` prevents
that for an ordinary user, `drop_privileges` (in what runs task code) for root.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

from ..limits import CHILD_FILE_BYTES

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
# each lets root read the memory of others, or files past the rules for their folders: DAC_READ_SEARCH, SYS_MODULE,
# SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, MKNOD, PERFMON, BPF and CHECKPOINT_RESTORE; and SYS_RESOURCE: raise limits
_INSPECTING = (2, 16, 17, 19, 21, 24, 27, 38, 39, 40)
_CAPABILITY_VERSION_3 = 0x20080522

_IS_LINUX = sys.platform.startswith("linux")
_libc = ctypes.CDLL(None, use_errno=True)


def close_to_inspection() -> None:
    """From now on, other processes of the same user cannot read this process's memory or environment."""
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent(parent: int) -> None:
    """Have this process killed when the parent's thread that created it ends; exit at once if it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def adopt_orphans() -> None:
    """Become the parent of what this process's descendants leave behind."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def limit_files() -> None:
    """What this process, and those that it starts, write to one file, for good; more fails with EFBIG."""
    _, limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = CHILD_FILE_BYTES if limit == resource.RLIM_INFINITY else min(CHILD_FILE_BYTES, limit)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def drop_privileges() -> None:
    """Gain no privileges any more by running a program, and drop root's capabilities to inspect other processes and to
    raise limits."""
    if not _IS_LINUX:
        return
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for capability in _INSPECTING:
        _prctl(_PR_CAPBSET_DROP, capability)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # low words of effective, permitted and inheritable, then their high words
    sets = (ctypes.c_uint32 * 6)()
    if _libc.capget(header, sets) == 0:
        for capability in _INSPECTING:
            for index in range(3):
                sets[capability // 32 * 3 + index] &= ~(1 << capability % 32)
        _libc.capset(header, sets)


def _prctl(option: int, argument: int) -> None:
    if _IS_LINUX:
        _libc.prctl(option, argument, 0, 0, 0)
