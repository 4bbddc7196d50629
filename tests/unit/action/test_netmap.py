# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sennit.mesh.netmap on the control node, in real plays: what hosts reported stands in the inventory here."""

from __future__ import annotations

import base64
import dataclasses
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.action.playing import Control
from tests.unit.netmap.inventories import SEED, VERIFY_KEY, key

from sennit.netmap.model import Netmap
from sennit.netmap.signing import generate_signing_key, sign, verify, verify_key_of

VALIDATE = {"sennit.mesh.netmap": {"state": "validated"}, "run_once": True, "register": "plan"}
COMPILE = {"sennit.mesh.netmap": {"state": "compiled"}, "run_once": True, "register": "netmap"}


@pytest.fixture
def control(tmp_path):
    return Control(tmp_path)


def status(public_key=None, signed=None, signing_key=None, underlay=(), **more):
    """What sennit.mesh.status_info would have told of a host."""
    return {
        "sennit_status": {
            "changed": False,
            "public_key": public_key,
            "network": "demo" if signing_key else None,
            "signing_key": signing_key,
            "netmap": base64.b64encode(signed).decode() if signed else None,
            "underlay": [{"interface": "eth0", "address": each.split("/")[0], "prefix": each} for each in underlay],
            "agent": None,
        },
        **more,
    }


def inventory(nodes, routers=None, static=None, **variables):
    children = {"sennit_nodes": nodes, "sennit_subnet_routers": routers or {}, "sennit_static_peers": static or {}}
    return {
        "sennit": {
            "vars": {"sennit_network": "demo", **variables},
            "children": {group: {"hosts": hosts} for group, hosts in children.items()},
        }
    }


def opened(result, verify_key=None) -> Netmap:
    return Netmap.parse(verify(base64.b64decode(result["netmap"]), verify_key or result["verify_key"]))


NODES = {
    "alpha": status(key("alpha"), ansible_host="192.0.2.1"),
    "beta": status(key("beta")),
}
ROUTERS = {"gw": status(key("gw"), underlay=["192.168.10.0/24"], sennit_advertise_routes=["192.168.10.0/24"])}
STATIC = {"phone": {"sennit_public_key": key("phone"), "sennit_persistent_keepalive": 25}}
BARE = {name: status() for name in ("alpha", "beta")}


def test_from_nothing_to_a_signed_map(control):
    keys = {"alpha": key("alpha"), "beta": key("beta")}
    installed = {"ansible.builtin.set_fact": {"sennit_agent": {"public_key": "{{ keys[inventory_hostname] }}"}}}
    tasks = [VALIDATE, {**installed, "vars": {"keys": keys}}, COMPILE]
    played = control.play(inventory(BARE, static=STATIC), tasks, "--diff", "-vvv")
    assert played.code == 0, played.output

    plan, result = played.result("plan"), played.result("netmap")
    file = control.directory / ".config/sennit/demo.signing-key"
    seed = file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert plan["changed"] and plan["pending"] == ["alpha", "beta"]
    assert plan["verify_key"] == result["verify_key"] == verify_key_of(seed)
    assert seed not in played.output and seed not in str(played.registered)

    netmap = opened(result)
    assert result["changed"] and result["version"] == netmap.version == 1
    assert [node.name for node in netmap.nodes] == ["alpha", "beta", "phone"]
    assert result["addresses"] == plan["addresses"]
    assert result["addresses"] == {node.name: list(node.addresses) for node in netmap.nodes}
    assert "PersistentKeepalive" not in result["static_peer_configs"]["phone"]
    assert f"PublicKey = {key('alpha')}\n" in result["static_peer_configs"]["phone"]
    assert "+  alpha:\n+    kind: node\n" in played.output
    assert list(file.parent.iterdir()) == [file]


def test_a_second_time_nothing_changes(control):
    first = control.play(inventory(NODES, ROUTERS, STATIC), [COMPILE]).result("netmap")
    signed = base64.b64decode(first["netmap"])
    pins = {"signed": signed, "signing_key": first["verify_key"]}
    nodes = {name: status(key(name), **pins) for name in NODES}
    nodes["alpha"]["ansible_host"] = "192.0.2.1"
    routers = {
        "gw": status(key("gw"), underlay=["192.168.10.0/24"], **pins, sennit_advertise_routes=["192.168.10.0/24"])
    }
    played = control.play(inventory(nodes, routers, STATIC), [VALIDATE, COMPILE], "--diff")
    assert played.code == 0, played.output
    assert played.result("plan")["changed"] is False
    assert played.result("netmap")["changed"] is False
    assert played.result("netmap")["netmap"] == first["netmap"]
    assert "warnings" not in played.result("netmap") or played.result("netmap")["warnings"] == []
    assert "+++" not in played.output


