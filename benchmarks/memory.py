"""How much memory a tunnel's end has with few peers and with many; none of them has a session."""

from __future__ import annotations

import base64
import hashlib
import ipaddress

from benchmarks import records
from benchmarks.processes import resident
from benchmarks.subjects import NATIVE, PURE, Sennit, Subject, WireguardGo, alone, available

from sennit import api
from sennit.netmap.model import KIND_NODE, Node

PEERS = (1, 100, 10_000)
_POOLS = (int(ipaddress.ip_address("100.65.0.0")), int(ipaddress.ip_address("fd5e::1:0:0")))


def measure(_rounds: int) -> list[records.Record]:
    """MB resident, all processes of one end together."""
    found = records.Rounds()
    for name, make in available().items():
        if name not in (PURE, NATIVE) and not name.startswith(records.REFERENCES):
            continue
        for count in PEERS:
            # Anew each time: what was freed stays with a process.
            with alone(make) as subject:
                subject.up()
                try:
                    _add_peers(subject, count - 1)
                    memory, _proportional = resident(subject.processes(subject.near))
                finally:
                    subject.down()
            found.add(f"memory-{count}-peers", name, memory, "MB")
    return found.records()


def _add_peers(subject: Subject, count: int) -> None:
    peers = [_node(number) for number in range(count)]
    if isinstance(subject, Sennit):
        near = subject.near
        signed = near.mesh.netmap(2, near.node(), subject.far.node(), *peers)
        params = {"netmap": base64.b64encode(signed).decode()}
        # Twenty thousand routes take their time on a busy machine.
        api.call(str(near.directory / "run/control.sock"), "netmap.apply", params, timeout=300.0)
    elif isinstance(subject, WireguardGo):
        config = "".join(
            f"[Peer]\nPublicKey = {base64.b64encode(peer.public_key).decode()}\n"
            f"AllowedIPs = {', '.join(peer.addresses)}\nEndpoint = {peer.endpoint}\n"
            for peer in peers
        )
        (subject.near.directory / "peers.conf").write_text(config)
        subject.near.run("wg", "addconf", subject.interface, str(subject.near.directory / "peers.conf"))


def _node(number: int) -> Node:
    addresses = tuple(str(ipaddress.ip_address(pool + number)) for pool in _POOLS)
    key = hashlib.sha256(number.to_bytes(4, "big")).digest()
    return Node(f"peer{number}", KIND_NODE, key, addresses, endpoint=f"198.51.100.{number % 250}:51820")
