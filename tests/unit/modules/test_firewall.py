# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sennit.mesh.firewall and sennit.mesh.gateway with firewalld, on a double of it."""

from __future__ import annotations

import importlib
import ipaddress
from typing import Any

import pytest
from tests.unit.modules.firewalld_double import FirewalldDouble

PLUGINS = "ansible_collections.sennit.mesh.plugins."
DESTINATIONS = ["192.168.50.0/24", "fd50:5e9:1::/64"]
SOURCES = ["100.64.0.0/10", "fd4e:9b1c:22d0::/48"]
ROUTES = [
    (None, {"dst": "default", "gateway": "198.51.100.1", "dev": "eth0"}),
    (ipaddress.ip_network("198.51.100.0/27"), {"dev": "eth0"}),
    (ipaddress.ip_network("192.168.0.0/16"), {"dev": "wide0"}),
    (ipaddress.ip_network("192.168.50.0/24"), {"dev": "lan0"}),
    (ipaddress.ip_network("fd50:5e9:1::/64"), {"dev": "lan0"}),
    (ipaddress.ip_network("fd50:5e9:1::/64"), {"dev": "sennit0"}),
]


def module(name: str) -> Any:
    return importlib.import_module(PLUGINS + "modules." + name)


@pytest.fixture
def firewalld(monkeypatch: pytest.MonkeyPatch) -> FirewalldDouble:
    double = FirewalldDouble()
    helper = importlib.import_module(PLUGINS + "module_utils._firewalld")
    monkeypatch.setattr(helper, "dbus", double, raising=False)
    monkeypatch.setattr(helper, "DBUS_ERROR", None)
    for name in ("firewall", "gateway"):
        monkeypatch.setattr(module(name), "firewalld_state", lambda module: "running")
    monkeypatch.setattr(module("firewall"), "gateway_interfaces", lambda module: {"eth0", "eth1", "sennit0"})
    monkeypatch.setattr(module("gateway"), "routes", lambda module: ROUTES)
    monkeypatch.setattr(module("gateway"), "on_link_interfaces", lambda module, exclude: [])
    # The table of nftables is another matter.
    monkeypatch.setattr(module("gateway").Nftables, "present", lambda self, script: None)
    monkeypatch.setattr(module("gateway").Nftables, "absent", lambda self: None)
    return double


def test_the_mesh_has_a_zone_of_its_own_and_the_port_is_open_to_the_underlay(
    firewalld: FirewalldDouble, twice: Any
) -> None:
    done = twice(module("firewall"), services=["ssh"])
    assert done["underlay_zones"] == ["dmz", "public"]
    for side in (firewalld.permanent, firewalld.running):
        assert side["service"]["sennit"]["ports"] == [("51820", "udp")]
        assert side["zone"]["sennit"]["interfaces"] == ["sennit0"]
        assert side["zone"]["sennit"]["services"] == ["ssh"]
        assert side["zone"]["public"] == {"services": ["dhcpv6-client", "sennit"], "target": "default"}
        assert "sennit" in side["zone"]["dmz"]["services"]
    assert firewalld.reloads == 1


def test_check_mode_changes_nothing(firewalld: FirewalldDouble, run: Any) -> None:
    before = (str(firewalld.permanent), str(firewalld.running))
    assert run(module("firewall"), check=True)["changed"]
    assert run(module("gateway"), check=True, destinations=DESTINATIONS, sources=SOURCES)["changed"]
    assert (str(firewalld.permanent), str(firewalld.running)) == before


def test_services_change_without_a_reload(firewalld: FirewalldDouble, run: Any, twice: Any) -> None:
    run(module("firewall"))
    firewalld.permanent["service"]["https"] = firewalld.running["service"]["https"] = {"ports": [("443", "tcp")]}
    twice(module("firewall"), services=["ssh", "https"])
    assert sorted(firewalld.running["zone"]["sennit"]["services"]) == ["https", "ssh"]
    assert firewalld.reloads == 1


def test_what_was_lost_at_runtime_comes_back(firewalld: FirewalldDouble, run: Any, twice: Any) -> None:
    run(module("firewall"))
    firewalld.running["zone"]["public"]["services"].remove("sennit")
    firewalld.running["zone"]["sennit"]["services"] = []
    assert "services: ssh" in twice(module("firewall")).shown
    assert "sennit" in firewalld.running["zone"]["public"]["services"]


def test_the_port_closes_where_the_underlay_no_longer_is(firewalld: FirewalldDouble, run: Any, twice: Any) -> None:
    run(module("firewall"))
    twice(module("firewall"), underlay_zones=["public"])
    assert "sennit" not in firewalld.permanent["zone"]["dmz"]["services"]
    assert "sennit" not in firewalld.running["zone"]["dmz"]["services"]


def test_a_reload_that_loses_what_others_set_at_runtime_is_announced(firewalld: FirewalldDouble, run: Any) -> None:
    firewalld.running["zone"]["dmz"]["services"].append("http")
    (warning,) = run(module("firewall")).warned
    assert warning.endswith("dmz")


