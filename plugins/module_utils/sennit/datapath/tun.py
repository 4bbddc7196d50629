# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The TUN device, with as much of the kernel's offloads as this kernel has (linux/if_tun.h, drivers/net/tun.c)."""

from __future__ import annotations

import copy
import errno
import fcntl
import logging
import os
import select
import socket
import struct
from collections.abc import Sequence
from typing import Optional, Union

from .base import DatapathError
from .link import Links
from .vnet import MAX_FRAME

_TUNSETIFF = 0x400454CA
_TUNGETIFF = 0x800454D2
_TUNSETOFFLOAD = 0x400454D0
_SIOCGIFMTU = 0x8921
_SIOCSIFMTU = 0x8922
_SIOCSIFTXQLEN = 0x8943
_IFF_TUN = 0x0001
_IFF_MULTI_QUEUE = 0x0100
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_IFF_TUN_EXCL = 0x8000
_FLAGS = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
_F_CSUM, _F_TSO4, _F_TSO6, _F_USO4, _F_USO6 = 0x01, 0x02, 0x04, 0x20, 0x40
_TCP = _F_CSUM | _F_TSO4 | _F_TSO6
_UDP = _F_USO4 | _F_USO6

# Frames that wait for us. Of the kernel's default, 500, a beacon that gives a new map to 1,000 nodes lost every tenth,
# whatever the queueing discipline. What one socket may have in it, the kernel limits by its own means.
_QUEUE_LENGTH = 5000

_log = logging.getLogger(__name__)


class Tun:
    """An open TUN device, or one queue of it. Reads and writes are frames: a vnet header and an IP packet."""

    def __init__(self, interface: str, mtu: int, kept: Optional[int] = None, *, queues: int = 1) -> None:
        """Make the device, or take over a persistent one of that name. It stays down and without addresses.

        Where `kept` is a descriptor of such a device, it is as the agent before us left it. Raises DatapathError.

        queues: how many there are to be, of which this is the first; the others by open_others().
        """
        kept_flags = 0
        if kept is not None:
            name, kept_flags = _describe(kept)
            if name != interface or kept_flags & _FLAGS != _FLAGS:
                os.close(kept)
                kept = None
        self.fd = _open() if kept is None else kept
        self._flags = _FLAGS | (kept_flags & _IFF_MULTI_QUEUE)
        try:
            if kept is None:
                self._flags = _attach(self.fd, interface, queues > 1)
            if queues > 1 and not self._flags & _IFF_MULTI_QUEUE:
                _log.info("%s: the TUN device has one queue; going on without more", interface)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                fcntl.ioctl(any_socket, _SIOCSIFMTU, struct.pack("16si20x", interface.encode(), mtu))
                fcntl.ioctl(any_socket, _SIOCSIFTXQLEN, struct.pack("16si20x", interface.encode(), _QUEUE_LENGTH))
        except OSError as error:
            os.close(self.fd)
            raise DatapathError(f"cannot set up the TUN device {interface}: {error.strerror}") from error
        self.mtu = mtu
        self._interface = interface
        self._missing = queues - 1 if self._flags & _IFF_MULTI_QUEUE else 0
        self.takes_udp = self._set_offloads(interface)

    def open_others(self) -> list[Tun]:
        """The queues besides this one. The kernel spreads flows over all of them. Raises DatapathError."""
        others: list[Tun] = []
        try:
            for _number in range(self._missing):
                # All but the descriptor is the device's.
                another = copy.copy(self)
                another.fd = _open()
                others.append(another)
                fcntl.ioctl(another.fd, _TUNSETIFF, _request(self._interface, self._flags))
        except (OSError, DatapathError) as error:
            for each in others:
                each.close()
            raise DatapathError(f"cannot open a queue of the TUN device {self._interface}: {error}") from error
        return others

    def _set_offloads(self, interface: str) -> bool:
        """Return whether datagrams may be written joined, which came with their segmentation.

        Ask for the most first: the kernel takes a set as a whole or not at all. UDP came with Linux 6.2."""
        for offloads, missing in ((_TCP | _UDP, ""), (_TCP, "UDP segmentation"), (0, "segmentation")):
            try:
                fcntl.ioctl(self.fd, _TUNSETOFFLOAD, offloads)
            except OSError:
                continue
            if missing:
                _log.info("%s: this kernel's TUN has no offload of %s; going on without it", interface, missing)
            return bool(offloads & _UDP)
        return False

    def current_mtu(self) -> int:
        """What it is now: anybody may set it. Raises OSError when there is no such device here any more."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            answer = fcntl.ioctl(any_socket, _SIOCGIFMTU, struct.pack("16si20x", self._interface.encode(), 0))
        return int(struct.unpack("16si20x", answer)[1])

    def is_up(self) -> bool:
        """Whether the link is up, also in another namespace: only then does the device say that it can be written."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return any(events & select.POLLOUT for _descriptor, events in poll.poll(0))

    def read(self) -> Optional[bytes]:
        """The next frame, or None when there is none. Raises OSError when the device is gone."""
        try:
            return os.read(self.fd, MAX_FRAME)
        except BlockingIOError:
            return None

    def write(self, parts: Sequence[Union[bytes, memoryview]]) -> None:
        """Hand one frame to the kernel. Raises OSError when it does not take it."""
        os.writev(self.fd, parts)

    def close(self) -> None:
        os.close(self.fd)


def _open() -> int:
    try:
        return os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DatapathError(f"cannot open /dev/net/tun: {error.strerror}") from error


def _request(interface: str, flags: int) -> bytes:
    """A struct ifreq."""
    return struct.pack("16sH22x", interface.encode(), flags)


def _attach(descriptor: int, interface: str, several: bool) -> int:
    """Make the device, or take over one that nobody holds, with several queues if it can have them.

    Returns its flags. A device that is there stays as it was made, and kernels before Linux 3.8 make no other: they
    refuse what differs. Raises OSError.
    """
    wanted = _FLAGS | (_IFF_MULTI_QUEUE if several else 0)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _request(interface, wanted | _IFF_TUN_EXCL))
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EINVAL):
            raise
    else:
        return wanted
    with Links() as links:
        there = links.find(interface)
    if there is not None and there.carrier:
        # Where there are several queues, the kernel would give us one beside those of whoever that is.
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _request(interface, wanted))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        wanted ^= _IFF_MULTI_QUEUE
        fcntl.ioctl(descriptor, _TUNSETIFF, _request(interface, wanted))
    return wanted


def _describe(descriptor: int) -> tuple[str, int]:
    """Name and flags of the device; empty and 0 when it is none."""
    try:
        answer = fcntl.ioctl(descriptor, _TUNGETIFF, bytes(40))
    except OSError:
        return "", 0
    name, flags = struct.unpack("16sH22x", answer)
    return name.rstrip(b"\0").decode(errors="replace"), flags
