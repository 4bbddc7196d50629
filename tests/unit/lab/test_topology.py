"""What a topology file may say, and what is said about one that cannot be used."""

from __future__ import annotations

import copy
import ipaddress
from pathlib import Path

import pytest
import yaml
from sennit_lab import network
from sennit_lab.topology import Topology, TopologyError, load

TOPOLOGIES = Path(__file__).parents[2] / "lab" / "topologies"

GOOD = {
    "networks": {
        "internet": ["203.0.113.0/24", "2001:db8::/64"],
        "office": ["198.51.100.0/27", "2001:db8:1::/64"],
        "home": ["198.51.100.32/27", "2001:db8:2::/64"],
        "attic": ["198.51.100.64/27"],
    },
    "routers": {
        "office-router": {
            "wan0": {"network": "internet", "addresses": ["203.0.113.1", "2001:db8::1"]},
            "lan0": {"network": "office", "addresses": ["198.51.100.1", "2001:db8:1::1"]},
        },
        "home-router": {
            "wan0": {"network": "internet", "addresses": ["203.0.113.2", "2001:db8::2"]},
            "lan0": {"network": "home", "addresses": ["198.51.100.33", "2001:db8:2::1"]},
        },
        "attic-router": {
            "wan0": {"network": "home", "addresses": ["198.51.100.34"]},
            "lan0": {"network": "attic", "addresses": ["198.51.100.65"]},
        },
    },
    "hosts": {
        "alpha": {
            "interfaces": {"eth0": {"network": "office", "addresses": ["198.51.100.10", "2001:db8:1::10"]}},
            "gateway": "office-router",
        },
        "beta": {"interfaces": {"eth0": {"network": "home", "addresses": ["198.51.100.42"]}}},
    },
}


def written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "lab.yml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
    return path


def loaded(tmp_path: Path, document: object = GOOD) -> Topology:
    return load(written(tmp_path, document))


def changed(path: str, value: object) -> dict:
    """GOOD with the value at a dotted path replaced."""
    document = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    place = document
    for key in parents:
        place = place[key]
    place[last] = value
    return document


@pytest.mark.parametrize("path", sorted(TOPOLOGIES.glob("*.yml")), ids=lambda path: path.stem)
def test_the_topologies_at_hand_can_be_used(path: Path) -> None:
    topology = load(path)
    assert topology.hosts
    for plan in network.cables("molecule-" + path.stem.replace("_", "-"), topology).values():
        for cable in plan:
            assert len(cable.port) < 16
            assert len(cable.network) < 16


def test_an_address_takes_its_prefix_length_from_its_network(tmp_path: Path) -> None:
    interface = loaded(tmp_path).hosts["alpha"].interfaces[0]
    assert [str(address) for address in interface.addresses] == ["198.51.100.10/27", "2001:db8:1::10/64"]


def test_what_a_host_does_not_say(tmp_path: Path) -> None:
    topology = loaded(tmp_path)
    host = topology.hosts["beta"]
    assert topology.suite == "bookworm"
    assert (host.gateway, host.suite, host.firewalld, dict(host.files), host.services) == (None, None, True, {}, ())
    assert topology.gateways(host) == []
    assert (host.manager, host.resolver, host.nameservers) == ("systemd-networkd", "systemd-resolved", ())


def test_a_resolver_goes_with_some_managers(tmp_path: Path) -> None:
    document = changed("hosts.alpha.manager", "ifupdown")
    document["hosts"]["alpha"].update(resolver="openresolv", nameservers=["203.0.113.53", "2001:db8::53"])
    host = loaded(tmp_path, document).hosts["alpha"]
    assert (host.resolver, [str(server) for server in host.nameservers]) == (
        "openresolv",
        ["203.0.113.53", "2001:db8::53"],
    )


def test_a_gateway_gives_its_addresses_on_the_shared_network_only(tmp_path: Path) -> None:
    topology = loaded(tmp_path)
    assert [str(hop) for hop in topology.gateways(topology.hosts["alpha"])] == ["198.51.100.1", "2001:db8:1::1"]


def test_a_router_knows_the_way_to_every_network_of_the_routers(tmp_path: Path) -> None:
    topology = loaded(tmp_path)
    routes = {str(prefix): str(hop) for prefix, hop in topology.routes(topology.routers["office-router"])}
    assert routes == {
        "198.51.100.32/27": "203.0.113.2",
        "2001:db8:2::/64": "2001:db8::2",
        "198.51.100.64/27": "203.0.113.2",  # behind home-router: the next hop is still home-router
    }


def test_nobody_has_a_route_to_addresses_behind_a_nat(tmp_path: Path) -> None:
    document = changed("routers.home-router.nat", {"outside": "wan0", "kind": "symmetric"})
    document["routers"]["home-router"]["nftables"] = "table ip more {}"
    topology = loaded(tmp_path, document)
    assert [str(prefix) for prefix, _ in topology.routes(topology.routers["office-router"])] == ["2001:db8:2::/64"]
    # From inside, the way out is as before.
    outwards = {str(prefix) for prefix, _ in topology.routes(topology.routers["attic-router"])}
    assert {"203.0.113.0/24", "198.51.100.0/27"} <= outwards
    assert topology.routers["home-router"].nftables.endswith("table ip more {}")


def test_a_lan_behind_a_host_is_in_no_routers_table() -> None:
    topology = load(TOPOLOGIES / "demo.yml")
    lan = ipaddress.ip_network("192.168.50.0/24")
    for router in topology.routers.values():
        assert lan not in [prefix for prefix, _ in topology.routes(router)]


