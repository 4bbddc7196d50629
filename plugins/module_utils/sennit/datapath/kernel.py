# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel datapath: the host's own WireGuard, driven over netlink.

The protocol runs in the kernel: there are no workers, and an agent that dies leaves an interface that goes on working
until the next one takes it over. What the kernel does not tell is made of what it counts (silence.py), for which it is
looked at every few seconds.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Optional

from ..netlink import Netlink
from ..wireguard.constants import KEY_LENGTH, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT
from ..wireguard.crypto import public_key_of
from ..wireguard.events import Endpoint, PeerConfig
from ..wireguard.peer import PeerStatus
from . import link
from . import wireguard_netlink as wireguard
from .base import KERNEL, DatapathError, DatapathStatus, NameTakenError, NoKernelWireGuardError
from .link import Link, Links
from .probes import Probes
from .silence import Silence
from .wireguard_netlink import LiveDevice, LivePeer, PeerChange

# Seconds between two looks, and the part of the time that they may take: a large mesh is looked at less often.
_INTERVAL = 5.0
_SHARE = 0.01
_NETLINK_GENERIC = 16
# So many initiations are sent in vain before WireGuard gives up.
_ATTEMPTS = int(REKEY_ATTEMPT_TIME / REKEY_TIMEOUT)

_log = logging.getLogger(__name__)


