"""Loaded by each Python process of a function under test: on Lambda there is no /dev/shm, nor what stands on it."""

import _multiprocessing
import _posixshmem
import builtins
import os
from typing import Any

_SHM = "/dev/shm"


def _without(call: Any) -> Any:
    def refuse(path: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(_SHM):
            raise FileNotFoundError(2, "No such file or directory", os.fsdecode(path))
        return call(path, *rest, **options)

    return refuse


for _name in ("access", "chmod", "listdir", "lstat", "mkdir", "open", "scandir", "stat", "statvfs", "unlink"):
    setattr(os, _name, _without(getattr(os, _name)))
builtins.open = _without(builtins.open)


def _no_shared_memory(*_words: Any, **_options: Any) -> Any:
    raise FileNotFoundError(2, "No such file or directory", _SHM)


class _NoSemaphores:
    SEM_VALUE_MAX = _multiprocessing.SemLock.SEM_VALUE_MAX

    def __init__(self, *_words: Any, **_options: Any) -> None:
        raise OSError(38, "Function not implemented")


_posixshmem.shm_open = _no_shared_memory
_multiprocessing.SemLock = _NoSemaphores
