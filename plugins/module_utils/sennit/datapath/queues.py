# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several workers a direction: how many, what each of them reads from, and what they share (see wireguard/queues.py).

On the way out the kernel spreads flows over the queues of the TUN device. On the way in a program of ours tells it
which of the sockets on our port gets a packet: that of the receiver index's queue (socket(7),
SO_ATTACH_REUSEPORT_CBPF).
"""

from __future__ import annotations

import mmap
import os
import socket
import struct

from ..wireguard.constants import TYPE_TRANSPORT
from ..wireguard.queues import MAX_QUEUES
from .base import DatapathError
from .udp import UdpSocket, tell_once

VARIABLE = "SENNIT_QUEUES"
"""In the environment: how many workers a direction. Unset: by the processors that there are."""

_MOST = 4  # unless told otherwise
_MARKS = 1 << 16

_SO_ATTACH_REUSEPORT_CBPF = 51
# linux/bpf_common.h; loads are of the UDP payload, and one beyond its end returns 0.
_LOAD_BYTE, _JUMP_EQUAL, _MODULO, _RETURN, _RETURN_A = 0x30, 0x15, 0x94, 0x06, 0x16
_INSTRUCTION = struct.Struct("=HBBI")
_INDEX = 4  # where the receiver index is, and its lowest byte


def wanted() -> int:
    """How many workers a direction. Raises DatapathError when VARIABLE is not a number of them.

    The traffic's own ends want processors, too, and every worker takes memory.
    """
    forced = os.environ.get(VARIABLE, "")
    if not forced:
        return max(1, min(len(os.sched_getaffinity(0)) // 2, _MOST))
    if not (forced.isdecimal() and 1 <= int(forced) <= MAX_QUEUES):
        raise DatapathError(f"{VARIABLE} is {forced!r}, not a number from 1 to {MAX_QUEUES}")
    return int(forced)


def marks() -> memoryview:
    """Those that outbound workers share, all 0."""
    return memoryview(mmap.mmap(-1, 8 * _MARKS)).cast("Q")


def open_sockets(port: int, fwmark: int, queues: int) -> list[UdpSocket]:
    """Bind so many sockets to the port (0: any), each for its queue; one where the kernel cannot tell them apart.

    Raises DatapathError.
    """
    sockets = [UdpSocket(port, fwmark)]
    try:
        if queues > 1 and _share(sockets[0].socket, True):
            while len(sockets) < queues:
                sockets.append(UdpSocket(sockets[0].port, fwmark, beside=sockets[0]))
            if not _steer(sockets[0].socket, queues):
                _share(sockets[0].socket, False)
                for each in sockets[1:]:
                    each.close()
                del sockets[1:]
    except DatapathError:
        for each in sockets:
            each.close()
        raise
    return sockets


def steering_program(queues: int) -> bytes:
    """In classic BPF: the queue of a packet by its receiver index, and 0 of all else."""
    return b"".join(
        _INSTRUCTION.pack(*instruction)
        for instruction in (
            (_LOAD_BYTE, 0, 0, 0),
            (_JUMP_EQUAL, 1, 0, TYPE_TRANSPORT),
            (_RETURN, 0, 0, 0),
            (_LOAD_BYTE, 0, 0, _INDEX),
            (_MODULO, 0, 0, queues),
            (_RETURN_A, 0, 0, 0),
        )
    )


def _share(udp: socket.socket, share: bool) -> bool:
    """Let others of ours bind the port, or not. It was bound without: what somebody else has, we would not notice."""
    try:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, share)
    except OSError:
        _without()
        return False
    return True


def _steer(udp: socket.socket, queues: int) -> bool:
    import ctypes  # noqa: PLC0415  (it costs memory that nobody else needs)

    program = steering_program(queues)
    held = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog
    instructions = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(held))
    try:
        udp.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, instructions)
    except OSError:
        _without()
        return False
    return True


def _without() -> None:
    tell_once("this kernel does not steer datagrams to one of several sockets; going on with one")