def test_check_mode_makes_no_key_and_shows_who_waits(control):
    played = control.play(inventory(BARE), [VALIDATE, COMPILE], "--check", "--diff")
    assert played.code == 0, played.output
    assert not (control.directory / ".config").exists()
    assert played.result("netmap")["changed"] is True
    assert played.result("netmap")["pending"] == ["alpha", "beta"]
    assert "+    public_key: not made yet" in played.output


def test_every_refusal_is_shown_and_nothing_is_made(control):
    nodes = {
        "alpha": status(key("alpha"), sennit_endpoint="gate:99999"),
        "beta": status(key("alpha"), sennit_endpoint="{{ nowhere.at_all }}"),
    }
    routers = {"gw": status(key("gw"), sennit_advertise_routes=["10.0.0.1/8"])}
    played = control.play(inventory(nodes, routers), [VALIDATE])
    assert played.code != 0
    for words in (
        "alpha: sennit_endpoint = gate:99999 has a port",
        "beta: sennit_endpoint cannot be templated",
        "gw: sennit_advertise_routes = 10.0.0.1/8 has host bits set",
        f"beta: public key (the agent's own) = {key('alpha')} is also the key of alpha",
    ):
        assert words in played.output.replace("\n", " ").replace("  ", " "), played.output
    assert not (control.directory / ".config").exists()


def test_a_signing_key_that_hosts_do_not_know_is_refused(control):
    theirs = verify_key_of(generate_signing_key())
    nodes = {"alpha": status(key("alpha"), signing_key=theirs), "beta": status(key("beta"))}
    # The file is missing, as in a new container: it must not be made now.
    played = control.play(inventory(nodes), [VALIDATE])
    assert played.code != 0
    assert "alpha: sennit_signing_key_file" in played.output and theirs in played.output
    assert "does not exist" in played.output and not (control.directory / ".config").exists()
    # The file, and the variable, hold another key.
    file = control.directory / "other"
    file.write_text(SEED + "\n")
    file.chmod(0o600)
    for variables in ({"sennit_signing_key_file": "other"}, {"sennit_signing_key": SEED}):
        played = control.play(inventory(nodes, **variables), [VALIDATE], "-vvv")
        assert played.code != 0
        assert f"alpha: {next(iter(variables))}" in played.output and VERIFY_KEY in played.output
        assert SEED not in played.output


def test_a_bad_signing_key_is_refused_without_showing_it(control):
    played = control.play(inventory(NODES, sennit_signing_key="hunter2"), [VALIDATE], "-vvv")
    assert played.code != 0
    assert "alpha: sennit_signing_key is no signing key" in played.output
    assert "hunter2" not in played.output
    (control.directory / "file").write_text("hunter3\n")
    played = control.play(inventory(NODES, sennit_signing_key_file="file"), [VALIDATE])
    assert played.code != 0
    assert f"sennit_signing_key_file = {control.directory}/file holds no signing key" in played.output
    assert "hunter3" not in played.output


def test_the_signing_key_may_come_from_vault_and_is_in_no_file_then(control):
    (control.directory / "password").write_text("open sesame\n")
    encrypted = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-vault"),
            "encrypt_string",
            "--vault-password-file",
            str(control.directory / "password"),
            "--name",
            "sennit_signing_key",
            SEED,
        ],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(control.directory)},
    ).stdout
    text = "\n".join(
        [
            "sennit:",
            '  children: {sennit_nodes: {hosts: {alpha: {sennit_status: {public_key: "' + key("alpha") + '"}}}}}',
            "  vars:",
            *("    " + line for line in encrypted.splitlines()),
        ]
    )
    arguments = ["--vault-password-file", str(control.directory / "password"), "-vvv"]
    played = control.play(text, [COMPILE], *arguments)
    assert played.code == 0, played.output
    assert played.result("netmap")["verify_key"] == VERIFY_KEY
    assert SEED not in played.output
    assert not (control.directory / ".config").exists()