class KernelDatapath:
    """See base.py."""

    def __init__(self, private_key: bytes, interface: str, listen_port: int, mtu: int, fwmark: int) -> None:
        """fwmark 0: the underlay's packets are not marked. Raises ValueError for a malformed private key."""
        if len(private_key) != KEY_LENGTH:
            raise ValueError(f"a private key has {KEY_LENGTH} bytes, not {len(private_key)}")
        self._private_key = private_key
        self._interface = interface
        self._port = listen_port
        self._mtu = mtu
        self._fwmark = fwmark
        self._wanted: dict[bytes, PeerConfig] = {}
        self._configured: dict[bytes, PeerConfig] = {}
        self._keep = False
        self._failure = ""
        """Why the peers are not as wanted, if they are not."""
        self._silences: dict[bytes, Silence] = {}
        self._probes = Probes(self)

    # --- the interface

    def start(self) -> None:
        """Make the interface, or take over what an agent left. Raises DatapathError."""
        self._netlink = _WireGuard()
        self._links = self._netlink.links
        try:
            self._index = self._made_or_found()
            self._set_up()
        except BaseException:
            self._netlink.close()
            raise

    def _made_or_found(self) -> int:
        try:
            self._netlink.find()
            _remove_former(self._netlink, self._interface, self._private_key)
            found = _ours(self._netlink, self._interface, self._private_key)
            if found is not None and found.kind == link.WIREGUARD:
                _log.info("%s is there already: taken over", self._interface)
                return found.index
            if found is not None:
                self._links.remove(found.index)
            self._links.add(self._interface, link.WIREGUARD)
            return socket.if_nametoindex(self._interface)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                raise NoKernelWireGuardError("this kernel has no WireGuard") from error
            raise DatapathError(f"cannot make the interface {self._interface}: {error.strerror}") from error

    def _set_up(self) -> None:
        try:
            self._links.set(self._index, self._mtu, link.ALIAS)
            self._netlink.set(wireguard.set_device(self._index, self._private_key, self._port, self._fwmark))
            # The port is bound when the interface comes up.
            self._links.up(self._index)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._links.remove(self._index)
            if error.errno == errno.EADDRINUSE:
                raise DatapathError(f"cannot listen on UDP port {self._port}: {error.strerror}") from error
            raise DatapathError(f"cannot set up the interface {self._interface}: {error.strerror}") from error

    def configure(self, peers: Mapping[bytes, PeerConfig]) -> None:
        """See base.py. What the kernel refuses is in the log, and tried again."""
        for public_key, config in peers.items():
            if len(public_key) != KEY_LENGTH or len(config.preshared_key) != KEY_LENGTH:
                raise ValueError(f"public and preshared keys have {KEY_LENGTH} bytes")
            wireguard.prefixes(config.allowed_ips)
        self._wanted = dict(peers)
        self._converge()

    async def follow(self, peers: Mapping[bytes, PeerConfig]) -> None:
        """See base.py. The kernel takes them in a few large messages."""
        self.configure(peers)

    def _converge(self) -> None:
        try:
            live = self._netlink.device(self._index).peers
            changes = wireguard.changes(self._wanted, live, self._configured, os.urandom(KEY_LENGTH))
            for request in wireguard.set_peers(self._index, changes):
                self._netlink.set(request)
        except OSError as error:
            if str(error.strerror) != self._failure:
                self._failure = str(error.strerror)
                _log.error("%s: cannot configure the peers: %s", self._interface, self._failure)
        else:
            self._failure = ""
            self._configured = self._wanted

    def resume(self, endpoints: Mapping[bytes, Endpoint]) -> None:
        """See base.py. The kernel begins a session when the persistent keepalive is turned on."""
        wanted = self._wanted
        woken = {key: wanted[key] for key in endpoints.keys() & wanted.keys()}
        for key, config in woken.items():
            endpoint = config.endpoint or endpoints[key]
            woken[key] = replace(config, endpoint=endpoint, persistent_keepalive=config.persistent_keepalive or 1)
        if woken:
            for self._wanted in ({**wanted, **woken}, wanted):
                self._converge()

    def probe(self, public_key: bytes, endpoints: Sequence[Endpoint]) -> None:
        """See base.py."""
        self._probes.start(public_key, endpoints)

    def move(self, public_key: bytes, endpoint: Endpoint) -> None:
        """See base.py."""
        self._probes.end(public_key)
        self.set_endpoint(public_key, endpoint)

    # --- for Probes

    def peer(self, public_key: bytes) -> Optional[LivePeer]:
        """It as the kernel has it now, if it has it."""
        try:
            return self._netlink.device(self._index).peers.get(public_key)
        except OSError as error:
            _log.debug("%s cannot be read: %s", self._interface, error.strerror)
            return None

    def set_endpoint(self, public_key: bytes, endpoint: Endpoint) -> None:
        self._change(PeerChange(public_key, endpoint=endpoint))

    def rouse(self, public_key: bytes, endpoint: Endpoint) -> None:
        """Have it at this endpoint, and send an empty packet there: what turning its keepalive on brings about."""
        config = self._wanted.get(public_key)
        interval = config.persistent_keepalive if config else 0
        self._change(
            PeerChange(public_key, endpoint=endpoint, persistent_keepalive=0),
            PeerChange(public_key, persistent_keepalive=interval or 1),
            PeerChange(public_key, persistent_keepalive=interval),
        )
        if public_key in self._silences:
            self._silences[public_key].probed()

    def _change(self, *changes: PeerChange) -> None:
        """Change peers, but make none."""
        if any(change.public_key not in self._wanted for change in changes):
            return
        try:
            for request in wireguard.set_peers(self._index, changes):
                self._netlink.set(request)
        except OSError as error:
            _log.debug("%s: cannot change a peer: %s", self._interface, error.strerror)

    # --- what goes on by itself

    async def run(self) -> None:
        """See base.py."""
        import asyncio  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        gone: asyncio.Future[None] = loop.create_future()
        watching = link.watch()

        def changed() -> None:
            with contextlib.suppress(OSError):  # more than the socket holds: what it says does not matter
                watching.recv(65536)
            try:
                self._links.get(self._index)
            except OSError as error:
                if not gone.done():
                    gone.set_exception(self._gone(error))

        loop.add_reader(watching, changed)
        try:
            while not gone.done():
                await asyncio.wait({gone}, timeout=max(_INTERVAL, self._look_again() / _SHARE))
            gone.result()
        finally:
            loop.remove_reader(watching)
            watching.close()

    def _look_again(self) -> float:
        """Return how many seconds that took."""
        began = time.monotonic()
        if self._failure:
            self._converge()
        self._look()
        return time.monotonic() - began

    def status(self) -> DatapathStatus:
        """See base.py."""
        device = self._look()
        try:
            drops = self._links.get(self._index).drops
        except OSError as error:
            raise self._gone(error) from error
        peers = {
            key: PeerStatus(
                peer.endpoint, peer.latest_handshake, peer.rx_bytes, peer.tx_bytes, self._silences[key].unanswered
            )
            for key, peer in device.peers.items()
        }
        return DatapathStatus(
            KERNEL, device.listen_port, peers, {what: count for what, count in drops.items() if count}
        )

    def _look(self) -> LiveDevice:
        """See what there is, and tell the log what has happened since."""
        try:
            device = self._netlink.device(self._index)
        except OSError as error:
            raise self._gone(error) from error
        now, wall = time.monotonic(), time.time()
        for key in self._silences.keys() - device.peers.keys():
            del self._silences[key]
        for key, peer in device.peers.items():
            silence = self._silences.setdefault(key, Silence())
            before = silence.unanswered
            if silence.look(peer, now, wall):
                _log.debug("handshake with %s complete", key.hex())
            elif before < _ATTEMPTS <= silence.unanswered:
                _log.info("peer %s does not answer handshakes", key.hex())
        return device

    def _gone(self, error: OSError) -> DatapathError:
        return DatapathError(f"the interface {self._interface} cannot be read any more: {error.strerror}")

    def keep_interface(self) -> Optional[int]:
        """See base.py."""
        self._keep = True
        return None

    def close(self) -> None:
        """See base.py."""
        self._probes.close()
        if not self._keep:
            with contextlib.suppress(OSError):
                self._links.remove(self._index)
        self._netlink.close()


