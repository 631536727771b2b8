"""Hands the descriptors of segments of shared memory to other workers of the same user in this container."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

# how long either side waits for the other; a reader then takes the store
SECONDS: Final = 0.5
_NAME_BYTES: Final = 100
# a socket that is shut down, or closed
_CLOSED: Final = (errno.EINVAL, errno.EBADF)
_CREDENTIALS: Final = struct.Struct("3i")


class SegmentServer:
    """Answers a name with its descriptor, or with nothing, in a thread of its own: the event loop may be busy."""

    def __init__(self, path: Path, descriptor_of: Callable[[str], int | None]) -> None:
        """`descriptor_of`: the descriptor, which is closed once it is sent. Raises OSError."""
        self._path = path
        self._descriptor_of = descriptor_of
        _sweep(path.parent)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with _Folder(path.parent) as folder:
                self._socket.bind(f"{folder}/{path.name}")
            self._socket.listen()
        except OSError:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._serve, name="shared memory", daemon=True)
        self._thread.start()

    def close(self) -> None:
        # wakes up the thread that accepts
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError as error:
                if error.errno in _CLOSED:
                    return
                # there are too many open files, say
                time.sleep(SECONDS)
                continue
            with client, suppress(OSError, UnicodeDecodeError):
                client.settimeout(SECONDS)
                if _user_of(client) == os.geteuid():
                    self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        descriptor = self._descriptor_of(client.recv(_NAME_BYTES).decode())
        if descriptor is None:
            return
        try:
            socket.send_fds(client, [b"x"], [descriptor])
        finally:
            os.close(descriptor)


def requested_segment(path: Path, name: str) -> int | None:
    """The descriptor from the process that listens at `path`; None if that, or the segment, has gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(SECONDS)
        try:
            with _Folder(path.parent) as folder:
                client.connect(f"{folder}/{path.name}")
            client.send(name.encode())
            _, descriptors, _, _ = socket.recv_fds(client, 1, 1)
        except OSError:
            return None
    return descriptors[0] if descriptors else None


def _sweep(folder: Path) -> None:
    """Remove the sockets of processes that were killed."""
    for path in folder.iterdir():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client, suppress(OSError):
            client.setblocking(False)
            with _Folder(folder) as short:
                try:
                    client.connect(f"{short}/{path.name}")
                except ConnectionRefusedError:
                    path.unlink(missing_ok=True)


class _Folder:
    """A short path to a folder: the address of a socket has 107 bytes at most."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> str:
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._descriptor}"

    def __exit__(self, *raised: object) -> None:
        os.close(self._descriptor)


def _user_of(client: socket.socket) -> int:
    if sys.platform != "linux":
        return -1
    _, user, _ = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(user)
