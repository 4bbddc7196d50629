# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The relays of the beacons as this node has them: each one more WireGuard peer, which nothing is routed to.

Its keepalives hold the NAT open towards the relay, and tell it where this node is. They go over the other family than
the session with the beacon where both ends have both: so the beacon knows how this node looks from outside in either.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Optional

from ..beacon.whereabouts import Report
from ..relay.offer import RelayOffer
from ..wireguard.events import Endpoint, PeerConfig
from .candidates import relay_order

# Seconds; as wg(8) recommends for NAT.
KEEPALIVE = 25
# Addresses of one beacon that are remembered as its relay's: it may be reached at one of the LAN, and then at another.
_MAX_ADDRESSES = 8


class Relays:
    """For the node with this public key."""

    def __init__(self, public_key: bytes) -> None:
        self._public_key = public_key
        self._claims: dict[str, RelayOffer] = {}
        """What each beacon says of its relay, by its name."""
        self._holders: dict[bytes, str] = {}
        """The beacon that is believed to have the relay with this key."""
        self._addresses: Mapping[str, Sequence[str]] = {}
        self._at: dict[str, list[Endpoint]] = {}
        """Where each relay is and was, by its beacon's name; the newest last."""
        self._silent: dict[str, set[str]] = {}
        """Addresses at which each did not answer."""
        self._reports: Mapping[str, Report] = {}

    def use(
        self, reports: Mapping[str, Report], addresses: Mapping[str, Sequence[str]], keys: Collection[bytes]
    ) -> None:
        """``reports`` are those of the beacons to which there is a stream, ``addresses`` where this node reaches the
        beacons of the map, by name and as preferred for their relays, and ``keys`` are those of the nodes.

        The relay of a beacon whose stream has broken stays a peer, as that is how it is found to be well again.
        """
        self._reports, self._addresses = reports, addresses
        for name, report in reports.items():
            if report.relay is None or report.relay.public_key in keys:
                self._claims.pop(name, None)
            else:
                self._claims[name] = report.relay
        for name in self._claims.keys() - addresses.keys():
            del self._claims[name]
        self._holders = {key: self._holder(key) for key in {offer.public_key for offer in self._claims.values()}}
        offers = self._offers
        for name in self._at.keys() - offers.keys():
            del self._at[name]
            self._silent.pop(name, None)
        for name, offer in offers.items():
            endpoint = (self._preferred(name, addresses[name]), offer.port)
            known = self._at.setdefault(name, [])
            if endpoint in known:
                known.remove(endpoint)
            known.append(endpoint)
            del known[:-_MAX_ADDRESSES]

    def no_answer(self, public_key: bytes, endpoint: Endpoint) -> bool:
        """The relay with this key does not answer at this endpoint; whether use() should be called, to try another."""
        name = self._holders.get(public_key)
        if name is None or endpoint != self._at[name][-1]:
            return False
        silent = self._silent.setdefault(name, set())
        silent.add(endpoint[0])
        others = [other for other in self._claimants(public_key) if other != name]
        if others and silent.issuperset(self._addresses[name]):
            # Nobody can show whose a key is before there is a session: another beacon may have claimed it falsely.
            self._holders[public_key] = others[0]
            self._claims[name] = self._claims.pop(name)
        return True

    def denies(self, public_key: bytes) -> bool:
        """Whether the beacon of the relay with this key says that this node is not attached to it."""
        report = self._reports.get(self._holders.get(public_key, ""))
        return report is not None and report.relay is not None and not self._is_attached(report, self._public_key)

    @property
    def _offers(self) -> dict[str, RelayOffer]:
        """The relays, by their beacon's name: the datapath has one peer for each key."""
        return {name: offer for name, offer in self._claims.items() if self._holders[offer.public_key] == name}

    def _holder(self, public_key: bytes) -> str:
        """Who had it before, and else who came first."""
        claimants = self._claimants(public_key)
        before = self._holders.get(public_key)
        return before if before in claimants else claimants[0]

    def _claimants(self, public_key: bytes) -> list[str]:
        return [name for name, offer in self._claims.items() if offer.public_key == public_key]

    def _preferred(self, name: str, addresses: Sequence[str]) -> str:
        silent = self._silent.setdefault(name, set())
        silent &= set(addresses)
        if len(silent) == len(set(addresses)):
            # It was the relay, or this host's network: begin again.
            silent.clear()
        return next(address for address in addresses if address not in silent)

    @property
    def peers(self) -> dict[bytes, PeerConfig]:
        """What the datapath needs to know of them."""
        return {
            offer.public_key: PeerConfig(offer.public_key, endpoint=self._at[name][-1], persistent_keepalive=KEEPALIVE)
            for name, offer in self._offers.items()
        }

    @property
    def endpoints(self) -> frozenset[Endpoint]:
        """Every endpoint that is or was a relay's."""
        return frozenset(endpoint for known in self._at.values() for endpoint in known)

    def name_at(self, endpoint: Endpoint) -> Optional[str]:
        """The beacon whose relay that is, or was, if it is one."""
        names = [name for name, known in self._at.items() if endpoint in known]
        return max(names, key=lambda name: self._at[name][-1] == endpoint, default=None)

    def between(self, peer: bytes) -> tuple[Endpoint, ...]:
        """Those at which both this node and the peer are attached, as both prefer them."""
        names = [
            name
            for name in self._offers
            if name in self._reports
            and self._is_attached(self._reports[name], self._public_key)
            and self._is_attached(self._reports[name], peer)
        ]
        return tuple(self._at[name][-1] for name in relay_order(names, self._public_key, peer))

    @staticmethod
    def _is_attached(report: Report, public_key: bytes) -> bool:
        whereabouts = report.nodes.get(public_key)
        return whereabouts is not None and whereabouts.attached
