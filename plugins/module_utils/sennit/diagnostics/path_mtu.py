# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The MTU of paths: which size of packet still arrives whole, found with ICMP echoes that must not be fragmented.

As packetization layer path MTU discovery does (RFC 4821, RFC 8899): what counts is what arrives, not what routers say.
"""

from __future__ import annotations

import collections
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from .echo import EchoSockets, family_of, is_reply

# The least that every path carries whole (RFC 791: hosts take 576; RFC 8200, section 5).
LEAST = {socket.AF_INET: 576, socket.AF_INET6: 1280}
_HEADERS = {socket.AF_INET: 20 + 8, socket.AF_INET6: 40 + 8}
# linux/in.h, linux/in6.h: sets DF, and does not believe what was learned of the path before.
_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE, _IP_MTU = 10, 3, 14
_IPV6_MTU_DISCOVER, _IPV6_MTU = 23, 24
_SO_MARK = 36

# Seconds that an answer is waited for: a few round trips, within bounds.
_ROUND_TRIPS = 4
_LEAST_WAIT, _LONGEST_WAIT = 0.3, 1.0


class MtuSearch:
    """Looks for the largest size, of low to high, that passes. A size is given up when it has failed twice."""

    def __init__(self, low: int, high: int) -> None:
        self._low = low
        self._high = high
        self._failed: collections.Counter[int] = collections.Counter()
        self.best: Optional[int] = None

    def sizes(self, count: int = 8) -> list[int]:
        """Up to so many sizes to try next; none when it is known, or nothing passes."""
        floor = self._low - 1 if self.best is None else self.best
        lost = [size for size, times in self._failed.items() if times > 1 and size > floor]
        ceiling = min(lost, default=self._high + 1) - 1
        doubtful = [size for size, times in self._failed.items() if times == 1 and floor < size <= ceiling]
        top = min(doubtful, default=ceiling)
        step = max(1, -(-(top - floor) // count))
        found = set(range(top, floor, -step))
        if self.best is None and found:
            found.add(self._low)
        return sorted(found)

    def tried(self, sizes: Sequence[int], passed: Sequence[int]) -> None:
        """What became of a round."""
        self.best = max([*passed, *([self.best] if self.best is not None else [])], default=None)
        for size in sizes:
            if size not in passed and (self.best is None or size > self.best):
                self._failed[size] += 1


def route_to(address: str, mark: int) -> tuple[str, int]:
    """By which own address packets of this mark go there, and which MTU the kernel reckons with. Raises OSError."""
    family = family_of(address)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        # The port does not matter: nothing is sent.
        probe.connect((address, 9))
        if family == socket.AF_INET6:
            return probe.getsockname()[0], probe.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
        return probe.getsockname()[0], probe.getsockopt(socket.IPPROTO_IP, _IP_MTU)


def measure(
    rtts: Mapping[str, float], highest: Mapping[str, int], mark: int, seconds: float
) -> dict[str, Optional[int]]:
    """The MTU of the path to each address in bytes; None where nothing of the kind comes back within ``seconds``.

    rtts: of those to ask, in seconds. highest: the MTU of the interface that each is reached by. Raises OSError without
    the permission to send such packets.
    """
    searches = {address: MtuSearch(LEAST[family_of(address)], highest[address]) for address in rtts}
    deadline = time.monotonic() + seconds
    with _Prober({family_of(address) for address in rtts}, mark) as prober:
        while time.monotonic() < deadline:
            wanted = {address: sizes for address, search in searches.items() if (sizes := search.sizes())}
            if not wanted:
                break
            longest = max(rtts[address] for address in wanted)
            wait = min(max(_ROUND_TRIPS * longest, _LEAST_WAIT), _LONGEST_WAIT, deadline - time.monotonic())
            passed = prober.round(wanted, wait)
            for address, sizes in wanted.items():
                searches[address].tried(sizes, passed[address])
    return {address: search.best for address, search in searches.items()}


class _Prober(EchoSockets):
    """Sends echo requests of stated sizes, unfragmented."""

    def __init__(self, families: Iterable[socket.AddressFamily], mark: int) -> None:
        super().__init__(families, mark)
        self._sequence = 0
        for family, channel in self._sockets.items():
            if family == socket.AF_INET6:
                channel.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
                channel.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DONTFRAG, 1)
            else:
                channel.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)

    def round(self, wanted: Mapping[str, Sequence[int]], seconds: float) -> dict[str, list[int]]:
        """Which sizes came back, of those sent to each address."""
        self._sequence += 1
        passed: dict[str, list[int]] = {address: [] for address in wanted}
        waiting = 0
        for address, sizes in wanted.items():
            for size in sizes:
                try:
                    self._send(address, self._sequence, self._payload(family_of(address), size))
                    waiting += 1
                except OSError:
                    # Larger than the interface takes, or there is no way there any more: it does not pass.
                    continue
        if waiting:
            for family, address, packet in self._receive_until(time.perf_counter() + seconds):
                answered = self._answered(family, packet, wanted.get(address, ()))
                if answered is not None and answered not in passed[address]:
                    passed[address].append(answered)
                    waiting -= 1
                    if not waiting:
                        break
        return passed

    def _answered(self, family: socket.AddressFamily, packet: bytes, sizes: Sequence[int]) -> Optional[int]:
        """To which of the sizes this is the answer."""
        for size in sizes:
            if is_reply(family, packet, self._identifier, self._sequence, self._payload(family, size)):
                return size
        return None

    def _payload(self, family: socket.AddressFamily, size: int) -> bytes:
        return self._token.ljust(size - _HEADERS[family], b"\0")
