from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from .proxy import Proxy, Wire


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says back what it is told."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(client: socket.socket) -> None:
            with client, contextlib.suppress(ConnectionError):
                while data := client.recv(1 << 16):
                    client.sendall(data)

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(echo: int) -> Iterator[Proxy]:
    proxy = Proxy(echo)
    yield proxy
    proxy.close()


def dial(wire: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", wire.port), timeout=5)


def said_back(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    found = b""
    while len(found) < len(data):
        found += client.recv(1 << 16)
        if not found:
            raise ConnectionResetError
    return found


def test_a_whole_wire_brings_everything(wire: Proxy) -> None:
    data = bytes(range(256)) * 4096
    with dial(wire) as client:
        assert said_back(client, data) == data


@pytest.mark.parametrize("cut", [Wire.REFUSE, Wire.RESET])
def test_what_is_open_is_reset_and_what_is_new_is_turned_away(wire: Proxy, cut: Wire) -> None:
    with dial(wire) as client:
        said_back(client, b"here")
        wire.become(cut)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(OSError, match=r"refused|reset"), dial(wire) as another:
        said_back(another, b"and here")
    wire.become(Wire.WHOLE)
    assert answers(wire)


def test_a_stalled_wire_brings_it_later(wire: Proxy) -> None:
    with dial(wire) as client:
        said_back(client, b"here")
        wire.become(Wire.STALL)
        wire.settle()
        client.sendall(b"later")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        wire.become(Wire.WHOLE)
        client.settimeout(5)
        assert client.recv(5) == b"later"


def test_what_was_open_on_a_lost_wire_stays_lost_and_what_is_new_gets_through(wire: Proxy) -> None:
    with dial(wire) as client:
        said_back(client, b"here")
        wire.become(Wire.LOSE)
        wire.settle()
        client.sendall(b"lost")
        wire.settle()
        wire.become(Wire.WHOLE)
        wire.settle()
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert answers(wire)
        client.settimeout(5)
        client.sendall(b"who speaks is told that nobody is there")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_port_that_somebody_has_for_a_while_is_listened_on_afterwards(wire: Proxy) -> None:
    wire.become(Wire.REFUSE)
    wire.settle()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", wire.port))
        wire.become(Wire.WHOLE)
        wire.settle()
        with pytest.raises(OSError, match="refused"):
            dial(wire).close()
    assert answers(wire)


def answers(wire: Proxy) -> bool:
    wire.settle()
    with dial(wire) as client:
        return said_back(client, b"new") == b"new"
