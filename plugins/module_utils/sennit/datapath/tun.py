# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The TUN device, with as much of the kernel's offloads as this kernel has (linux/if_tun.h, drivers/net/tun.c)."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import socket
import struct
from collections.abc import Sequence
from typing import Optional, Union

from .base import DatapathError
from .vnet import MAX_FRAME

_TUNSETIFF = 0x400454CA
_TUNGETIFF = 0x800454D2
_TUNSETOFFLOAD = 0x400454D0
_SIOCGIFMTU = 0x8921
_SIOCSIFMTU = 0x8922
_SIOCSIFTXQLEN = 0x8943
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_F_CSUM, _F_TSO4, _F_TSO6, _F_USO4, _F_USO6 = 0x01, 0x02, 0x04, 0x20, 0x40
_TCP = _F_CSUM | _F_TSO4 | _F_TSO6
_UDP = _F_USO4 | _F_USO6

# Frames that wait for us. Of the kernel's default, 500, a beacon that gives a new map to 1,000 nodes lost every tenth,
# whatever the queueing discipline. What one socket may have in it, the kernel limits by its own means.
_QUEUE_LENGTH = 5000

_log = logging.getLogger(__name__)


class Tun:
    """An open TUN device. Reads and writes are frames: a vnet header and an IP packet."""

    def __init__(self, interface: str, mtu: int, kept: Optional[int] = None) -> None:
        """Make the device, or take over a persistent one of that name. It stays down and without addresses.

        Where `kept` is a descriptor of such a device, it is as the agent before us left it. Raises DatapathError.
        """
        if kept is not None and _name(kept) != interface:
            os.close(kept)
            kept = None
        try:
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC) if kept is None else kept
        except OSError as error:
            raise DatapathError(f"cannot open /dev/net/tun: {error.strerror}") from error
        try:
            request = struct.pack("16sH22x", interface.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
            if kept is None:
                fcntl.ioctl(self.fd, _TUNSETIFF, request)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                fcntl.ioctl(any_socket, _SIOCSIFMTU, struct.pack("16si20x", interface.encode(), mtu))
                fcntl.ioctl(any_socket, _SIOCSIFTXQLEN, struct.pack("16si20x", interface.encode(), _QUEUE_LENGTH))
        except OSError as error:
            os.close(self.fd)
            raise DatapathError(f"cannot set up the TUN device {interface}: {error.strerror}") from error
        self.mtu = mtu
        self._interface = interface
        self.takes_udp = self._set_offloads(interface)

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


def _name(descriptor: int) -> str:
    """Of the device, if it is one of ours; else empty."""
    try:
        answer = fcntl.ioctl(descriptor, _TUNGETIFF, bytes(40))
    except OSError:
        return ""
    name, flags = struct.unpack("16sH22x", answer)
    wanted = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
    return name.rstrip(b"\0").decode(errors="replace") if flags & wanted == wanted else ""
