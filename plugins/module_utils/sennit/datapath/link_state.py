# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What anybody may set of the TUN device while the datapath runs: the link up or down, and its MTU.

The kernel notifies of both, but not where the device was moved to another namespace: there it is looked at again and
again. When the link is up, a notification may also come later than what that has made possible, so whoever is about to
do something for which it has to be up says so first, by notice_up().
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Callable, Optional

from . import link
from .base import DatapathError
from .tun import Tun

if TYPE_CHECKING:
    import asyncio

# Seconds between looks where there are no notifications. As wireguard-go does.
_LOOK_INTERVAL = 1.0

_log = logging.getLogger(__name__)


class LinkState:
    """Tells of every change by the functions that it is given.

    set_mtu: the MTU is another now.
    down: let go of the port. Returns a future that is done when nobody holds it, or None where nobody is waited for;
        until then the link counts as down.
    up: bind the port. Raises DatapathError when that cannot be: the link counts as down, and it is tried again.
    """

    def __init__(
        self,
        tun: Tun,
        interface: str,
        *,
        set_mtu: Callable[[int], None],
        down: Callable[[], Optional[asyncio.Future[None]]],
        up: Callable[[], None],
    ) -> None:
        """Look whether the link is up, without telling of it. Raises OSError when there is no such interface."""
        self.up = tun.is_up()
        self._tun = tun
        self._interface = interface
        self._index = socket.if_nametoindex(interface)
        self._mtu = tun.mtu
        self._tell_mtu = set_mtu
        self._tell_down = down
        self._tell_up = up
        self._unbound: Optional[asyncio.Future[None]] = None
        self._refused = ""
        """Why the port cannot be bound though the link is up, if it cannot."""
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._next_look: Optional[asyncio.TimerHandle] = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look now, and from now on also where nobody notifies of a change."""
        self._loop = loop
        self.follow()

    def stop(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        self._loop = self._next_look = None

    def tells_down(self, notifications: bytes) -> bool:
        """Whether the link was down when these were sent, though it may be up again."""
        return link.tells_down(notifications, self._index)

    def follow(self, was_down: bool = False) -> None:
        """There may have been a change; was_down: the link was down since the last look, whatever it is now."""
        try:
            mtu = self._tun.current_mtu()
        except OSError:  # gone, or in another namespace
            self._look_again()
        else:
            if mtu != self._mtu:
                self._mtu = mtu
                self._tell_mtu(mtu)
        if self.up and (was_down or not self._tun.is_up()):
            self.up = False
            self._unbound = self._tell_down()
        self.notice_up()

    def notice_up(self) -> None:
        """Be up if the link is, and the port can be bound."""
        unbinding = self._unbound is not None and not self._unbound.done()
        if self.up or unbinding or not self._tun.is_up():
            return
        try:
            self._tell_up()
        except DatapathError as error:
            if str(error) != self._refused:
                self._refused = str(error)
                _log.error("%s is up, but without peers: %s", self._interface, error)
            self._look_again()
            return
        self._refused = ""
        self.up = True

    def _look_again(self) -> None:
        if self._next_look is None and self._loop is not None:
            self._next_look = self._loop.call_later(_LOOK_INTERVAL, self._look_now)

    def _look_now(self) -> None:
        self._next_look = None
        self.follow()
