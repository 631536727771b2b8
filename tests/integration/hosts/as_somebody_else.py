"""Run a function as another user, in a fork of this process."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


def as_user(uid: int, gid: int, work: Callable[[], None]) -> None:
    """AssertionError with the traceback if `work` raises. What it imports must be imported already: the interpreter's
    own files may be closed to that user."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        status = 1
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            work()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as said:
        message = said.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, message
