"""The socket of the cross-platform API: whoever connects, and however, the others are answered."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from sennit.datapath.base import USERSPACE, DatapathError, DatapathStatus
from sennit.datapath.userspace import UserspaceDatapath
from sennit.uapi import server as uapi_server
from sennit.uapi.server import UapiServer
from sennit.wireguard.crypto import public_key_of
from sennit.wireguard.events import PeerConfig
from sennit.wireguard.peer import PeerStatus

KEY = bytes(range(32))
PEER = bytes([7]) * 32
# Seconds in which a client that is only slow, as all are on a busy machine, is served.
PATIENCE = 20.0


class Datapath:
    """What the server needs of one, without packets. Port 1 is taken."""

    def __init__(self) -> None:
        self.private_key = KEY
        self.port = 51820
        self.fwmark = 0
        self.peers: Mapping[bytes, PeerConfig] = {}
        self.history: list[Mapping[bytes, PeerConfig]] = []

    def status(self) -> DatapathStatus:
        live = {key: PeerStatus(config.endpoint, None, 3, 4) for key, config in self.peers.items()}
        return DatapathStatus(USERSPACE, self.port, live, {})

    async def exact_status(self) -> DatapathStatus:
        await asyncio.sleep(0)
        return self.status()

    def set_private_key(self, key: bytes) -> None:
        self.private_key = key

    def set_listen_port(self, port: int) -> None:
        if port == 1:
            raise DatapathError("cannot listen") from OSError(errno.EADDRINUSE, "in use")
        self.port = port

    def set_fwmark(self, fwmark: int) -> None:
        self.fwmark = fwmark

    async def follow(self, peers: Mapping[bytes, PeerConfig]) -> None:
        await asyncio.sleep(0)
        self.peers = dict(peers)
        self.history.append(self.peers)


class Running:
    """A server in an event loop of its own."""

    def __init__(self, directory: Path, *, fixed: bool = False, timeout: float = PATIENCE) -> None:
        self.datapath = Datapath()
        self.path = directory / "wg0.sock"
        self.removed = False
        self._ready = threading.Event()
        datapath = cast(UserspaceDatapath, self.datapath)
        self._server = UapiServer(datapath, "wg0", fixed=fixed, directory=str(directory), timeout=timeout)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await self._server.start()
        self._ready.set()
        await self._stop.wait()
        await self._server.close()

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        # As `wg` does: where too many wait already, it waits.
        client.connect(str(self.path))
        client.settimeout(PATIENCE)
        return client

    def ask(self, *lines: str) -> dict[str, str]:
        with self.connect() as client:
            client.sendall("\n".join([*lines, "", ""]).encode())
            return answer(client)


def answer(client: socket.socket) -> dict[str, str]:
    """The last of each key; empty when the connection ends without one."""
    received = b""
    while not received.endswith(b"\n\n"):
        chunk = client.recv(65536)
        if not chunk:
            break
        received += chunk
    return dict(line.split("=", 1) for line in received.decode().split("\n") if line)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path) as server:
        yield server


def test_only_its_owner_may_use_the_socket(server: Running) -> None:
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
    assert stat.S_ISSOCK(server.path.stat().st_mode)


def test_get_and_set(server: Running) -> None:
    assert server.ask("get=1") == {"private_key": KEY.hex(), "listen_port": "51820", "errno": "0"}
    change = ["set=1", "listen_port=5", "fwmark=6", f"public_key={PEER.hex()}", "endpoint=192.0.2.1:9"]
    assert server.ask(*change) == {"errno": "0"}
    told = server.ask("get=1")
    assert (told["listen_port"], told["fwmark"], told["public_key"]) == ("5", "6", PEER.hex())
    assert (told["endpoint"], told["rx_bytes"], told["tx_bytes"]) == ("192.0.2.1:9", "3", "4")


def test_several_requests_on_one_connection(server: Running) -> None:
    with server.connect() as client:
        for request, code in (("set=1\nfwmark=1\n", "0"), ("set=1\nfwmark=x\n", "-22"), ("get=1\n", "0")):
            client.sendall(f"{request}\n".encode())
            assert answer(client)["errno"] == code


def test_a_request_with_a_mistake_changes_nothing(server: Running) -> None:
    change = ["set=1", "listen_port=5", "replace_peers=true", f"public_key={PEER.hex()}", "allowed_ip=10.0.0.1/99"]
    assert server.ask(*change) == {"errno": "-22"}
    assert server.datapath.history == []
    assert server.datapath.port == 51820


def test_half_a_request_changes_nothing(server: Running) -> None:
    """Its writer may have been killed."""
    with server.connect() as client:
        client.sendall(b"set=1\nfwmark=7\n")
        client.shutdown(socket.SHUT_WR)
        assert answer(client) == {}
    assert server.ask("get=1")["errno"] == "0"
    assert server.datapath.fwmark == 0


def test_a_port_in_use_changes_nothing(server: Running) -> None:
    change = ["set=1", f"private_key={PEER.hex()}", "listen_port=1", f"public_key={PEER.hex()}"]
    assert server.ask(*change) == {"errno": str(-errno.EADDRINUSE)}
    assert server.datapath.private_key == KEY
    assert server.datapath.history == []


def test_a_peer_with_the_key_that_is_set_is_ignored(server: Running) -> None:
    own = public_key_of(PEER)
    assert server.ask("set=1", f"private_key={PEER.hex()}", f"public_key={own.hex()}") == {"errno": "0"}
    assert server.datapath.peers == {}


def test_replaced_peers_are_gone_before_they_come_again(server: Running) -> None:
    server.ask("set=1", f"public_key={PEER.hex()}")
    server.datapath.history.clear()
    server.ask("set=1", "replace_peers=true", f"public_key={PEER.hex()}")
    assert server.datapath.history == [{}, {PEER: PeerConfig(PEER)}]


def test_what_is_no_request_is_answered_and_cut_off(server: Running) -> None:
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert answer(client) == {"errno": str(-errno.EPROTO)}
        assert client.recv(1) == b""


def stopped_half_way(server: Running) -> list[socket.socket]:
    halves = [server.connect() for _ in range(50)]
    for number, half in enumerate(halves):
        with contextlib.suppress(BrokenPipeError):  # it may have been cut off already
            half.sendall(b"set=1\nfwmark=5\nlisten_port=5"[: number % 25])
    return halves


def test_clients_that_stop_half_way_do_not_hold_up_the_others(server: Running) -> None:
    halves = stopped_half_way(server)
    assert server.ask("get=1")["errno"] == "0"
    for half in halves:
        half.close()


def test_clients_that_stop_half_way_are_cut_off_in_time(tmp_path: Path) -> None:
    with Running(tmp_path, timeout=0.5) as server:
        for half in stopped_half_way(server):
            with contextlib.suppress(ConnectionResetError):  # there may be what it has not read
                assert half.recv(1) == b""
            half.close()
        assert server.datapath.fwmark == 0


def test_a_client_that_does_not_take_its_answer(server: Running) -> None:
    server.datapath.peers = {os.urandom(32): PeerConfig(PEER, ("10.0.0.0/8",) * 50) for _ in range(3000)}
    with server.connect() as client:
        client.sendall(b"get=1\n\n" * 20)
        assert server.ask("get=1")["errno"] == "0"


def test_more_clients_than_allowed_are_told(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uapi_server, "MAX_CLIENTS", 5)
    first = [server.connect() for _ in range(5)]
    for client in first:
        client.sendall(b"get=1\n\n")
        assert answer(client)["errno"] == "0"
    with server.connect() as client:
        assert answer(client) == {"errno": str(-errno.EBUSY)}
    for client in first:
        client.close()


def test_many_at_once(server: Running) -> None:
    clients = [server.connect() for _ in range(200)]
    for number, client in enumerate(clients):
        client.sendall(f"set=1\npublic_key={bytes([number] * 32).hex()}\n\nget=1\n\n".encode())
    for client in clients:
        assert answer(client) is not None
        client.close()
    assert len(server.datapath.peers) == 200


def test_what_belongs_to_the_agent_is_not_changed(tmp_path: Path) -> None:
    with Running(tmp_path, fixed=True) as server:
        for line in (f"private_key={PEER.hex()}", "listen_port=5", "listen_port=0", "fwmark=5"):
            assert server.ask("set=1", line, f"public_key={PEER.hex()}") == {"errno": str(-errno.EPERM)}
        assert server.datapath.history == []
        # To state what is so is no change, and the peers are not refused.
        same = [f"private_key={KEY.hex()}", "listen_port=51820", "fwmark=0"]
        assert server.ask("set=1", *same, f"public_key={PEER.hex()}") == {"errno": "0"}
        assert set(server.datapath.peers) == {PEER}


# --- the socket's file


def start(directory: Path) -> None:
    async def run() -> None:
        server = UapiServer(cast(UserspaceDatapath, Datapath()), "wg0", directory=str(directory))
        await server.start()
        await server.close()

    asyncio.run(run())


def test_a_socket_in_use_is_left_alone(server: Running) -> None:
    with pytest.raises(OSError) as raised:
        start(server.path.parent)
    assert raised.value.errno == errno.EADDRINUSE
    assert server.ask("get=1")["errno"] == "0"


def test_a_socket_that_nobody_serves_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "wg0.sock"))
    start(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "wg0.sock").write_text("precious")
    with pytest.raises(FileExistsError):
        start(tmp_path)
    assert (tmp_path / "wg0.sock").read_text() == "precious"


def test_another_ones_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "wg0.sock"
    with Running(tmp_path), socket.socket(socket.AF_UNIX) as other:
        path.unlink()
        other.bind(str(path))
    assert path.exists()


@pytest.mark.parametrize("how", ["unlink", "rename", "replace"])
def test_it_is_told_that_the_file_is_gone(tmp_path: Path, how: str) -> None:
    """In the main thread, as it is told by a signal. Other files do not count."""
    path, other = tmp_path / "wg0.sock", tmp_path / "other"

    async def run() -> None:
        server = UapiServer(cast(UserspaceDatapath, Datapath()), "wg0", directory=str(tmp_path))
        await server.start()
        removed = asyncio.ensure_future(server.removed())
        other.touch()
        other.unlink()
        await asyncio.wait([removed], timeout=0.2)
        assert not removed.done()
        if how == "replace":
            other.touch()
            other.rename(path)
        elif how == "rename":
            path.rename(other)
        else:
            path.unlink()
        await asyncio.wait_for(removed, 20)
        await asyncio.wait_for(server.removed(), 20)
        await server.close()

    asyncio.run(run())
