# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Round-trip times to the peers of a status, through the tunnel.

Whoever asks for the status measures, not the agent: it needs CAP_NET_RAW, which the agent's service has not, and a mesh
that nobody looks at stays silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..netmap.model import KIND_NODE
from ..wireguard.constants import REJECT_AFTER_TIME
from .echo import Pinger

# Seconds that all of it may take. Who takes longer has no path worth the name.
TIMEOUT = 1.0
# For those with whom a session has to be begun first.
WAKE_TIMEOUT = 4.0


def measure(status: Mapping[str, Any], now: float, timeout: float = TIMEOUT) -> dict[str, Any]:
    """The status with each peer's "rtt" in seconds, where there is an answer within ``timeout`` seconds.

    All are asked at once, by one ICMP echo each; only those with a session that lives, so that none is begun for this.
    ``now`` in seconds since the epoch. Raises OSError without the permission to send ICMP.
    """
    asked = {peer["addresses"][0]: peer["name"] for peer in status["peers"] if has_session(peer, now)}
    answered: dict[str, float] = {}
    if asked:
        with Pinger(list(asked)) as pinger:
            for answer in pinger.round(1, timeout):
                if answer.rtt is not None:
                    answered[asked[answer.address]] = round(answer.rtt, 6)
    return {**status, "peers": [{**peer, "rtt": answered.get(peer["name"])} for peer in status["peers"]]}


def wake(status: Mapping[str, Any], now: float, timeout: float = WAKE_TIMEOUT) -> None:
    """Have a session with every node of the status, as far as that comes about within ``timeout`` seconds.

    Static peers are left alone: a phone that is asleep does not answer. Raises OSError without the permission to send
    ICMP.
    """
    peers = [peer for peer in status["peers"] if peer["kind"] == KIND_NODE and not has_session(peer, now)]
    addresses = [peer["addresses"][0] for peer in peers if peer["addresses"]]
    if addresses:
        with Pinger(addresses) as pinger:
            for _answer in pinger.round(1, timeout):
                pass


def has_session(peer: Mapping[str, Any], now: float) -> bool:
    """Whether a peer of a status has keys that are still good, and an address to ask."""
    handshake = peer["latest_handshake"]
    return handshake is not None and now - handshake < REJECT_AFTER_TIME and bool(peer["addresses"])