def test_limit_loses_nobody_and_warns_of_those_who_wait(control):
    everyone = control.play(inventory(NODES, ROUTERS, STATIC, sennit_signing_key=SEED), [COMPILE]).result("netmap")
    signed = base64.b64decode(everyone["netmap"])
    nodes = {
        "alpha": status(key("alpha"), signed=signed, signing_key=VERIFY_KEY, ansible_host="192.0.2.1"),
        "beta": {},
        "new": {},
    }
    routers = {"gw": {"sennit_advertise_routes": ["192.168.10.0/24"]}}
    hosts = inventory(nodes, routers, STATIC, sennit_signing_key=SEED)
    played = control.play(hosts, [VALIDATE, COMPILE], "--limit", "alpha")
    assert played.code == 0, played.output
    assert played.result("netmap")["netmap"] == everyone["netmap"]
    assert played.result("netmap")["pending"] == ["new"]
    assert "new is not in the map yet" in played.output


def test_an_unreachable_host_stays_if_known_and_is_refused_if_not(control):
    first = control.play(inventory(NODES, sennit_signing_key=SEED), [COMPILE]).result("netmap")
    known = status(key("alpha"), signed=base64.b64decode(first["netmap"]), signing_key=VERIFY_KEY)
    known["ansible_host"] = "192.0.2.1"
    down = {"ansible_connection": "ssh", "ansible_ssh_common_args": "-o ProxyCommand=false"}
    probe = {"ansible.builtin.ping": {}, "register": "answer", "when": "'sennit_status' not in vars"}

    played = control.play(inventory({"alpha": known, "beta": down}, sennit_signing_key=SEED), [probe, COMPILE])
    assert "beta could not be reached; it stays in the map" in played.output
    assert played.result("netmap", "alpha")["netmap"] == first["netmap"]

    nodes = {"alpha": known, "beta": down, "gamma": {**down, "ansible_host": "gamma.example"}}
    played = control.play(inventory(nodes, sennit_signing_key=SEED), [probe, VALIDATE])
    assert "gamma: ansible_host = gamma.example could not be reached" in played.output
    assert not played.registered


def with_a_beacon(nodes, beacon):
    hosts = inventory(nodes, sennit_signing_key=SEED)
    hosts["sennit"]["children"]["sennit_beacons"] = {"hosts": {"harbor": {**beacon, "sennit_endpoint": "192.0.2.9"}}}
    return hosts


def test_whom_ansible_cannot_reach_is_left_to_a_beacon_that_it_knows(control):
    play = "sennit_nodes:sennit_beacons"
    hosts = with_a_beacon({"beta": status(key("beta"))}, status(key("harbor")))
    first = control.play(hosts, [COMPILE], hosts=play).result("netmap")
    assert [node.beacon for node in opened(first).nodes] == [None, 21472]
    kept = {"signed": base64.b64decode(first["netmap"]), "signing_key": VERIFY_KEY}
    down = {"ansible_connection": "ssh", "ansible_ssh_common_args": "-o ProxyCommand=false"}
    probe = {"ansible.builtin.ping": {}, "register": "answer", "when": "'sennit_status' not in vars"}
    probe["ignore_unreachable"] = True

    def left(nodes, beacon):
        return control.play(with_a_beacon(nodes, beacon), [probe, VALIDATE], hosts=play).result("plan", "harbor")

    assert left({"beta": down}, status(key("harbor"), **kept))["left_to_beacons"] == ["beta"]
    assert left({"beta": status(key("beta"), **kept)}, status(key("harbor"), **kept))["left_to_beacons"] == []
    # None of its beacons is there, or it knows of none.
    nodes = {"beta": down, "alpha": status(key("alpha"), **kept)}
    played = control.play(with_a_beacon(nodes, down), [probe, VALIDATE], hosts=play)
    assert played.result("plan", "alpha")["left_to_beacons"] == []
    plain_map = control.play(inventory({"beta": status(key("beta"))}, sennit_signing_key=SEED), [COMPILE])
    known = {"signed": base64.b64decode(plain_map.result("netmap")["netmap"]), "signing_key": VERIFY_KEY}
    assert left({"beta": down}, status(key("harbor"), **known))["left_to_beacons"] == []


