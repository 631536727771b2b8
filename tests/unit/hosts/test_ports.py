from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from noetl_serverless.hosts.local import ports
from noetl_serverless.hosts.local.ports import free_port, is_free


def test_a_preferred_port_is_kept_while_it_is_free() -> None:
    port = free_port()
    assert free_port(port) == port


def test_a_port_on_which_somebody_listens_is_not_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert not is_free(taken)
        assert free_port(taken) != taken


def test_no_outgoing_connection_can_take_a_port_before_its_server_starts() -> None:
    outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not outgoing.exists():
        pytest.skip("only Linux tells which ports it gives to outgoing connections")
    first, last = map(int, outgoing.read_text().split())
    given = {free_port() for _ in range(100)}
    assert not [port for port in given if first <= port <= last]


def test_a_port_that_was_given_is_not_given_to_another_process_before_its_server_starts() -> None:
    port = free_port()
    only = f"from noetl_serverless.hosts.local import ports; ports._SERVERS_PORTS = range({port}, {port + 1})"
    asked = subprocess.run(
        [sys.executable, "-c", f"{only}; print(ports.free_port())"], capture_output=True, text=True, timeout=60
    )
    assert f"OSError: no free port found between {port} and {port}" in asked.stderr, asked.stdout
    with socket.create_server(("127.0.0.1", port)):
        pass  # the server that it was given to


def test_a_machine_without_a_free_port_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: False)
    with pytest.raises(OSError, match="no free port found between 20000 and 32767"):
        free_port()
