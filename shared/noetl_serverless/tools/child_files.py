"""How a Python child gets open files from its parent; see `file_frames`. Loaded only by a call that has some."""

from __future__ import annotations

import errno
import mmap
import os
import socket
from typing import Any

import orjson

from .compiled_code import framed
from .file_frames import GIVEN, MAX_DESCRIPTORS, ask_for_file, ask_for_room

# Linux alone receives descriptors that a program which is started does not inherit
_FLAGS: int = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class NoFile(OSError):
    """The parent has no file to give."""


def given_files(channel: int) -> list[int]:
    """The descriptors of the files that this call is given."""
    return _ask(channel, GIVEN)


class FilesOfParent:
    """See `tables.sealed.NewFiles`; one file of a call."""

    def __init__(self, channel: int) -> None:
        self._channel = channel

    def open(self, size: int) -> int:
        descriptors = _ask(self._channel, ask_for_file(size))
        if len(descriptors) != 1:
            raise NoFile(errno.EMFILE, os.strerror(errno.EMFILE))
        return descriptors[0]

    def extend(self, descriptor: int, size: int) -> bool:
        moved = _ask(self._channel, ask_for_room(size))
        for other in moved:
            os.dup2(other, descriptor, inheritable=False)
            os.close(other)
        return bool(moved)


def written(channel: int, content: memoryview) -> int:
    """Write it to a file of the parent's; its size. Raises OSError."""
    descriptor = FilesOfParent(channel).open(len(content))
    try:
        place = 0
        while place < len(content):
            place += os.write(descriptor, content[place:])
    finally:
        os.close(descriptor)
    return place


def read_text(descriptor: int, start: int, end: int) -> Any:
    """The JSON value in these bytes of a file, which is closed."""
    try:
        with mmap.mmap(descriptor, end, prot=mmap.PROT_READ) as content, memoryview(content)[start:end] as text:
            if text[0] == text[-1] == ord('"') and content.find(b"\\", start, end) < 0:
                # several times as fast as any parser
                return str(text[1:-1], "utf-8")
            return orjson.loads(text)
    finally:
        os.close(descriptor)


def _ask(channel: int, frame: bytes) -> list[int]:
    for content in framed(frame):
        os.write(channel, content)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, os.dup(channel)) as parent:
        answer, descriptors, _, _ = socket.recv_fds(parent, 1, MAX_DESCRIPTORS, _FLAGS)
    if not answer:
        # the parent is gone
        os._exit(0)
    if answer[0]:
        raise NoFile(answer[0], os.strerror(answer[0]))
    return descriptors
