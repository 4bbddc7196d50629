# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two MACs at the end of a handshake message, and cookies (whitepaper sections 5.3, 5.4.4, 5.4.7).

mac1 shows that the sender knows whom it talks to; without it nothing is answered. mac2 shows that the sender receives
what is sent to its source address; it is asked for only under load, by a cookie reply instead of a handshake.
"""

from __future__ import annotations

import hmac
from typing import Callable

from .addresses import packed_address
from .aead import Buffer
from .constants import (
    COOKIE_LATENCY,
    COOKIE_NONCE_LENGTH,
    COOKIE_REFRESH_TIME,
    KEY_LENGTH,
    LABEL_COOKIE,
    LABEL_MAC1,
    MAC_LENGTH,
    NEVER,
)
from .crypto import hash256, mac, xseal, xunseal
from .errors import DropReason, PacketError
from .events import Path
from .messages import CookieReply

_NO_MAC2 = bytes(MAC_LENGTH)


def mac1_key(public_key: bytes) -> bytes:
    """The key of the mac1 of messages to the owner of this public key."""
    return hash256(LABEL_MAC1, public_key)


def cookie_key(public_key: bytes) -> bytes:
    """The key that the owner of this public key seals cookies with."""
    return hash256(LABEL_COOKIE, public_key)


class Mac1Checker:
    """For messages that come in: whoever has not got our public key costs us no more than this."""

    def __init__(self, public_key: bytes) -> None:
        self._key = mac1_key(public_key)

    def valid(self, datagram: Buffer) -> bool:
        """Whether an initiation or response of the right length is meant for us."""
        covered, given = datagram[: -2 * MAC_LENGTH], datagram[-2 * MAC_LENGTH : -MAC_LENGTH]
        return hmac.compare_digest(mac(self._key, covered), given)


def valid_mac2(secret: bytes, datagram: Buffer, source: Path) -> bool:
    """Whether the sender of an initiation or response holds the cookie that is made of this secret for this source."""
    given = datagram[-MAC_LENGTH:]
    if given == _NO_MAC2:
        return False
    return hmac.compare_digest(mac(_cookie(secret, source), datagram[:-MAC_LENGTH]), given)


class CookieChecker:
    """For messages that come in with a valid mac1: checks their mac2 and makes cookie replies. One a device."""

    def __init__(self, public_key: bytes, random: Callable[[int], bytes]) -> None:
        self._cookie_key = cookie_key(public_key)
        self._random = random
        self._secret = b""
        self._secret_expires = NEVER

    def has_valid_mac2(self, datagram: bytes, source: Path, now: float) -> bool:
        """Whether the sender holds the cookie that we currently give to this source."""
        return now < self._secret_expires and valid_mac2(self._secret, datagram, source)

    def secret(self, now: float) -> tuple[bytes, float]:
        """What cookies are made of now, and until when they are taken."""
        if now >= self._secret_expires:
            self._secret = self._random(KEY_LENGTH)
            self._secret_expires = now + COOKIE_REFRESH_TIME
        return self._secret, self._secret_expires

    def reply(self, datagram: bytes, sender: int, source: Path, now: float) -> bytes:
        """The cookie reply to a message with a valid mac1, from that sender index and source."""
        secret, _expires = self.secret(now)
        nonce = self._random(COOKIE_NONCE_LENGTH)
        mac1 = datagram[-2 * MAC_LENGTH : -MAC_LENGTH]
        return CookieReply(sender, nonce, xseal(self._cookie_key, nonce, _cookie(secret, source), mac1)).to_bytes()


class CookieJar:
    """For messages that go out to one peer: adds their MACs, and keeps the cookie that the peer last gave us."""

    __slots__ = ("_cookie", "_cookie_expires", "_last_mac1", "_public_key")

    def __init__(self, peer_public_key: bytes) -> None:
        # The keys that are made of it are not kept: there may be thousands of peers.
        self._public_key = peer_public_key
        self._cookie = b""
        self._cookie_expires = NEVER
        self._last_mac1 = b""

    def add_macs(self, message: bytes, now: float) -> bytes:
        """The whole datagram, from a message without its MACs."""
        self._last_mac1 = mac(mac1_key(self._public_key), message)
        covered = message + self._last_mac1
        return covered + (mac(self._cookie, covered) if now < self._cookie_expires else _NO_MAC2)

    def consume(self, reply: CookieReply, now: float) -> None:
        """Keep the cookie for the next message. One reply is taken for each message sent.

        Raises PacketError(INVALID_COOKIE_REPLY) for one that does not answer our last message.
        """
        cookie = None
        if self._last_mac1:
            key = cookie_key(self._public_key)
            cookie = xunseal(key, reply.nonce, reply.sealed_cookie, self._last_mac1)
        if cookie is None:
            raise PacketError(DropReason.INVALID_COOKIE_REPLY)
        self._last_mac1 = b""
        self._cookie = cookie
        self._cookie_expires = now + COOKIE_REFRESH_TIME - COOKIE_LATENCY


def _cookie(secret: bytes, source: Path) -> bytes:
    # Of port and address, which tell two sources apart. The native core has them so, too (guard.c).
    return mac(secret, source[1].to_bytes(2, "big") + packed_address(source[0]))
