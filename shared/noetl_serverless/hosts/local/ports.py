"""Ports of 127.0.0.1 that nobody listens on."""

from __future__ import annotations

import random
import socket
from collections import deque

# below the ports that Linux (from 32768) and macOS (from 49152) use for outgoing connections: one of those could take a
# port between its choice and the start of the server that it was chosen for
_SERVERS_PORTS = range(20_000, 32_768)
_MAX_PROBES = 1_000

_random = random.SystemRandom()

# Between the choice of a port and the start of its server, no other process may choose it: a UDP socket of the same
# number keeps it, which hinders no TCP server and ends with this process. Those of the last choices.
_reserved: deque[socket.socket] = deque()
_MAX_RESERVED = 64


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(preferred: int = 0) -> int:
    """`preferred` if nobody listens there, else any that no outgoing connection will take, nor soon another call of
    this, whatever process makes it. OSError if none is free."""
    if preferred and is_free(preferred):
        return preferred
    for _ in range(_MAX_PROBES):
        port = _random.choice(_SERVERS_PORTS)
        if _reserve(port):
            if is_free(port):
                return port
            _reserved.pop().close()
    raise OSError(f"no free port found between {_SERVERS_PORTS.start} and {_SERVERS_PORTS.stop - 1}")


def _reserve(port: int) -> bool:
    reservation = socket.socket(type=socket.SOCK_DGRAM)
    try:
        reservation.bind(("127.0.0.1", port))
    except OSError:
        reservation.close()
        return False
    _reserved.append(reservation)
    if len(_reserved) > _MAX_RESERVED:
        _reserved.popleft().close()
    return True
