"""Every netmap that a node must not follow is refused, said to be, and the mesh goes on."""

from __future__ import annotations

import base64
import os

import pytest
from tests.interop.agents import Mesh, same_session, steady_ping

from sennit.api import ApiError
from sennit.netmap.model import Netmap, Network
from sennit.netmap.signing import generate_signing_key, sign


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """Two agents that follow version 5, and have a session."""
    with Mesh(tmp_path_factory.mktemp("mesh"), "alpha", "beta") as mesh:
        for host in mesh.hosts:
            host.start()
            host.apply(mesh.netmap(5, *(each.node() for each in mesh.hosts)))
        assert mesh.hosts[0].cli("ping", "beta", "-c", "1").returncode == 0
        yield mesh


def newer(mesh):
    return mesh.netmap(6, *(each.node() for each in mesh.hosts))


def of_another_network(mesh):
    network = Network("other", "other.internal", ("100.64.0.0/10", "fd5e::/48"))
    return sign(Netmap(network, 6, tuple(each.node() for each in mesh.hosts), {}).to_bytes(), mesh.signing_key)


def with_its_signature_changed(mesh):
    header, payload = newer(mesh).split(b"\n", 1)
    tag, signature = header.split(b" ")
    changed = bytearray(base64.b64decode(signature))
    changed[0] ^= 1
    return tag + b" " + base64.b64encode(changed) + b"\n" + payload


def of_the_same_version(mesh):
    return mesh.netmap(5, *(each.node(persistent_keepalive=9) for each in mesh.hosts))


BAD = {
    "tampered": ("bad-signature", lambda mesh: newer(mesh).replace(b'"version":6', b'"version":7')),
    "signature changed": ("bad-signature", with_its_signature_changed),
    "truncated": ("bad-signature", lambda mesh: newer(mesh)[:-10]),
    "truncated in its header": ("malformed", lambda mesh: newer(mesh)[:50]),
    "empty": ("malformed", lambda mesh: b""),
    "random": ("malformed", lambda mesh: os.urandom(1000)),
    "another key": ("bad-signature", lambda mesh: sign(newer(mesh).split(b"\n", 1)[1], generate_signing_key())),
    "signed, but not JSON": ("malformed", lambda mesh: sign(b"{", mesh.signing_key)),
    "older": ("older", lambda mesh: mesh.netmap(4, *(each.node() for each in mesh.hosts))),
    "the same version with other content": ("older", of_the_same_version),
    "another network": ("other-network", of_another_network),
    "without this node": ("no-such-node", lambda mesh: mesh.netmap(6, mesh.hosts[1].node())),
    "100 MB": ("too-large", lambda mesh: bytes(100_000_000)),
    "just above the limit": ("too-large", lambda mesh: bytes(17 * 1024 * 1024)),
}


@pytest.mark.parametrize("what", BAD)
def test_is_refused_and_the_mesh_goes_on(mesh, what):
    reason, make = BAD[what]
    alpha, beta = mesh.hosts
    before = alpha.peer("beta")["latest_handshake"]
    refusals = str(alpha.log).count(f"refused a netmap ({reason})")
    with steady_ping(alpha, beta.addresses[0]) as lost:
        with pytest.raises(ApiError) as caught:
            alpha.apply(make(mesh))
        assert caught.value.code == reason
    assert lost == []
    status = alpha.status()
    assert status["netmap"]["version"] == 5
    assert status["netmap"]["refused"]["reason"] == reason
    assert same_session(before, alpha.peer("beta")["latest_handshake"])
    alpha.log.wait_for(f"refused a netmap ({reason})", times=refusals + 1)
    assert f"({reason})" in alpha.cli("status").stdout
    assert "Traceback" not in str(alpha.log)


def test_a_good_map_clears_the_refusal(mesh):
    alpha = mesh.hosts[0]
    with pytest.raises(ApiError):
        alpha.apply(b"")
    assert alpha.apply(mesh.netmap(5, *(each.node() for each in mesh.hosts)))["changed"] is False
    assert alpha.status()["netmap"]["refused"] is None


@pytest.mark.parametrize(
    ("reason", "damage"),
    [
        ("bad-signature", lambda stored: stored[:-1]),
        ("malformed", lambda stored: b"\0" * len(stored)),
        ("too-large", lambda stored: bytes(100_000_000)),
    ],
)
def test_a_map_damaged_on_disk_is_refused_and_the_next_one_taken(tmp_path, reason, damage):
    with Mesh(tmp_path, "alpha") as mesh:
        alpha = mesh.hosts[0]
        (alpha.directory / "state/netmap").write_bytes(damage(mesh.netmap(5, alpha.node())))
        alpha.start()
        status = alpha.status()
        assert status["netmap"]["version"] is None
        assert status["netmap"]["refused"]["reason"] == reason
        assert alpha.apply(mesh.netmap(6, alpha.node())) == {"changed": True, "version": 6}
        assert alpha.status()["netmap"]["refused"] is None
