# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes of the host's links, addresses, routes and rules (rtnetlink(7)): each at once, and bursts of them once."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Callable, Optional

if TYPE_CHECKING:
    import asyncio

# linux/rtnetlink.h; bit n-1 stands for group RTNLGRP_ n: links, and addresses, routes and rules of both families.
_GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18

_SETTLE_TIME = 0.05
"""Seconds. Changes come in bursts: settled() a moment later,"""
_LOOKING_SHARE = 0.1
"""and for no more than this part of the time."""


@contextlib.contextmanager
def watched(
    loop: asyncio.AbstractEventLoop, notified: Callable[[Sequence[bytes]], None], settled: Callable[[], None]
) -> Iterator[None]:
    """For the length of the block. Raises OSError where that cannot be.

    notified: the kernel has sent these notifications, and may have lost some.
    settled: there were changes, and this is the time to look what they have done.
    """
    watch = _Watch(loop, notified, settled)
    try:
        yield
    finally:
        watch.end()


class _Watch:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, notified: Callable[[Sequence[bytes]], None], settled: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._notified = notified
        self._settled = settled
        self._look: Optional[asyncio.TimerHandle] = None
        self._look_after = 0.0
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.bind((0, _GROUPS))
        loop.add_reader(self._socket, self._readable)

    def end(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()
        if self._look is not None:
            self._look.cancel()

    def _readable(self) -> None:
        notifications = []
        with contextlib.suppress(OSError):  # BlockingIOError when it is empty, ENOBUFS when it was too full
            while True:
                notifications.append(self._socket.recv(65536))
        self._notified(notifications)
        if self._look is None:
            delay = max(_SETTLE_TIME, self._look_after - time.monotonic())
            self._look = self._loop.call_later(delay, self._look_now)

    def _look_now(self) -> None:
        self._look = None
        started = time.monotonic()
        self._settled()
        ended = time.monotonic()
        self._look_after = ended + (ended - started) / _LOOKING_SHARE