def test_a_beacon_that_is_left_out_is_asked_for_its_map(control):
    first = opened(control.play(inventory(NODES, sennit_signing_key=SEED), [COMPILE]).result("netmap"))
    newer = dataclasses.replace(first, version=7, allocations={**first.allocations, "gone": ("100.64.0.3",)})
    pin = {"signing_key": VERIFY_KEY}
    nodes = {
        "alpha": status(key("alpha"), signed=sign(first.to_bytes(), SEED), **pin, ansible_host="192.0.2.1"),
        "beta": {},
    }
    answer = status(key("beta"), signed=sign(newer.to_bytes(), SEED), **pin)["sennit_status"]
    results = [
        {**answer, "item": "beta"},
        {"item": "mole", "unreachable": True, "msg": "no route to host"},
        {"item": "pier", "failed": True, "msg": "sudo: a password is required"},
    ]
    asked = {"ansible.builtin.set_fact": {"sennit_beacon_status": {"results": results}}}
    played = control.play(inventory(nodes, sennit_signing_key=SEED), [asked, COMPILE], "--limit", "alpha")
    assert played.code == 0, played.output
    assert played.result("netmap")["version"] == 7
    assert opened(played.result("netmap")) == newer


def test_the_newest_valid_map_on_any_host_is_what_counts(control):
    first = opened(control.play(inventory(NODES, sennit_signing_key=SEED), [COMPILE]).result("netmap"))
    newer = dataclasses.replace(first, version=5, allocations={**first.allocations, "gone": ("100.64.0.3",)})
    forged = sign(dataclasses.replace(first, version=9).to_bytes(), generate_signing_key())
    pin = {"signing_key": VERIFY_KEY}
    nodes = {
        "alpha": status(key("alpha"), signed=sign(first.to_bytes(), SEED), **pin, ansible_host="192.0.2.1"),
        "beta": status(key("beta"), signed=sign(newer.to_bytes(), SEED), **pin),
        "delta": status(key("delta"), signed=forged, **pin),
    }
    played = control.play(inventory(nodes, sennit_signing_key=SEED), [COMPILE])
    assert played.code == 0, played.output
    result = played.result("netmap")
    assert result["version"] == 6
    assert result["addresses"]["delta"][0] == "100.64.0.4"
    assert "the netmap on delta is not used" in played.output

    # Two maps with one version: whichever it was, the next one is newer than both.
    rival = dataclasses.replace(newer, allocations=first.allocations)
    nodes["alpha"] = status(key("alpha"), signed=sign(rival.to_bytes(), SEED), **pin, ansible_host="192.0.2.1")
    del nodes["delta"]
    played = control.play(inventory(nodes, sennit_signing_key=SEED), [COMPILE])
    assert played.result("netmap")["version"] == 6
    assert "2 netmaps of version 5" in played.output


def test_a_host_of_another_network_is_refused(control):
    nodes = {"alpha": status(key("alpha"), signing_key=VERIFY_KEY)}
    nodes["alpha"]["sennit_status"]["network"] = "prod"
    played = control.play(inventory(nodes, sennit_signing_key=SEED), [VALIDATE])
    assert played.code != 0
    assert "alpha: sennit_network = demo is not the network prod" in played.output


def test_signing_keys_that_differ_are_refused_without_showing_them(control):
    other = generate_signing_key()
    nodes = {"alpha": status(key("alpha")), "beta": status(key("beta"), sennit_signing_key=other)}
    played = control.play(inventory(nodes, sennit_signing_key=SEED), [VALIDATE], "-vvv")
    assert played.code != 0
    assert "beta: sennit_signing_key is not what alpha has" in played.output
    assert SEED not in played.output and other not in played.output


def test_a_key_file_that_others_may_read_is_warned_of(control):
    file = control.directory / "key"
    file.write_text(SEED + "\n")
    file.chmod(0o644)
    played = control.play(inventory(NODES, sennit_signing_key_file="key"), [VALIDATE])
    assert played.code == 0, played.output
    assert "others may read it" in played.output


def test_approvals_go_by_the_groups_of_the_inventory(control):
    approved = [
        {"prefixes": ["192.168.0.0/16"], "groups": ["trusted"]},
        {"prefixes": ["0.0.0.0/0", "::/0"], "groups": ["all"]},
    ]
    hosts = inventory(NODES, ROUTERS, STATIC, sennit_signing_key=SEED, sennit_approved_routes=approved)
    hosts["sennit"]["children"]["sennit_exit_nodes"] = {"hosts": {"beta": {}}}
    hosts["sennit"]["children"]["sennit_lan_devices"] = {"hosts": {"printer": {}}}
    played = control.play(hosts, [COMPILE], "--diff")
    assert played.code == 0, played.output
    assert played.result("netmap")["routes"]["gw"] == [] and played.result("netmap")["exit_nodes"] == ["beta"]
    assert "+    unapproved_routes: [192.168.10.0/24]\n" in played.output
    assert "+    exit_node: approved\n" in played.output
    hosts["trusted"] = {"hosts": {"gw": {}}}
    assert control.play(hosts, [COMPILE]).result("netmap")["routes"]["gw"] == ["192.168.10.0/24"]


