# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The numbers of the protocol, under the names the WireGuard whitepaper gives them (section 6.1).

Times are in seconds, lengths in bytes.
"""

from __future__ import annotations

from typing import Final

# Noise and MAC labels (sections 5.4 and 5.4.4). They are part of the wire format.
CONSTRUCTION: Final = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
IDENTIFIER: Final = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
LABEL_MAC1: Final = b"mac1----"
LABEL_COOKIE: Final = b"cookie--"

# Message types: the first byte of a datagram, followed by three zero bytes.
TYPE_INITIATION: Final = 1
TYPE_RESPONSE: Final = 2
TYPE_COOKIE_REPLY: Final = 3
TYPE_TRANSPORT: Final = 4

KEY_LENGTH: Final = 32
TAG_LENGTH: Final = 16
MAC_LENGTH: Final = 16
COOKIE_LENGTH: Final = 16
COOKIE_NONCE_LENGTH: Final = 24
TIMESTAMP_LENGTH: Final = 12

INITIATION_LENGTH: Final = 148
RESPONSE_LENGTH: Final = 92
COOKIE_REPLY_LENGTH: Final = 64
TRANSPORT_HEADER_LENGTH: Final = 16
TRANSPORT_OVERHEAD: Final = TRANSPORT_HEADER_LENGTH + TAG_LENGTH
PADDING_MULTIPLE: Final = 16

REKEY_AFTER_TIME: Final = 120.0
REJECT_AFTER_TIME: Final = 180.0
REKEY_ATTEMPT_TIME: Final = 90.0
REKEY_TIMEOUT: Final = 5.0
KEEPALIVE_TIMEOUT: Final = 10.0
COOKIE_REFRESH_TIME: Final = 120.0
# A cookie is used a little less long than it is accepted, so that it is never refused for having been on its way.
COOKIE_LATENCY: Final = 5.0
# Upper end of the jitter on retries, which keeps two peers from retrying in step (section 6.4).
REKEY_TIMEOUT_JITTER: Final = 0.333
# An initiator that hears from its peer this late renews the keypair before the peer starts to refuse it (section 6.2).
REKEY_ON_RECEIVE_AFTER: Final = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
# Key material of a silent peer is forgotten after this long (section 6.3).
ZERO_KEYS_AFTER: Final = 3 * REJECT_AFTER_TIME

REKEY_AFTER_MESSAGES: Final = 2**60
REJECT_AFTER_MESSAGES: Final = 2**64 - 2**13 - 1
REPLAY_WINDOW: Final = 8192 - 64

# Initiations of one peer that follow each other faster than this are refused.
INITIATION_INTERVAL: Final = 1 / 50
# Handshake messages that wait for us: from this many on we are under load, and stay so for a while (section 5.3).
HANDSHAKE_QUEUE_CAPACITY: Final = 1024
UNDER_LOAD_QUEUE_LENGTH: Final = HANDSHAKE_QUEUE_CAPACITY // 8
UNDER_LOAD_FOR: Final = 1.0
# The inbound half asks for cookies this much longer than that, and tells once a second how many it has given: so there
# is no gap as long as there is need to.
UNDER_LOAD_REPORTED_FOR: Final = 2.0
UNDER_LOAD_MARGIN: Final = 0.5
# So many that were nobody's, in that time, are load as well, as honest ones do not fail; it lasts while so many are
# given cookies.
UNDER_LOAD_FAILURES: Final = 128
# Under load, so many handshake messages of each kind are given cookies in so many seconds, and so many of them to one
# source, an address and a port: more a flood may not cost. Who is left out comes again by itself.
COOKIES_AT_ONCE: Final = 100
COOKIES_EACH: Final = 20
COOKIES_TIME: Final = 0.1
# Under load, one source address may start this many handshakes a second, after a burst.
LIMITER_RATE: Final = 20
LIMITER_BURST: Final = 5

# Packets that wait for a keypair, a peer.
STAGED_PACKETS: Final = 128

# On the monotonic clock, of what has not been yet. One object for all: there may be several a peer.
NEVER: Final = float("-inf")