def test_two_labs_share_no_mac_address(tmp_path: Path) -> None:
    topology = loaded(tmp_path)
    macs = [c.mac for lab in ("one", "two") for plan in network.cables(lab, topology).values() for c in plan]
    assert len(set(macs)) == len(macs)
    assert network.cables("one", topology) == network.cables("one", topology)


# (where in GOOD, what is put there, the key that the error names)
BAD = [
    ("networks.office", ["198.51.100.1/27"], "networks.office"),
    ("networks.office", "198.51.100.0/27", "networks.office"),
    ("networks.office", ["198.51.100.0/33"], "networks.office"),
    ("networks", {"a-name-of-sixteen": []}, "networks.a-name-of-sixteen"),
    ("networks", {"Office": []}, "networks.Office"),
    ("networks", None, "networks"),
    ("routers.home-router.nat", "symmetric", "routers.home-router.nat"),
    ("routers.home-router.nat", {"outside": "eth0", "kind": "symmetric"}, "routers.home-router.nat.outside"),
    ("routers.home-router.nat", {"outside": ["wan0"], "kind": "symmetric"}, "routers.home-router.nat.outside"),
    ("routers.home-router.nat", {"outside": "wan0", "kind": "conical"}, "routers.home-router.nat.kind"),
    ("routers.home-router.nftables", ["table ip more {}"], "routers.home-router.nftables"),
    ("hosts", {}, "hosts"),
    ("hosts", [], "hosts"),
    ("hosts", {1: {}}, "hosts"),
    ("hosts.office-router", GOOD["hosts"]["beta"] | {"interfaces": {"eth0": {"network": "home", "addresses": []}}},
     "hosts.office-router"),
    ("hosts._switch", {}, "hosts._switch"),
    ("hosts.alpha", None, "hosts.alpha"),
    ("hosts.alpha.colour", "red", "hosts.alpha.colour"),
    ("hosts.alpha.interfaces", {}, "hosts.alpha.interfaces"),
    ("hosts.alpha.interfaces.eth0.network", "moon", "hosts.alpha.interfaces.eth0.network"),
    ("hosts.alpha.interfaces.eth0.network", ["office"], "hosts.alpha.interfaces.eth0.network"),
    ("hosts.alpha.interfaces.eth0.addresses", "198.51.100.10", "hosts.alpha.interfaces.eth0.addresses"),
    ("hosts.alpha.interfaces.eth0.addresses", ["198.51.100.40"], "hosts.alpha.interfaces.eth0.addresses"),
    ("hosts.alpha.interfaces.eth0.addresses", ["198.51.100.1"], "hosts.alpha.interfaces.eth0.addresses"),
    ("hosts.alpha.interfaces.eth0.addresses", ["198.51.100"], "hosts.alpha.interfaces.eth0.addresses"),
    ("hosts.alpha.interfaces.eth0.addresses", [None], "hosts.alpha.interfaces.eth0.addresses"),
    ("hosts.alpha.gateway", "home-router", "hosts.alpha.gateway"),
    ("hosts.alpha.gateway", "alpha", "hosts.alpha.gateway"),
    ("hosts.alpha.gateway", "nobody", "hosts.alpha.gateway"),
    ("hosts.alpha.gateway", ["office-router"], "hosts.alpha.gateway"),
    ("hosts.alpha.suite", "sid", "hosts.alpha.suite"),
    ("hosts.alpha.suite", ["trixie"], "hosts.alpha.suite"),
    ("hosts.alpha.firewalld", "yes please", "hosts.alpha.firewalld"),
    ("hosts.alpha.manager", "netplan", "hosts.alpha.manager"),
    ("hosts.alpha.resolver", "bind", "hosts.alpha.resolver"),
    ("hosts.alpha.resolver", "resolvconf", "hosts.alpha.resolver"),
    ("hosts.alpha.resolver", ["file"], "hosts.alpha.resolver"),
    ("hosts.alpha.nameservers", ["ns.example.org"], "hosts.alpha.nameservers"),
    ("hosts.alpha.nameservers", "203.0.113.53", "hosts.alpha.nameservers"),
    ("hosts.alpha.files", {"etc/motd": "hello"}, "hosts.alpha.files"),
    ("hosts.alpha.files", {"/srv/../../etc/passwd": "hello"}, "hosts.alpha.files"),
    ("hosts.alpha.files", {"/etc/motd": 5}, "hosts.alpha.files"),
    ("hosts.alpha.services", ["--root=/"], "hosts.alpha.services"),
    ("suite", "potato", "suite"),
    ("planets", {}, "topology.planets"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "value", "key"), BAD, ids=[f"{where}={value!r:.40}" for where, value, _ in BAD])
def test_a_bad_value_is_named_with_its_file_and_key(tmp_path: Path, where: str, value: object, key: str) -> None:
    with pytest.raises(TopologyError) as caught:
        loaded(tmp_path, changed(where, value))
    assert caught.value.key == key
    assert str(caught.value).startswith(f"{tmp_path / 'lab.yml'}: {key}: ")
    assert repr(caught.value.value) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "just text", "a: [", "\x00", "hosts: !!python/object:os.system {}"])
def test_a_file_that_is_no_topology(tmp_path: Path, text: str) -> None:
    with pytest.raises(TopologyError, match=r"lab\.yml"):
        loaded(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"nowhere\.yml"):
        load(tmp_path / "nowhere.yml")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "lab.yml"
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(TopologyError, match=r"lab\.yml"):
        load(path)
