"""A wire that can be cut: a TCP proxy in front of a server."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum

from noetl_serverless.hosts.local.ports import free_port

BUFFER = 1 << 16
# seconds between two looks at what is to be done
LOOK = 0.05


class Wire(StrEnum):
    """`refuse`: nobody listens, and what was open is reset. `reset`: whoever connects is reset. `stall`: nothing comes
    through until the wire is whole, and then all of it. `lose`: what was open leads nowhere, and stays so."""

    WHOLE = "whole"
    REFUSE = "refuse"
    RESET = "reset"
    STALL = "stall"
    LOSE = "lose"


@dataclass(eq=False)
class _Pair:
    """Two ends. `lost`: what goes in comes out nowhere."""

    client: socket.socket
    server: socket.socket
    lost: bool = False
    # what one end has not taken yet
    waiting: dict[socket.socket, bytearray] = field(default_factory=dict)

    def other(self, end: socket.socket) -> socket.socket:
        return self.server if end is self.client else self.client


class Proxy:
    """Listens on 127.0.0.1:`port` and leads to `target`, a port of the same address; one thread."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._wire = Wire.WHOLE
        self._wanted = Wire.WHOLE
        self._pairs: set[_Pair] = set()
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._stop = threading.Event()
        self._listen()
        self._thread = threading.Thread(target=self._run, name=f"proxy of {target}", daemon=True)
        self._thread.start()

    def become(self, wire: Wire) -> None:
        self._wanted = wire

    def settle(self) -> None:
        """Wait until what was sent before has come as far as the wire brings it."""
        while self._wire is not self._wanted:
            time.sleep(LOOK)
        time.sleep(2 * LOOK)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._change(self._wanted)
            if self._listener is None and self._wire is not Wire.REFUSE:
                self._listen()
            if self._wire is Wire.STALL:
                self._stop.wait(LOOK)
                continue
            for key, _ in self._selector.select(LOOK):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data in self._pairs and isinstance(key.fileobj, socket.socket):
                    self._pass_on(key.data, key.fileobj)
        for pair in list(self._pairs):
            self._drop(pair)
        self._unlisten()
        self._selector.close()

    def _change(self, wire: Wire) -> None:
        if wire is self._wire:
            return
        self._wire = wire
        if wire in (Wire.REFUSE, Wire.RESET):
            for pair in list(self._pairs):
                self._drop(pair)
        if wire is Wire.LOSE:
            for pair in self._pairs:
                pair.lost = True
        if wire is Wire.REFUSE:
            self._unlisten()

    def _listen(self) -> None:
        """At the next look, if somebody has the port as that of his own end just now."""
        try:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        except OSError:
            return
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def _unlisten(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if self._wire is Wire.RESET:
            _reset(client)
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=1)
        except OSError:
            _reset(client)
            return
        pair = _Pair(client, server, lost=self._wire is Wire.LOSE)
        self._pairs.add(pair)
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair.waiting[end] = bytearray()
            self._selector.register(end, selectors.EVENT_READ, pair)

    def _pass_on(self, pair: _Pair, end: socket.socket) -> None:
        other = pair.other(end)
        try:
            if pair.waiting[end]:
                self._flush(pair, end)
            # one end that does not take what it is sent must not fill our memory
            if len(pair.waiting[other]) < 16 * BUFFER:
                data = end.recv(BUFFER)
                if not data:
                    self._drop(pair)
                elif not pair.lost:
                    pair.waiting[other] += data
                    self._flush(pair, other)
                elif self._wire is not Wire.LOSE:
                    # the wire is whole again, and nobody there knows of this connection
                    self._drop(pair)
        except BlockingIOError:
            return
        except OSError:
            self._drop(pair)

    def _flush(self, pair: _Pair, end: socket.socket) -> None:
        waiting = pair.waiting[end]
        with contextlib.suppress(BlockingIOError):
            while waiting:
                del waiting[: end.send(waiting)]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if waiting else 0)
        self._selector.modify(end, events, pair)

    def _drop(self, pair: _Pair) -> None:
        self._pairs.discard(pair)
        for end in (pair.client, pair.server):
            self._selector.unregister(end)
            _reset(end)


def _reset(end: socket.socket) -> None:
    """Close so that the other side learns of it at once, whatever is under way."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
