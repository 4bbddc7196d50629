# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The handshake Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (whitepaper section 5.4; Noise revision 34, section 7.5).

    initiation   e, es, s, ss, {timestamp}
    response     e, ee, se, psk, {}

Pure computation on keys and messages: ephemeral keys, indices and timestamps are given, and whether a peer is known or
a timestamp fresh is for the caller to judge. A step that fails raises PacketError and leaves the state as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .constants import CONSTRUCTION, IDENTIFIER
from .crypto import dh, hash256, kdf, public_key_of, seal, unseal
from .errors import DropReason, PacketError
from .messages import Initiation, Response

_INITIAL_CHAINING_KEY = hash256(CONSTRUCTION)
_INITIAL_HASH = hash256(_INITIAL_CHAINING_KEY, IDENTIFIER)
_NONCE = bytes(12)


@dataclass(frozen=True)
class StaticKeys:
    """A node's long-lived key, private and public, 32 bytes each."""

    private: bytes = field(repr=False)
    public: bytes

    @classmethod
    def of(cls, private_key: bytes) -> StaticKeys:
        """Both halves, from the private one."""
        return cls(private_key, public_key_of(private_key))


@dataclass(frozen=True)
class TransportKeys:
    """What the handshake is for: one 32-byte key a direction."""

    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)


class SymmetricState:
    """Noise's SymmetricState (section 5.2): the chaining key and the hash of all that was said.

    Every key in this pattern seals exactly one message, so the nonce is always 0 and there is no CipherState.
    """

    __slots__ = ("chaining_key", "hash", "key")

    def __init__(self, responder_public: bytes) -> None:
        self.chaining_key = _INITIAL_CHAINING_KEY
        self.hash = hash256(_INITIAL_HASH, responder_public)
        self.key = b""

    def copy(self) -> SymmetricState:
        """An independent state, to try a message on."""
        twin = SymmetricState.__new__(SymmetricState)
        twin.chaining_key, twin.hash, twin.key = self.chaining_key, self.hash, self.key
        return twin

    def mix_hash(self, data: bytes) -> None:
        self.hash = hash256(self.hash, data)

    def mix_key(self, material: bytes) -> None:
        self.chaining_key, self.key = kdf(self.chaining_key, material, 2)

    def mix_ephemeral(self, public_key: bytes) -> None:
        """Token e. With a preshared key in the pattern it goes into the chaining key too (section 9.2)."""
        self.mix_hash(public_key)
        (self.chaining_key,) = kdf(self.chaining_key, public_key, 1)

    def mix_key_and_hash(self, material: bytes) -> None:
        """Token psk."""
        self.chaining_key, mixed, self.key = kdf(self.chaining_key, material, 3)
        self.mix_hash(mixed)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        sealed = seal(self.key, _NONCE, plaintext, self.hash)
        self.mix_hash(sealed)
        return sealed

    def decrypt_and_hash(self, sealed: bytes) -> bytes:
        """Raises PacketError(HANDSHAKE_AUTHENTICATION) when the bytes were not sealed with our key over our hash."""
        plaintext = unseal(self.key, _NONCE, sealed, self.hash)
        if plaintext is None:
            raise PacketError(DropReason.HANDSHAKE_AUTHENTICATION)
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The transport keys: initiator to responder, responder to initiator."""
        first, second = kdf(self.chaining_key, b"", 2)
        return first, second


class InitiatorHandshake:
    """Our side of a handshake that we started: made with the initiation, finished by the response."""

    __slots__ = ("_ephemeral_private", "_state", "_static", "initiation", "local_index")

    def __init__(
        self,
        static: StaticKeys,
        remote_public: bytes,
        static_static: bytes,
        *,
        ephemeral_private: bytes,
        local_index: int,
        timestamp: bytes,
    ) -> None:
        """static_static is dh(our private key, remote_public), which does not change from handshake to handshake."""
        self.local_index = local_index
        self._static = static
        self._ephemeral_private = ephemeral_private
        self._state = state = SymmetricState(remote_public)
        ephemeral = public_key_of(ephemeral_private)
        state.mix_ephemeral(ephemeral)
        state.mix_key(dh(ephemeral_private, remote_public))
        sealed_static = state.encrypt_and_hash(static.public)
        state.mix_key(static_static)
        sealed_timestamp = state.encrypt_and_hash(timestamp)
        self.initiation = Initiation(local_index, ephemeral, sealed_static, sealed_timestamp)

    def finish(self, response: Response, preshared_key: bytes) -> TransportKeys:
        """Take the response. A forged one changes nothing: the real one is still welcome afterwards."""
        state = self._state.copy()
        state.mix_ephemeral(response.ephemeral)
        state.mix_key(dh(self._ephemeral_private, response.ephemeral))
        state.mix_key(dh(self._static.private, response.ephemeral))
        state.mix_key_and_hash(preshared_key)
        state.decrypt_and_hash(response.sealed_nothing)
        send, receive = state.split()
        return TransportKeys(send, receive)


class ResponderHandshake:
    """Our side of a handshake that a peer started, in the three steps between which the caller decides to go on.

    Making it opens the initiator's static key; read_timestamp proves that the initiator holds that key; respond
    yields the response and the transport keys.
    """

    __slots__ = ("_initiation", "_state", "remote_public")

    def __init__(self, static: StaticKeys, initiation: Initiation) -> None:
        self._initiation = initiation
        self._state = state = SymmetricState(static.public)
        state.mix_ephemeral(initiation.ephemeral)
        state.mix_key(dh(static.private, initiation.ephemeral))
        self.remote_public = state.decrypt_and_hash(initiation.sealed_static)

    def read_timestamp(self, static_static: bytes) -> bytes:
        """The initiator's timestamp, 12 bytes. static_static is dh(our private key, remote_public)."""
        self._state.mix_key(static_static)
        return self._state.decrypt_and_hash(self._initiation.sealed_timestamp)

    def respond(
        self, preshared_key: bytes, ephemeral_private: bytes, local_index: int
    ) -> tuple[Response, TransportKeys]:
        """Accept the handshake. May raise PacketError(LOW_ORDER_POINT)."""
        state = self._state
        ephemeral = public_key_of(ephemeral_private)
        state.mix_ephemeral(ephemeral)
        state.mix_key(dh(ephemeral_private, self._initiation.ephemeral))
        state.mix_key(dh(ephemeral_private, self.remote_public))
        state.mix_key_and_hash(preshared_key)
        sealed_nothing = state.encrypt_and_hash(b"")
        receive, send = state.split()
        response = Response(local_index, self._initiation.sender, ephemeral, sealed_nothing)
        return response, TransportKeys(send, receive)
