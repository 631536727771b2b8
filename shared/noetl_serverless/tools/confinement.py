"""Keeps a child from reading its parent's memory and environment, on Linux; elsewhere this has no effect.

A process's environment can be read in /proc by others of the same user, and by root. `close_to_inspection` prevents
that for an ordinary user, `drop_inspection` (in the child) for root.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
# SYS_PTRACE, SYS_ADMIN and PERFMON: each lets root read the memory of others
_INSPECTING = (19, 21, 38)
_CAPABILITY_VERSION_3 = 0x20080522


def close_to_inspection() -> None:
    """From now on, other processes of the same user cannot read this process's memory or environment."""
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent(parent: int) -> None:
    """Have this process killed when the parent's thread that created it ends; exit at once if it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def drop_inspection() -> None:
    """Permanently drop root's capabilities to inspect other processes."""
    if not sys.platform.startswith("linux"):
        return
    for capability in _INSPECTING:
        _prctl(_PR_CAPBSET_DROP, capability)
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # low words of effective, permitted and inheritable, then their high words
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) == 0:
        for capability in _INSPECTING:
            for index in range(3):
                sets[capability // 32 * 3 + index] &= ~(1 << capability % 32)
        libc.capset(header, sets)


def _prctl(option: int, argument: int) -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0)
