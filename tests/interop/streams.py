"""TCP streams that go on for as long as a test likes, between network namespaces."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.interop.namespaces import inside

_PATTERN = bytes(range(251)) * 64
# Seconds. While nothing answers, TCP asks less and less often; on a busy machine an agent takes long to start.
_TIMEOUT = 180.0


class Stream:
    """Bytes that never end, from one namespace to an address in another; what arrives is checked."""

    def __init__(self, source: str, destination: str, address: str, under_way: int = 0) -> None:
        """under_way: about how many bytes may be at a time, 0: as many as TCP likes."""
        self._grown = threading.Condition()
        self._received = 0
        self._failure = ""
        self._over = threading.Event()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with inside(destination):
            listener = socket.create_server((address, 0), family=family)
        with inside(source):
            sender = socket.create_connection(listener.getsockname()[:2], timeout=_TIMEOUT)
        if under_way:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, under_way)
        receiver = listener.accept()[0]
        listener.close()
        receiver.settimeout(_TIMEOUT)
        self._threads = [
            threading.Thread(target=work, args=(connection,), daemon=True)
            for work, connection in ((self._send, sender), (self._receive, receiver))
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, size: int = 1 << 18, timeout: float = _TIMEOUT) -> None:
        """Until so many more bytes have arrived."""
        with self._grown:
            end = self._received + size
            there = self._grown.wait_for(lambda: self._received >= end or bool(self._failure), timeout)
            if self._failure or not there:
                raise AssertionError(f"{self._failure or 'the stream stands still'}, after {self._received} bytes")

    def _send(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while not self._over.is_set():
                connection.sendall(_PATTERN)

    def _receive(self, connection: socket.socket) -> None:
        failure = ""
        with connection:
            try:
                while not failure and (chunk := connection.recv(1 << 16)):
                    at = self._received % len(_PATTERN)
                    if (_PATTERN * (2 + len(chunk) // len(_PATTERN)))[at : at + len(chunk)] != chunk:
                        failure = "not what was sent"
                    with self._grown:
                        self._received += len(chunk)
                        self._grown.notify_all()
            except OSError as error:
                failure = str(error)
        with self._grown:
            self._failure = failure or "closed"
            self._grown.notify_all()


@contextlib.contextmanager
def streams(one: str, one_address: str, other: str, other_address: str) -> Iterator[tuple[Stream, Stream]]:
    """One each way."""
    with Stream(one, other, other_address) as there, Stream(other, one, one_address) as back:
        yield there, back
