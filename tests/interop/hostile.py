"""A beacon, or a client of one, that keeps to the protocol as far as it likes; from within a host's namespace."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable

from tests.interop.agents import PATIENCE, Host
from tests.interop.namespaces import enter

from sennit.beacon.messages import (
    FROM_BEACONS,
    FROM_NODES,
    PREFACE,
    Have,
    Kept,
    Message,
    Nodes,
    Packed,
    Parser,
    Ping,
    Pong,
    encode,
)
from sennit.beacon.told import MAX_STRANGERS
from sennit.beacon.whereabouts import LOCAL, MAX_CANDIDATES, Candidate, Whereabouts

BEACON_PORT = 21472


def in_namespace(host: Host, make: Callable[[], socket.socket]) -> socket.socket:
    """A socket made in the host's namespace, where it stays."""
    made: list[socket.socket] = []
    errors: list[BaseException] = []

    def work() -> None:
        # A namespace is a thread's own, and this thread ends.
        try:
            enter(f"/run/netns/{host.namespace}")
            made.append(make())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return made[0]


def connect(host: Host, address: str) -> socket.socket:
    """A stream from this host to the beacon at this address."""
    return in_namespace(host, lambda: socket.create_connection((address, BEACON_PORT), timeout=PATIENCE))


class Ear:
    """Hears what an honest end says over a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._parser = Parser(FROM_NODES | FROM_BEACONS)
        self._messages: list[Message] = []

    def wait_for(self, *kinds: type[Message]) -> Message:
        """The next message of one of these kinds."""
        while True:
            while self._messages:
                message = self._messages.pop(0)
                if isinstance(message, kinds):
                    return message
            data = self._connection.recv(65536)
            if not data:
                raise ConnectionError("the other end has closed the connection")
            self._messages += self._parser.feed(data, netmap_expected=True)


class HostileBeacon:
    """Takes the place of the beacon's service on this host, and treats each client as ``behave`` does.

    It must be there before the host's agent.
    """

    def __init__(self, host: Host, behave: Callable[[socket.socket], None]) -> None:
        self._behave = behave
        self._connections: list[tuple[socket.socket, threading.Thread]] = []
        self._listener = in_namespace(host, lambda: socket.create_server(("", BEACON_PORT), backlog=64))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        # A thread that still waited for a descriptor would wait for, and hold, whatever has its number next.
        _end(self._listener, self._accepting)
        for connection, thread in self._connections:
            _end(connection, thread)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _address = self._listener.accept()
                connection.settimeout(60)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._connections.append((connection, thread))
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._behave(connection)


def _end(connection: socket.socket, thread: threading.Thread) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    thread.join()
    connection.close()


def serving(signed: bytes, claimed_version: int) -> Callable[[socket.socket], None]:
    """A behaviour: offer this file as a map of this version, and send it whatever it is."""
    kept = Kept.of(signed, claimed_version)

    def behave(connection: socket.socket) -> None:
        connection.sendall(PREFACE + encode(Have(claimed_version, kept.sha256)))
        received = b""
        while kept.sha256 not in received:
            data = connection.recv(4096)
            if not data:
                return
            received += data
        connection.sendall(encode(Packed(kept.packed)))
        while connection.recv(4096):
            pass

    return behave


def huge_frame(connection: socket.socket) -> None:
    """A behaviour: a message of 4 GB."""
    connection.sendall(PREFACE + struct.pack("!BI", 3, 2**32 - 1) + bytes(1024 * 1024))
    while connection.recv(4096):
        pass


def flood(connection: socket.socket) -> None:
    """A behaviour: offers without end."""
    offers = b"".join(encode(Have(2**40 + number, bytes([number % 256]) * 32)) for number in range(1000))
    connection.sendall(PREFACE)
    while True:
        connection.sendall(offers)


def says_nothing(connection: socket.socket) -> None:
    """A behaviour: accept, and that is all."""
    while connection.recv(4096):
        pass


def tells(*messages: bytes) -> Callable[[socket.socket], None]:
    """A behaviour: say this, and then answer whatever is asked as an honest beacon would."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(PREFACE + b"".join(messages))
        ear = Ear(connection)
        while True:
            ping = ear.wait_for(Ping)
            if isinstance(ping, Ping):
                connection.sendall(encode(Pong(ping.content)))

    return behave


never_delivers = tells(encode(Have(2**50, bytes(32))))
"""A behaviour: offer the newest map of all, and not send it."""


def floods_with_whereabouts(connection: socket.socket) -> None:
    """A behaviour: where nodes are that nobody has ever heard of, first more than are remembered, in messages of
    the largest size, and then without end.
    """
    candidates = tuple(Candidate(LOCAL, (f"2001:db8::{number:x}", 1)) for number in range(1, MAX_CANDIDATES + 1))
    whereabouts = Whereabouts(True, candidates)
    connection.sendall(PREFACE)
    for _message in range(2 * MAX_STRANGERS // 150):
        connection.sendall(encode(Nodes(tuple((os.urandom(32), whereabouts) for _entry in range(150)))))
    # On a busy machine, messages of that size are made no faster than they may be sent.
    while True:
        connection.sendall(encode(Nodes(((os.urandom(32), whereabouts),))))
