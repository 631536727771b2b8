"""Ports of 127.0.0.1 that nobody listens on."""

from __future__ import annotations

import random
import socket

# below the ports that Linux (from 32768) and macOS (from 49152) use for outgoing connections: one of those could take a
# port between its choice and the start of the server that it was chosen for
_SERVERS_PORTS = range(20_000, 32_768)
_MAX_PROBES = 1_000

_random = random.SystemRandom()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(preferred: int = 0) -> int:
    """`preferred` if nobody listens there, else any that no outgoing connection will take. OSError if none is free."""
    if preferred and is_free(preferred):
        return preferred
    for _ in range(_MAX_PROBES):
        port = _random.choice(_SERVERS_PORTS)
        if is_free(port):
            return port
    raise OSError(f"no free port found between {_SERVERS_PORTS.start} and {_SERVERS_PORTS.stop - 1}")