@pytest.mark.parametrize(("option", "value"), [("services", "gopher"), ("underlay_zones", "moon")])
def test_unknown_names_are_refused(firewalld: FirewalldDouble, run: Any, option: str, value: str) -> None:
    failed = run(module("firewall"), **{option: [value]})
    assert option in failed["msg"]
    assert value in failed["msg"]
    assert "sennit" not in firewalld.permanent["zone"]


def test_absent_leaves_firewalld_as_it_was(firewalld: FirewalldDouble, run: Any, twice: Any) -> None:
    before = str(firewalld.permanent)
    run(module("firewall"))
    run(module("gateway"), destinations=DESTINATIONS, sources=SOURCES)
    twice(module("gateway"), state="absent")
    twice(module("firewall"), state="absent")
    assert str(firewalld.permanent) == str(firewalld.running) == before


def test_the_mesh_may_go_to_the_destinations_and_leaves_masqueraded(
    firewalld: FirewalldDouble, run: Any, twice: Any
) -> None:
    run(module("firewall"))
    done = twice(module("gateway"), destinations=DESTINATIONS, sources=SOURCES)
    assert [place["interface"] for place in done["destinations"]] == ["lan0", "lan0"]
    for side in (firewalld.permanent, firewalld.running):
        accept, nat = side["policy"]["sennit-to-lan"], side["policy"]["sennit-nat"]
        assert (accept["ingress_zones"], nat["ingress_zones"]) == (["sennit"], ["ANY"])
        # What comes out of the mesh is accepted before the other policy drops who only pretends to.
        assert accept["priority"] < nat["priority"] < 0
        assert len(accept["rich_rules"]) == 2
        assert sum("masquerade" in rule for rule in nat["rich_rules"]) == 2


def test_a_port_is_opened_to_the_mesh_and_closed_again_without_a_reload(
    firewalld: FirewalldDouble, run: Any, twice: Any
) -> None:
    run(module("firewall"))
    reloads = firewalld.reloads
    twice(module("firewall"), ports=["21472/tcp"])
    for side in (firewalld.permanent, firewalld.running):
        assert side["zone"]["sennit"]["ports"] == [("21472", "tcp")]
    twice(module("firewall"))
    for side in (firewalld.permanent, firewalld.running):
        assert side["zone"]["sennit"]["ports"] == []
    assert firewalld.reloads == reloads


def test_the_relay_of_a_beacon_is_open_to_the_underlay_and_goes(firewalld: FirewalldDouble, twice: Any) -> None:
    twice(module("firewall"), relay_port=21473)
    for side in (firewalld.permanent, firewalld.running):
        assert side["service"]["sennit"]["ports"] == [("51820", "udp"), ("21473", "udp")]
        assert side["zone"]["sennit"]["ports"] == []
    twice(module("firewall"))
    for side in (firewalld.permanent, firewalld.running):
        assert side["service"]["sennit"]["ports"] == [("51820", "udp")]
    twice(module("firewall"), state="absent")
    assert "sennit" not in firewalld.running["service"]


@pytest.mark.parametrize("port", ["21472", "tcp", "0/tcp", "65536/tcp", "1/icmp", "-1/udp", ""])
def test_what_is_no_port_is_refused(firewalld: FirewalldDouble, run: Any, port: str) -> None:
    assert f"ports: '{port}'" in run(module("firewall"), ports=[port])["msg"]
    assert "sennit" not in firewalld.permanent["zone"]


def test_new_destinations_need_no_reload(firewalld: FirewalldDouble, run: Any, twice: Any) -> None:
    run(module("firewall"))
    run(module("gateway"), destinations=DESTINATIONS, sources=SOURCES)
    reloads = firewalld.reloads
    twice(module("gateway"), destinations=DESTINATIONS[:1], sources=SOURCES)
    assert len(firewalld.running["policy"]["sennit-to-lan"]["rich_rules"]) == 1
    assert firewalld.reloads == reloads


@pytest.mark.parametrize(
    ("destination", "problem"),
    [
        ("10.9.0.0/16", "no route to it but its default route"),
        ("192.168.50.1/24", "has host bits set"),
        ("fd50::/16", "no route"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_destination_that_is_not_behind_the_host(
    firewalld: FirewalldDouble, run: Any, destination: str, problem: str
) -> None:
    failed = run(module("gateway"), destinations=[destination], sources=SOURCES)
    assert problem in failed["msg"]
    assert destination in failed["msg"]
    assert firewalld.permanent["policy"] == {}


def test_a_firewalld_without_policies(firewalld: FirewalldDouble, run: Any) -> None:
    firewalld.version = "0.8.2"
    assert "0.8.2" in run(module("gateway"), destinations=DESTINATIONS, sources=SOURCES)["msg"]


def test_a_zone_that_is_not_there(firewalld: FirewalldDouble, run: Any) -> None:
    assert "'sennit'" in run(module("gateway"), destinations=DESTINATIONS, sources=SOURCES)["msg"]


def test_a_firewalld_that_comes_with_the_next_boot(
    firewalld: FirewalldDouble, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("firewall", "gateway"):
        monkeypatch.setattr(module(name), "firewalld_state", lambda module: "starting")
    assert "enabled but does not run" in run(module("gateway"), destinations=DESTINATIONS, sources=SOURCES)["msg"]
    done = run(module("firewall"))
    assert (done["changed"], done["backend"], len(done.warned)) == (False, "none", 1)
