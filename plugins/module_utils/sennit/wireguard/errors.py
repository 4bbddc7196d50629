# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a packet was dropped. The list is flat, and it is also the list of the drop counters."""

from __future__ import annotations

from enum import Enum


class DropReason(str, Enum):
    """One member for each way in which a packet can be refused; the value is the name the counter is shown under."""

    # Any datagram from the underlay.
    UNKNOWN_TYPE = "unknown-message-type"
    WRONG_LENGTH = "wrong-length"
    UNKNOWN_INDEX = "unknown-receiver-index"

    # Handshake messages.
    NO_PRIVATE_KEY = "no-private-key"
    INVALID_MAC1 = "invalid-mac1"
    COOKIE_REQUIRED = "cookie-required"
    RATE_LIMITED = "rate-limited"
    HANDSHAKE_QUEUE_FULL = "handshake-queue-full"
    HANDSHAKE_AUTHENTICATION = "handshake-authentication"
    LOW_ORDER_POINT = "low-order-point"
    UNKNOWN_PEER = "unknown-peer"
    REPLAYED_INITIATION = "replayed-initiation"
    INITIATION_FLOOD = "initiation-flood"
    INVALID_COOKIE_REPLY = "invalid-cookie-reply"

    # Transport data from a peer.
    QUEUE_FULL = "queue-full"
    EXPIRED_KEYPAIR = "expired-keypair"
    DATA_AUTHENTICATION = "data-authentication"
    REPLAYED_COUNTER = "replayed-counter"
    COUNTER_LIMIT = "counter-limit"
    MALFORMED_INNER_PACKET = "malformed-inner-packet"
    SOURCE_NOT_ALLOWED = "source-not-allowed"
    WRITE_FAILED = "write-failed"

    # Packets of this host on their way out.
    MALFORMED_OUTGOING_PACKET = "malformed-outgoing-packet"
    NO_PEER_FOR_DESTINATION = "no-peer-for-destination"
    NO_ENDPOINT = "no-endpoint"
    ROUTING_LOOP = "routing-loop"
    STAGED_QUEUE_FULL = "staged-queue-full"
    HANDSHAKE_GAVE_UP = "handshake-gave-up"
    INTERFACE_DOWN = "interface-down"
    PEER_REMOVED = "peer-removed"
    SEND_FAILED = "send-failed"

    def __str__(self) -> str:
        return self.value


class PacketError(Exception):
    """Bytes from outside that are refused. The only exception a parser of such bytes raises."""

    def __init__(self, reason: DropReason) -> None:
        super().__init__(reason.value)
        self.reason = reason
