# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the control process and a worker talk: lists of Python values over a socket pair.

SOCK_SEQPACKET keeps messages whole and says when the other side is gone. Both ends are forks of one process, so pickle
carries nothing here that comes from outside. Beside the sockets lie two counters in shared memory: whoever only wants
to know whether a message has come, for every batch of packets, asks the kernel nothing.
"""

from __future__ import annotations

import mmap
import pickle
import socket
from collections.abc import Sequence
from typing import Any, Optional

_SO_SNDBUFFORCE = 32
_BUFFER_BYTES = 4 << 20
_MAX_SOCKETS = 1  # handed over in one message


class Channel:
    """One end. Neither direction ever blocks."""

    def __init__(self, end: socket.socket, counters: memoryview, own: int) -> None:
        """counters: of the messages that either side has sent, of which ours is the one at `own`."""
        end.setblocking(False)
        try:
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
        except PermissionError:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self.socket = end
        self._counters = counters
        self._own = own
        self.messages = 0
        """Those that were received."""

    @staticmethod
    def pair() -> tuple[Channel, Channel]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        counters = memoryview(mmap.mmap(-1, 8)).cast("I")
        return Channel(ours, counters, 0), Channel(theirs, counters, 1)

    def send(self, values: list[Any]) -> bool:
        """Whether there was room for the message. Raises OSError when the other side is gone.

        A socket among the values is handed over: the other side gets one of its own to the same, behind the others.
        """
        sockets = [value for value in values if isinstance(value, socket.socket)]
        message = pickle.dumps([value for value in values if value not in sockets], pickle.HIGHEST_PROTOCOL)
        try:
            socket.send_fds(self.socket, [message], [each.fileno() for each in sockets])
        except BlockingIOError:
            return False
        self._counters[self._own] = (self._counters[self._own] + 1) & 0xFFFFFFFF
        return True

    def counter(self) -> memoryview:
        """Of the messages that the other side has sent, modulo 2**32, in shared memory; see waits()."""
        return self._counters[1 - self._own : 2 - self._own]

    def waits(self) -> bool:
        """Whether a message has come. One that comes right now may be missed, and so is the end of the other side."""
        return self._counters[1 - self._own] != self.messages

    def receive(self) -> Optional[list[Any]]:
        """The next message, or None when there is none. Raises EOFError when the other side is gone."""
        try:
            # For its length; the kernel tells that of the whole message.
            length = self.socket.recv_into(bytearray(1), 1, socket.MSG_PEEK | socket.MSG_TRUNC)
            message, descriptors, _flags, _sender = socket.recv_fds(self.socket, length, _MAX_SOCKETS)
        except BlockingIOError:
            return None
        except ConnectionError as error:
            raise EOFError from error
        if not message:
            raise EOFError
        self.messages = (self.messages + 1) & 0xFFFFFFFF
        values: list[Any] = pickle.loads(message)  # noqa: S301 (from our own fork)
        return values + [socket.socket(fileno=descriptor) for descriptor in descriptors]

    def close(self) -> None:
        self.socket.close()


def any_waits(channels: Sequence[Channel]) -> bool:
    """See Channel.waits()."""
    for channel in channels:  # noqa: SIM110 (any() would cost more than all else here)
        if channel.waits():
            return True
    return False
