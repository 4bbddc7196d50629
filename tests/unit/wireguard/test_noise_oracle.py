"""Our handshake live against `noiseprotocol`, an implementation of Noise that shares no code with ours.

The oracle knows nothing of WireGuard: its prologue is WireGuard's identifier, its payloads are the timestamp and
nothing, and the rest of a message is put around it here, from the whitepaper, with nothing but struct and hashlib.
"""

from __future__ import annotations

import hashlib
import struct

import pytest
from cryptography.exceptions import InvalidTag
from noise.connection import Keypair as NoiseKeypair
from noise.connection import NoiseConnection
from tests.unit.wireguard.network import WALL_START, Datagram, Host, Network, ipv4

from sennit.wireguard.errors import DropReason
from sennit.wireguard.events import PeerConfig

PSKS = [bytes(32), bytes(range(32))]
ORACLE_INDEX = 0x01020304
PONG = ipv4("10.0.0.2", "10.0.0.1", b"pong")


class Oracle:
    """A WireGuard host made of noiseprotocol, on the network in the place of a device."""

    def __init__(self, network: Network, number: int, psk: bytes) -> None:
        self.endpoint = (f"192.0.2.{number}", 51820)
        self.psk = psk
        self.private_key = network.random.randbytes(32)
        keypair = NoiseConnection.from_name(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s").noise_protocol.dh_fn.klass
        self.public_key = keypair.from_private_bytes(self.private_key).public_bytes

    def connection(self) -> NoiseConnection:
        connection = NoiseConnection.from_name(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
        connection.set_prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com")
        connection.set_psks(self.psk)
        connection.set_keypair_from_private_bytes(NoiseKeypair.STATIC, self.private_key)
        return connection

    def initiate(self, to: Host, timestamp: bytes) -> NoiseConnection:
        connection = self.connection()
        connection.set_as_initiator()
        connection.set_keypair_from_public_bytes(NoiseKeypair.REMOTE_STATIC, to.public_key)
        connection.start_handshake()
        body = struct.pack("<II", 1, ORACLE_INDEX) + bytes(connection.write_message(timestamp))
        self.send(body, to)
        return connection

    def send(self, message: bytes, to: Host) -> None:
        key = hashlib.blake2s(b"mac1----" + to.public_key).digest()
        mac1 = hashlib.blake2s(message, key=key, digest_size=16).digest()
        to.take(message + mac1 + bytes(16), self.endpoint)

    def check_mac1(self, datagram: Datagram) -> None:
        key = hashlib.blake2s(b"mac1----" + self.public_key).digest()
        mac1 = hashlib.blake2s(datagram.data[:-32], key=key, digest_size=16).digest()
        assert datagram.data[-32:] == mac1 + bytes(16)


def transport(connection: NoiseConnection) -> tuple[bytes, bytes]:
    """The transport keys of the oracle: to send, to receive."""
    protocol = connection.noise_protocol
    return protocol.cipher_state_encrypt.k, protocol.cipher_state_decrypt.k


def configured(network: Network, psk: bytes) -> tuple[Host, Oracle]:
    ours, oracle = network.host(1), Oracle(network, 2, psk)
    config = PeerConfig(oracle.public_key, ("10.0.0.2/32",), oracle.endpoint, preshared_key=psk)
    ours.device.set_peer(config, network.now, network.wall)
    return ours, oracle


def data_packet(connection: NoiseConnection, index: int, counter: int, packet: bytes) -> bytes:
    """A transport message of the oracle, padded to 16 bytes."""
    padded = packet + bytes(-len(packet) % 16)
    return struct.pack("<IIQ", 4, index, counter) + connection.encrypt(padded)


@pytest.mark.parametrize("psk", PSKS, ids=["no-psk", "psk"])
def test_we_initiate(network: Network, psk: bytes) -> None:
    ours, oracle = configured(network, psk)
    ours.send_to("10.0.0.2", b"ping")

    (initiation,) = network.take_in_flight()
    assert (initiation.type, len(initiation.data)) == (1, 148)
    oracle.check_mac1(initiation)
    our_index = initiation.data[4:8]
    connection = oracle.connection()
    connection.set_as_responder()
    connection.start_handshake()
    timestamp = connection.read_message(initiation.data[8:-32])
    assert connection.noise_protocol.handshake_state.rs.public_bytes == ours.public_key
    seconds, nanoseconds = struct.unpack(">QI", timestamp)
    assert 0 <= WALL_START + network.now - (seconds - 2**62 - 10) - nanoseconds / 1e9 < 0.02

    oracle.send(struct.pack("<II4s", 2, ORACLE_INDEX, our_index) + bytes(connection.write_message()), ours)

    keypair = ours.device.control._peers[oracle.public_key].keypairs.current
    assert (keypair.receive_key, keypair.send_key) == transport(connection)
    (data,) = network.take_in_flight()
    assert struct.unpack("<IIQ", data.data[:16]) == (4, ORACLE_INDEX, 0)
    assert connection.decrypt(data.data[16:]) == ipv4("10.0.0.1", "10.0.0.2", b"ping") + bytes(8)

    ours.take(data_packet(connection, int.from_bytes(our_index, "little"), 0, PONG), oracle.endpoint)
    assert ours.payloads() == [b"pong"]
    assert not ours.device.drops


@pytest.mark.parametrize("psk", PSKS, ids=["no-psk", "psk"])
def test_the_oracle_initiates(network: Network, psk: bytes) -> None:
    ours, oracle = configured(network, psk)
    connection = oracle.initiate(ours, struct.pack(">QI", 2**62 + 10 + 5, 0))

    (response,) = network.take_in_flight()
    assert (response.type, len(response.data), response.destination) == (2, 92, oracle.endpoint)
    assert struct.unpack("<I", response.data[8:12]) == (ORACLE_INDEX,)
    oracle.check_mac1(response)
    assert connection.read_message(response.data[12:-32]) == b""

    keypair = ours.device.control._peers[oracle.public_key].keypairs.next
    assert (keypair.receive_key, keypair.send_key) == transport(connection)
    ours.take(data_packet(connection, keypair.local_index, 0, PONG), oracle.endpoint)
    assert ours.payloads() == [b"pong"]

    ours.send_to("10.0.0.2", b"ping")
    (data,) = network.take_in_flight()
    assert struct.unpack("<IIQ", data.data[:16]) == (4, ORACLE_INDEX, 0)
    assert connection.decrypt(data.data[16:]) == ipv4("10.0.0.1", "10.0.0.2", b"ping") + bytes(8)
    assert not ours.device.drops


def test_another_preshared_key_ends_in_no_session(network: Network) -> None:
    ours, oracle = configured(network, PSKS[1])
    oracle.psk = PSKS[0]
    connection = oracle.initiate(ours, struct.pack(">QI", 2**62 + 10 + 5, 0))
    (response,) = network.take_in_flight()
    with pytest.raises(InvalidTag):
        connection.read_message(response.data[12:-32])


def test_another_prologue_is_refused(network: Network) -> None:
    ours, oracle = configured(network, PSKS[0])
    connection = oracle.connection()
    connection.set_prologue(b"WireGuard v2")
    connection.set_as_initiator()
    connection.set_keypair_from_public_bytes(NoiseKeypair.REMOTE_STATIC, ours.public_key)
    connection.start_handshake()
    oracle.send(struct.pack("<II", 1, ORACLE_INDEX) + bytes(connection.write_message(bytes(12))), ours)
    assert ours.device.drops == {DropReason.HANDSHAKE_AUTHENTICATION: 1}
    assert not network.log