def test_an_exit_node_that_cannot_be_one_is_refused_with_host_variable_and_value(control):
    hosts = inventory(NODES, ROUTERS, sennit_signing_key=SEED)
    hosts["sennit"]["children"]["sennit_nodes"]["vars"] = {"sennit_exit_node": "alpha"}
    played = control.play(hosts, [{**VALIDATE, "ignore_errors": True}])
    assert [(each["host"], each["variable"], each["value"]) for each in played.result("plan")["refusals"]] == [
        ("alpha", "sennit_exit_node", "alpha"),
        ("beta", "sennit_exit_node", "alpha"),
    ]
    assert "alpha: sennit_exit_node = alpha is the host itself" in played.output
    assert "beta: sennit_exit_node = alpha does not offer to be an exit node" in played.output


def test_dns_settings_are_in_the_map_and_in_the_diff(control):
    dns = {"nameservers": ["192.0.2.53"], "split": {"company.test": ["192.168.10.53"]}, "search": "company.test"}
    played = control.play(inventory(NODES, ROUTERS, sennit_signing_key=SEED, sennit_dns=dns), [COMPILE], "--diff")
    assert played.code == 0, played.output
    assert opened(played.result("netmap"), VERIFY_KEY).dns.split == {"company.test": ("192.168.10.53",)}
    assert "+  nameservers: [192.0.2.53]\n" in played.output
    assert "+    company.test: [192.168.10.53]\n" in played.output


def with_preferences(host, accept_dns):
    """A host whose agent runs."""
    reported = {**host["sennit_status"], "agent": {"preferences": {"accept_dns": accept_dns}}}
    return {**host, "sennit_status": reported}


def test_a_nameserver_that_would_ask_itself_is_refused_unless_its_host_says_otherwise(control):
    pihole = status(key("pihole"), underlay=["192.168.10.53/24"])
    for host, code in (
        (pihole, 2),
        (with_preferences(pihole, True), 2),
        (with_preferences(pihole, False), 0),
        ({**with_preferences(pihole, True), "sennit_accept_dns": False}, 0),
    ):
        nodes = {**NODES, "pihole": host}
        dns = {"nameservers": ["192.168.10.53"], "override": True}
        played = control.play(inventory(nodes, sennit_signing_key=SEED, sennit_dns=dns), [VALIDATE])
        assert played.code == code, played.output
        if code:
            assert "pihole: sennit_accept_dns has to be stated as false" in played.output
            assert "set sennit_accept_dns: false for it" in played.output


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("sennit_mtu", 576, "is not an integer from 1280 to 65535"),
        ("sennit_mtu", "0", "is not an integer from 1280 to 65535"),
        ("sennit_table", 254, "254 is the system's table main"),
        ("sennit_interface", "a/b", "is not an interface's name"),
        ("sennit_relay_rate", 9600, "is not an integer from 64000"),
        ("sennit_netmap_url", "ftp://192.0.2.1/netmap", "is not an http"),
        ("sennit_metrics_port", 99999, "is not an integer from 0 to 65535"),
        ("sennit_metrics_textfile", "/srv/sennit.txt", "is not an absolute path that ends in .prom"),
        ("sennit_trial_timeout", "soon", "is not an integer from 0 to 3600"),
    ],
)
def test_what_the_agent_would_not_take_is_refused_before_anything_is_changed(control, variable, value, reason):
    nodes = {**BARE, "beta": {**BARE["beta"], variable: value}}
    played = control.play(inventory(nodes), [VALIDATE])
    assert played.code != 0
    assert f"beta: {variable} = {value} " in played.output and reason in " ".join(played.output.split())
    assert not (control.directory / ".config").exists()
    # It is nobody's business in a run for another.
    assert control.play(inventory(nodes), [VALIDATE], "--limit", "alpha").code == 0


def test_settings_that_are_empty_or_text_are_taken(control):
    settings = {"sennit_mtu": "1420", "sennit_fwmark": " 7 ", "sennit_datapath": "", "sennit_metrics_port": None}
    assert control.play(inventory(BARE, **settings), [VALIDATE]).code == 0
