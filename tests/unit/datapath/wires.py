"""A TUN device that is a socket pair, and what a batch core makes of frames and packets with it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import cast

from sennit.datapath.core import DatapathCore, Intake
from sennit.datapath.tun import Tun
from sennit.datapath.vnet import MAX_FRAME
from sennit.wireguard import aead
from sennit.wireguard.batch import Datagrams, Piece
from sennit.wireguard.batch import cut as cut_piece

KEY = bytes(range(32))
INDEX = 7


class Wire:
    """One end is the device's descriptor, as a Tun has it; the other is the kernel's."""

    def __init__(self, *, takes_udp: bool = True) -> None:
        self.kernel, self._device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.kernel, self._device):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.fd = self._device.fileno()
        self.takes_udp = takes_udp

    def read(self) -> bytes | None:
        try:
            return os.read(self.fd, MAX_FRAME)
        except BlockingIOError:
            return None

    def write(self, parts: Sequence[bytes]) -> None:
        os.writev(self.fd, parts)

    def take(self) -> list[bytes]:
        """The frames that were written."""
        frames = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frames.append(self.kernel.recv(1 << 17))
        return frames

    def close(self) -> None:
        self.kernel.close()
        self._device.close()


@contextlib.contextmanager
def wire(*, takes_udp: bool = True) -> Iterator[tuple[Wire, Tun]]:
    pair = Wire(takes_udp=takes_udp)
    try:
        yield pair, cast(Tun, pair)
    finally:
        pair.close()


def sealed(core: DatapathCore, frames: list[bytes], mtu: int = 0) -> tuple[list[list[bytes]], int]:
    """The datagrams of each run of frames, and how many frames were malformed."""
    with wire() as (end, tun):
        runs, malformed = [], 0
        sealer = core.sealer(KEY, INDEX, mtu)
        for frame in frames:
            end.kernel.send(frame)
        while True:
            intake: Intake = core.read(tun, 64)
            malformed += intake.malformed
            if not intake.runs and not intake.malformed:
                return runs, malformed
            for packets in intake.runs:
                datagrams, _size = sealer.seal(packets)
                assert len(datagrams) == len(packets)
                runs.append([bytes(datagram) for datagram in datagrams])


def cut(core: DatapathCore, frame: bytes) -> list[bytes] | None:
    """The packets of a frame, None when it is malformed."""
    runs, malformed = sealed(core, [frame])
    if malformed:
        assert not runs
        return None
    (datagrams,) = runs
    cipher = aead.new_aead(KEY)
    return [cipher.decrypt(bytes(4) + datagram[8:16], datagram[16:], None) for datagram in datagrams]


def written(core: DatapathCore, packets: list[bytes], *, takes_udp: bool = True) -> list[bytes]:
    """What is written to TUN for packets that came in sealed."""
    arrivals = core.arrivals()
    opener = core.opener(KEY, INDEX)
    datagrams = core.sealer(KEY, INDEX, 0).seal(packets)[0]
    at = 0
    while at < len(packets):
        opened = opener.open(list(datagrams), at, arrivals, lambda source: True, 1)
        assert (opened.malformed, opened.unauthentic) == (0, 0)
        at = opened.end
    assert arrivals.packets() == packets
    with wire(takes_udp=takes_udp) as (end, tun):
        assert core.write(tun, arrivals) == 0
        return end.take()


def flat(datagrams: Sequence[object]) -> list[Piece]:
    """Pieces with copies of what is in them."""
    assert isinstance(datagrams, Datagrams)
    return [Piece([bytes(each) for each in cut_piece(piece)], piece.size, piece.number) for piece in datagrams.pieces]
