# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sennit.mesh.gateway: what it makes of its options, for firewalld and for nft."""

from __future__ import annotations

import importlib
import ipaddress
import os
import re
import subprocess
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from tests.unit.modules.firewalld_double import FirewalldDouble

MODULE_UTILS = "ansible_collections.sennit.mesh.plugins.module_utils."
carried = importlib.import_module(MODULE_UTILS + "_carried")
policies = importlib.import_module(MODULE_UTILS + "_policies")
nftables = importlib.import_module(MODULE_UTILS + "_nftables")
firewalld = importlib.import_module(MODULE_UTILS + "_firewalld")
gateway = importlib.import_module("ansible_collections.sennit.mesh.plugins.modules.gateway")

network = ipaddress.ip_network
POOLS = [network("100.64.0.0/10"), network("fd00:1::/48")]
LAN = [(network("192.168.50.0/24"), "lan0"), (network("fd50::/64"), "lan0")]


def carries(**what: Any) -> Any:
    return carried.Carried(interface="sennit0", sources=POOLS, destinations=what.pop("destinations", LAN), **what)


# --- what is carried


def test_what_is_not_the_internet_is_the_private_and_the_on_link() -> None:
    refused = carried.not_the_internet([network("10.1.0.0/16"), network("198.51.100.0/27"), network("2001:db8::/64")])
    assert [str(prefix) for prefix in refused] == [
        "10.0.0.0/8",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "198.51.100.0/27",
        "2001:db8::/64",
        "fc00::/7",
        "fe80::/10",
    ]


@pytest.mark.parametrize(
    ("prefixes", "left_out", "expected"),
    [
        (["10.0.0.0/8"], [], ["10.0.0.0/8"]),
        (["10.0.0.0/30"], ["10.0.0.1/32"], ["10.0.0.0/32", "10.0.0.2/31"]),
        (["10.0.0.0/30"], ["10.0.0.0/8"], []),
        (["10.0.0.0/30", "fd00::/16"], ["fd00::/16"], ["10.0.0.0/30"]),
        (["10.0.0.0/31", "10.0.0.2/31"], ["10.0.0.0/32", "10.0.0.3/32"], ["10.0.0.1/32", "10.0.0.2/32"]),
    ],
)
def test_prefixes_without_others(prefixes: list[str], left_out: list[str], expected: list[str]) -> None:
    found = carried.without(map(network, prefixes), map(network, left_out))
    assert [str(prefix) for prefix in found] == expected


# --- with firewalld


def test_a_subnet_router_lets_the_mesh_into_its_prefixes_and_nothing_else() -> None:
    found = policies.policies(carries(), "mesh")
    assert set(found) == {policies.WITHIN, policies.TO_LAN, policies.MASQUERADE}
    assert found[policies.TO_LAN]["rich_rules"] == [
        'rule priority="-2" family="ipv4" destination address="192.168.50.0/24" accept',
        'rule priority="-2" family="ipv6" destination address="fd50::/64" accept',
    ]
    assert found[policies.MASQUERADE]["rich_rules"] == [
        'rule priority="-1" family="ipv4" source address="100.64.0.0/10" destination address="192.168.50.0/24" drop',
        'rule priority="-1" family="ipv6" source address="fd00:1::/48" destination address="fd50::/64" drop',
        'rule family="ipv4" source address="100.64.0.0/10" destination address="192.168.50.0/24" masquerade',
        'rule family="ipv6" source address="fd00:1::/48" destination address="fd50::/64" masquerade',
    ]


def test_what_comes_out_of_the_mesh_does_not_go_back_into_it() -> None:
    within = policies.policies(carries(exit_node=True), "mesh")[policies.WITHIN]
    assert (within["ingress_zones"], within["egress_zones"], within["target"]) == (["mesh"], ["mesh"], "REJECT")


def test_without_masquerade_the_devices_may_begin() -> None:
    found = policies.policies(carries(masquerade=False, from_lan=True), "mesh")
    assert set(found) == {policies.WITHIN, policies.TO_LAN, policies.FROM_LAN}
    assert found[policies.FROM_LAN]["egress_zones"] == ["mesh"]
    assert found[policies.FROM_LAN]["rich_rules"] == [
        'rule family="ipv4" source address="192.168.50.0/24" accept',
        'rule family="ipv6" source address="fd50::/64" accept',
    ]


def test_an_exit_node_allows_refuses_and_allows_in_this_order() -> None:
    refused = [network("192.168.0.0/16"), network("fc00::/7")]
    rules = policies.to_lan_rules(carries(exit_node=True, not_the_internet=refused))
    verdicts = [(re.findall(r'priority="(.+?)"', rule)[0], rule.split()[-1]) for rule in rules]
    assert verdicts == [("-2", "accept")] * 2 + [("-1", "reject")] * 2 + [("1", "accept")] * 2


@pytest.mark.parametrize("masquerade", [True, False])
def test_an_exit_node_masquerades_everything_but_what_it_shall_not(masquerade: bool) -> None:
    rules = policies.masquerade_rules(carries(exit_node=True, masquerade=masquerade))
    to = [re.findall(r'destination address="(.+?)"', rule) for rule in rules if rule.endswith("masquerade")]
    covered = [network(text) for found in to for text in found or ["0.0.0.0/0", "::/0"]]

    def is_masqueraded(address: str) -> bool:
        return any(ipaddress.ip_address(address) in prefix for prefix in covered)

    assert is_masqueraded("203.0.113.1")
    assert is_masqueraded("192.168.51.0")
    assert is_masqueraded("2001:db8::1")
    assert is_masqueraded("192.168.50.7") == is_masqueraded("fd50::7") == masquerade