class _WireGuard:
    """The sockets to the kernel: one to its interfaces, one to its WireGuard."""

    def __init__(self) -> None:
        """Raises DatapathError."""
        try:
            self.links = Links()
            self._generic = Netlink(_NETLINK_GENERIC)
        except OSError as error:
            raise DatapathError(f"cannot speak to the kernel by netlink: {error.strerror}") from error
        self._family: Optional[int] = None

    def close(self) -> None:
        self.links.close()
        self._generic.close()

    def find(self) -> int:
        """The type of messages to WireGuard; the kernel loads its module. Raises OSError: ENOENT when it has none."""
        if self._family is None:
            self._family = wireguard.parse_family(self._generic.get(wireguard.CONTROL, wireguard.get_family()))
        return self._family

    def device(self, index: int) -> LiveDevice:
        """Raises OSError: ENODEV when it is gone."""
        return wireguard.parse_device(self._generic.dump(self.find(), wireguard.get_device(index)))

    def set(self, request: bytes) -> None:
        """Raises OSError."""
        self._generic.change(self.find(), 0, request)


def available() -> bool:
    """Whether this kernel has WireGuard; it loads the module. Raises DatapathError."""
    netlink = _WireGuard()
    try:
        netlink.find()
    except OSError:
        return False
    finally:
        netlink.close()
    return True


def clear(interface: str, private_key: bytes) -> None:
    """Remove the interface that a kernel datapath left, so that its name is free. Raises DatapathError."""
    netlink = _WireGuard()
    try:
        _remove_former(netlink, interface, private_key)
        found = _ours(netlink, interface, private_key)
        if found is not None and found.kind == link.WIREGUARD:
            netlink.links.remove(found.index)
    except OSError as error:
        raise DatapathError(f"cannot remove the interface {interface}: {error.strerror}") from error
    finally:
        netlink.close()


def _remove_former(netlink: _WireGuard, interface: str, private_key: bytes) -> None:
    """Remove what an agent with our key has left under another name, with our port. Raises OSError."""
    for each in netlink.links.all():
        left = (each.kind, each.alias) == (link.WIREGUARD, link.ALIAS)
        former = left and socket.if_indextoname(each.index) != interface
        if former and netlink.device(each.index).public_key == public_key_of(private_key):
            netlink.links.remove(each.index)


def _ours(netlink: _WireGuard, interface: str, private_key: bytes) -> Optional[Link]:
    """The interface, if there is one, that is ours to use: left by an agent, or empty.

    Raises DatapathError, OSError.
    """
    found = netlink.links.find(interface)
    if found is None:
        return None
    if found.kind == link.TUN:
        if found.carrier:
            raise DatapathError(f"the interface {interface} is in use by another program")
        return found
    if found.kind == link.WIREGUARD:
        keys = (b"", public_key_of(private_key))
        if found.alias == link.ALIAS or netlink.device(found.index).public_key in keys:
            return found
        what = "a WireGuard interface with another key"
    else:
        what = f"a {found.kind or 'hardware'} interface"
    raise NameTakenError(f"{interface} is {what}, of another program or the system: choose another name (interface)")
