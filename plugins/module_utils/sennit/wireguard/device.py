# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole WireGuard device in one object: the control half and both data halves, wired in one thread.

It is the reference for how the halves are put together; the shell that drives real sockets does the same across
processes. Still no I/O and no clock.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Callable, NamedTuple, Optional

from .batch import Core
from .control import Control
from .errors import DropReason
from .events import (
    AskForCookies,
    Command,
    DataReceived,
    DropStaged,
    ForgetSource,
    InstallKeypair,
    KeepaliveReceived,
    Path,
    PeerConfig,
    RemoveKeypair,
    SendDatagram,
    SendKeepalive,
    SetEndpoint,
    SetIdentity,
    UseKeypair,
)
from .inbound import Inbound
from .outbound import Batch, Outbound
from .peer import PeerStatus

DEFAULT_MTU = 1420


class Output(NamedTuple):
    """What a call brought about: datagrams for the socket, inner packets for the TUN device, and news for the log.

    heard: of which peers packets were authentic.
    """

    datagrams: list[tuple[bytes, Path]]
    packets: list[bytes]
    news: list[Command]
    heard: set[bytes]


class Device:
    """Packets and datagrams go in, datagrams and packets come out, as an Output.

    `now` is monotonic and `wall` is the time of day, both in seconds.
    """

    def __init__(
        self,
        private_key: bytes,
        *,
        mtu: int = DEFAULT_MTU,
        random: Callable[[int], bytes] = os.urandom,
        core: Optional[Core] = None,
    ) -> None:
        """Raises ValueError when the private key is not 32 bytes long."""
        self.control = Control(private_key, random=random)
        self.outbound = Outbound(mtu, core)
        self.inbound = Inbound(core)

    @property
    def public_key(self) -> bytes:
        return self.control.public_key

    @property
    def drops(self) -> Counter[DropReason]:
        """How many packets were dropped, by reason."""
        return self.control.drops

    def set_peer(self, config: PeerConfig, now: float, wall: float) -> Output:
        """Add a peer or change it. Raises ValueError for a malformed key or prefix."""
        self.control.set_peer(config)
        self.outbound.set_peer(config.public_key, config.allowed_ips)
        self.inbound.set_peer(config.public_key, config.allowed_ips)
        return self.advance(now, wall)

    def remove_peer(self, public_key: bytes) -> None:
        """Forget a peer, its keys and its staged packets."""
        self.control.remove_peer(public_key)
        self.outbound.remove_peer(public_key)
        self.inbound.remove_peer(public_key)

    def status(self) -> dict[bytes, PeerStatus]:
        return self.control.status()

    def knows(self, index: int) -> bool:
        """Whether a message with this receiver index is for us."""
        return self.control.knows(index)

    def resume(self, public_key: bytes, path: Path, now: float, wall: float) -> Output:
        """See Control.resume."""
        self.control.resume(public_key, path, now, wall)
        return self._settle([], [], now, wall)

    def next_deadline(self) -> float | None:
        return self.control.next_deadline()

    def send(self, packets: Sequence[bytes], now: float, wall: float) -> Output:
        """Take IP packets that share one destination from the TUN device."""
        return self._settle(_sent(self.outbound.send(packets, now)), [], now, wall)

    def receive(self, datagrams: Sequence[bytes], source: Path, now: float, wall: float) -> Output:
        """Take datagrams of one source from the socket."""
        packets = self.inbound.receive(datagrams, source, now)
        output = Output([], packets, [], set())
        for command in self.inbound.take_commands():
            self._carry_out(command, output, now)
        return self._settle(output.datagrams, packets, now, wall)

    def advance(self, now: float, wall: float) -> Output:
        """Let the time be now: needed when next_deadline is over."""
        self.control.advance(now, wall)
        return self._settle([], [], now, wall)

    def _settle(self, datagrams: list[tuple[bytes, Path]], packets: list[bytes], now: float, wall: float) -> Output:
        """Carry events to the control half and its commands back, until nothing is left to tell."""
        output = Output(datagrams, packets, [], set())
        while True:
            events = self.inbound.take_events() + self.outbound.take_events()
            for event in events:
                self.control.receive(event, now, wall)
                if isinstance(event, (DataReceived, KeepaliveReceived)):
                    output.heard.add(event.peer)
            self.control.handle_handshakes(now, wall)
            commands = self.control.take_commands()
            if not events and not commands:
                return output
            for command in commands:
                self._carry_out(command, output, now)

    def _carry_out(self, command: Command, output: Output, now: float) -> None:  # noqa: C901 (a branch a command)
        if isinstance(command, SendDatagram):
            output.datagrams.append((command.datagram, command.endpoint))
        elif isinstance(command, SetIdentity):
            self.inbound.set_identity(command.public_key)
        elif isinstance(command, AskForCookies):
            self.inbound.ask_for_cookies(command)
        elif isinstance(command, InstallKeypair):
            self.inbound.install_keypair(command.peer, command.keypair)
        elif isinstance(command, UseKeypair):
            output.datagrams.extend(_sent(self.outbound.use_keypair(command.peer, command.keypair, now)))
        elif isinstance(command, RemoveKeypair):
            self.inbound.remove_keypair(command.local_index)
            self.outbound.remove_keypair(command.peer, command.local_index)
        elif isinstance(command, SetEndpoint):
            self.outbound.set_endpoint(command.peer, command.endpoint)
        elif isinstance(command, ForgetSource):
            self.outbound.forget_source(command.peer)
        elif isinstance(command, SendKeepalive):
            output.datagrams.extend(_sent(self.outbound.send_keepalive(command.peer, now)))
        elif isinstance(command, DropStaged):
            self.outbound.drop_staged(command.peer, command.reason)
        else:
            output.news.append(command)


def _sent(batches: Iterable[Batch]) -> list[tuple[bytes, Path]]:
    return [(bytes(datagram), endpoint) for endpoint, datagrams in batches for datagram in datagrams]