def test_the_policies_that_are_no_longer_wanted_go(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    double = FirewalldDouble()
    double.permanent["zone"]["sennit"] = {"interfaces": ["sennit0"]}
    double.do_reload("")
    monkeypatch.setattr(firewalld, "dbus", double, raising=False)
    monkeypatch.setattr(firewalld, "DBUS_ERROR", None)
    monkeypatch.setattr(gateway, "firewalld_state", lambda module: "running")
    monkeypatch.setattr(gateway, "routes", lambda module: [(network("192.168.50.0/24"), {"dev": "lan0"})])
    monkeypatch.setattr(gateway, "on_link_interfaces", lambda module, exclude: [])
    scripts: list[str] = []
    monkeypatch.setattr(gateway.Nftables, "present", lambda self, script: scripts.append(script))
    monkeypatch.setattr(gateway.Nftables, "absent", lambda self: None)
    options = {"sources": ["100.64.0.0/10"], "destinations": ["192.168.50.0/24"]}

    done = run(gateway, **options, masquerade=False, from_lan=True, exit_node=True)
    assert set(double.running["policy"]) == set(policies.NAMES)
    assert done["destinations"] == [{"prefix": "192.168.50.0/24", "interface": "lan0"}]
    assert not run(gateway, **options, masquerade=False, from_lan=True, exit_node=True)["changed"]
    assert set(scripts) == {nftables.clamp_rules("sennit0")}

    run(gateway, **options, masquerade=False)
    assert set(double.running["policy"]) == {policies.WITHIN, policies.TO_LAN}
    run(gateway, state="absent")
    assert double.running["policy"] == double.permanent["policy"] == {}


@pytest.mark.parametrize(
    ("state", "backend", "message"),
    [
        ("starting", "auto", "enabled but does not run"),
        ("starting", "firewalld", "enabled, but stopped"),
        ("off", "firewalld", "disabled or masked"),
        ("absent", "firewalld", "not installed"),
    ],
)
def test_a_firewalld_that_does_not_run_is_told(
    monkeypatch: pytest.MonkeyPatch, run: Any, state: str, backend: str, message: str
) -> None:
    monkeypatch.setattr(gateway, "firewalld_state", lambda module: state)
    failed = run(gateway, sources=["100.64.0.0/10"], backend=backend)
    assert failed["failed"]
    assert message in failed["msg"]


def test_a_firewalld_without_policies_is_told_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    monkeypatch.setattr(firewalld, "dbus", FirewalldDouble("0.8.2"), raising=False)
    monkeypatch.setattr(firewalld, "DBUS_ERROR", None)
    monkeypatch.setattr(gateway, "firewalld_state", lambda module: "running")
    monkeypatch.setattr(nftables.ManagedFile, "present", lambda *arguments: pytest.fail("it was written"))
    failed = run(gateway, sources=["100.64.0.0/10"])
    assert "firewalld 0.8.2" in failed["msg"]


# --- with nft


def test_check_mode_does_not_need_what_another_task_would_have_installed(
    monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    monkeypatch.setattr(gateway, "firewalld_state", lambda module: "absent")
    monkeypatch.setattr(gateway, "routes", lambda module: [(network("192.168.50.0/24"), {"dev": "lan0"})])
    monkeypatch.setattr(nftables, "unit_properties", lambda module, unit, names: {})
    found = AnsibleModule.get_bin_path
    monkeypatch.setattr(
        AnsibleModule,
        "get_bin_path",
        lambda module, name, *rest, **more: None if name == "nft" else found(module, name, *rest, **more),
    )
    monkeypatch.setattr(nftables.ManagedFile, "_write", lambda *arguments: pytest.fail("it was written"))
    options = {"sources": ["100.64.0.0/10"], "destinations": ["192.168.50.0/24"]}
    checked = run(gateway, check=True, **options)
    assert (checked["changed"], checked["backend"]) == (True, "nftables")
    assert "ip daddr 192.168.50.0/24 masquerade" in checked.shown
    assert "install the package nftables" in run(gateway, **options)["msg"]
    assert run(gateway, check=True, state="absent")["changed"] is False


def chain(script: str, name: str) -> list[str]:
    lines = [line.strip() for line in script.splitlines()]
    begin = lines.index(f"chain {name} {{") + 2
    return lines[begin : lines.index("}", begin)]


def test_only_traffic_of_the_mesh_is_judged() -> None:
    script = nftables.gateway_rules(carries(destinations=[(network("10.0.0.0/8"), "eth1")]))
    assert chain(script, "forward") == [
        'iifname != "sennit0" oifname != "sennit0" accept',
        "ct state established,related accept",
        'iifname "sennit0" oifname "eth1" ip daddr 10.0.0.0/8 accept',
        "reject with icmpx type admin-prohibited",
    ]
    assert chain(script, "postrouting") == ['iifname "sennit0" oifname "eth1" ip daddr 10.0.0.0/8 masquerade']


def test_with_firewalld_the_table_only_clamps() -> None:
    script = nftables.clamp_rules("sennit0")
    assert re.findall(r"chain (\w+)", script) == ["clamp"]
    assert len(chain(script, "clamp")) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
@pytest.mark.parametrize("times", [1, 2], ids=["first", "again"])
def test_nft_takes_the_table_also_over_an_older_one(times: int) -> None:
    script = nftables.gateway_rules(carries(from_lan=True, exit_node=True, not_the_internet=carried.PRIVATE))
    command = " && ".join(["nft -f - <<'RULES'\n" + script + "RULES\ntrue"] * times) + " && nft -s list ruleset"
    done = subprocess.run(["unshare", "--net", "sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.count("masquerade") == 3
    assert len(re.findall(r"^table", done.stdout, re.MULTILINE)) == 1
