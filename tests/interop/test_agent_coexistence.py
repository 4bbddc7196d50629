"""Another VPN, and others' rules and tables, on the host of an agent: told, lived with or refused, never touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.interop.agents import Mesh

from sennit.api import ApiError

OTHERS_PORT = "51000"


@pytest.fixture
def mesh(tmp_path):
    with Mesh(tmp_path, "alpha", "beta", "gamma") as mesh:
        yield mesh


class OtherVpn:
    """A tunnel of wireguard-go between two hosts of the mesh that has nothing to do with it, set up as wg-quick does.

    It has 10.9.0.0/24, and 10.99.0.1 behind the second host.
    """

    def __init__(self, *hosts):
        self.hosts = hosts
        self.names = [f"{host.mesh.prefix}o{host.number}" for host in hosts]

    def __enter__(self):
        for host, name in zip(self.hosts, self.names):
            key = host.directory / "other.key"
            key.write_text(host.run("wg", "genkey"))
            host.run("wireguard-go", name)
            # As wg-quick marks its packets once its tunnel takes everything: by the port.
            host.run("wg", "set", name, "listen-port", OTHERS_PORT, "fwmark", "51820", "private-key", str(key))
            host.run("ip", "address", "add", f"10.9.0.{host.number}/24", "dev", name)
            host.run("ip", "link", "set", name, "mtu", "1420", "up")
        first, second = self.hosts
        second.run("ip", "address", "add", "10.99.0.1/32", "dev", "lo")
        self._know(first, second, "10.9.0.0/24,10.99.0.0/16,0.0.0.0/0")
        self._know(second, first, f"10.9.0.{first.number}/32,{first.underlay[0]}/32")
        first.run("ip", "route", "add", "10.99.0.0/16", "dev", self.names[0])
        return self

    def _know(self, host, other, allowed_ips):
        key = other.run("wg", "show", self.names[self.hosts.index(other)], "public-key").strip()
        host.run("wg", "set", self.names[self.hosts.index(host)], "peer", key, "allowed-ips", allowed_ips,
                 "endpoint", f"{other.underlay[0]}:{OTHERS_PORT}")  # fmt: skip

    def take_everything(self):
        """As `wg-quick up` does for 0.0.0.0/0; the kernel puts its rules before all others that there are."""
        first = self.hosts[0]
        first.run("ip", "route", "add", "default", "dev", self.names[0], "table", "51820")
        first.run("ip", "rule", "add", "not", "fwmark", "51820", "table", "51820")
        first.run("ip", "rule", "add", "table", "main", "suppress_prefixlength", "0")

    def leave_the_rest(self):
        first = self.hosts[0]
        first.run("ip", "rule", "del", "not", "fwmark", "51820", "table", "51820")
        first.run("ip", "rule", "del", "table", "main", "suppress_prefixlength", "0")
        first.run("ip", "route", "flush", "table", "51820")

    def works(self):
        return all("1 received" in self.hosts[0].run("ping", "-c", "1", "-W", "5", address, check=False)
                   for address in (f"10.9.0.{self.hosts[1].number}", "10.99.0.1"))  # fmt: skip

    def __exit__(self, *_exception):
        for host, name in zip(self.hosts, self.names):
            host.run("ip", "link", "del", name, check=False)
            Path(f"/var/run/wireguard/{name}.sock").unlink(missing_ok=True)


def others(host):
    """All rules and routes that are not the agent's."""
    shown = []
    for family in ("-4", "-6"):
        shown += [rule for rule in json.loads(host.run("ip", "-j", family, "rule")) if rule.get("table") != "21472"]
        shown += [
            route
            for route in json.loads(host.run("ip", "-j", family, "route", "show", "table", "all"))
            if route.get("table") not in ("21472", "local") and route.get("dev") != "sennit0"
        ]
    return shown


def test_another_vpn_keeps_what_it_has(mesh):
    alpha, beta, gamma = mesh.hosts
    with OtherVpn(alpha, gamma) as vpn:
        assert vpn.works()
        before = others(alpha)
        for host in (alpha, beta):
            host.start()
            # The same prefix as the tunnel's, and one that holds another of its prefixes.
            routes = ("10.96.0.0/12", "10.99.0.0/16")
            host.apply(mesh.netmap(1, alpha.node(), beta.node(exit_node="approved", routes=routes)))
        assert alpha.cli("ping", "beta", "-c", "1").returncode == 0
        assert vpn.works()
        assert others(alpha) == before
        status = alpha.status()
        assert [route["state"] for route in status["routes"]] == ["installed", "elsewhere"]
        assert any(f"{vpn.names[0]} (tun) keeps its routes (10.9.0.0/24" in problem for problem in status["problems"])
        assert "another VPN is here" in alpha.cli("status").stdout

        alpha.call("preferences.set", preferences={"exit_node": "beta"})
        assert vpn.works()
        assert alpha.cli("ping", "beta", "-c", "1").returncode == 0
        assert others(alpha) == before
        assert alpha.stop() == 0
        assert others(alpha) == before
        assert alpha.traces() == {}
        assert vpn.works()


def test_with_a_vpn_that_takes_everything_there_is_no_exit_node(mesh):
    alpha, beta, gamma = mesh.hosts
    alpha.run("ip", "route", "add", "default", "via", gamma.underlay[0])
    with OtherVpn(alpha, gamma) as vpn:
        vpn.take_everything()
        before = others(alpha)
        for host in (alpha, beta):
            host.start()
            # beta is beyond the LAN for alpha: by the other VPN, then.
            host.apply(mesh.netmap(1, alpha.node(), beta.node(endpoint="198.51.100.2:51820", exit_node="approved")))
        traces = alpha.traces()
        with pytest.raises(ApiError, match=f"{vpn.names[0]} .* takes everything") as caught:
            alpha.call("preferences.set", preferences={"exit_node": "beta"})
        assert caught.value.code == "exit-node-other-vpn"
        assert alpha.traces() == traces
        assert others(alpha) == before
        assert vpn.works()


def test_a_vpn_that_comes_to_take_everything_stops_what_is_for_the_exit_node(mesh):
    alpha, beta, gamma = mesh.hosts
    alpha.run("ip", "route", "add", "default", "via", gamma.underlay[0])
    alpha.start()
    alpha.apply(mesh.netmap(1, alpha.node(), beta.node(endpoint="198.51.100.2:51820", exit_node="approved")))
    alpha.call("preferences.set", preferences={"exit_node": "beta"})
    with OtherVpn(alpha, gamma) as vpn:
        vpn.take_everything()
        alpha.log.wait_for("the exit node cannot be used")
        problems = alpha.status()["problems"]
        assert any("each of the two would carry the other" in problem for problem in problems)
        assert any("'5199: not fwmark 0xca6c table 51820' comes before ours" in problem for problem in problems)
        assert alpha.status()["exit_node"]["state"] == "down"
        # Neither carries the other, round and round.
        sent = alpha.peer("beta")["tx_bytes"]
        alpha.run("ping", "-c", "5", "-i", "0.2", "-s", "1000", "-W", "1", "203.0.113.1", check=False)
        assert alpha.peer("beta")["tx_bytes"] - sent < 1000
        vpn.leave_the_rest()
        alpha.log.wait_for("the exit node can be used again")


def test_an_uplink_in_the_meshs_pool_keeps_its_gateway(mesh):
    alpha, beta, gamma = mesh.hosts
    alpha.run("ip", "address", "add", "100.64.0.77/24", "dev", "eth0")
    gamma.run("ip", "address", "add", "100.64.0.3/24", "dev", "eth0")
    alpha.run("ip", "route", "add", "default", "via", "100.64.0.3")
    before = others(alpha)
    for host in (alpha, beta):
        host.start()
        host.apply(mesh.netmap(1, *(each.node() for each in mesh.hosts)))
    assert alpha.cli("ping", "beta", "-4", "-c", "1").returncode == 0
    # The third node has the gateway's address.
    assert alpha.traces()["routes"] == ["100.64.0.2", "fd5e::2", "fd5e::3"]
    assert "1 received" in alpha.run("ping", "-c", "1", "100.64.0.3")
    assert any("eth0 uses addresses of the mesh's pool (100.64.0.0/24)" in line for line in alpha.status()["problems"])
    assert others(alpha) == before


def test_a_table_that_is_in_use_is_not_shared(mesh):
    alpha, beta, _gamma = mesh.hosts
    alpha.run("ip", "route", "add", "203.0.113.0/24", "via", beta.underlay[0], "table", "21472")
    alpha.run("ip", "rule", "add", "priority", "5200", "fwmark", "7", "table", "99")
    before = alpha.run("ip", "rule"), alpha.run("ip", "route", "show", "table", "21472")
    alpha.start()
    alpha.apply(mesh.netmap(1, alpha.node(), beta.node()))
    problems = alpha.status()["problems"]
    assert any("routing table 21472 is in use already (203.0.113.0/24)" in problem for problem in problems)
    assert any("'5200: fwmark 0x7 table 99' has the priority of ours" in problem for problem in problems)
    assert (alpha.run("ip", "rule"), alpha.run("ip", "route", "show", "table", "21472")) == before
    alpha.stop()
    alpha.configure(table=21473, rule_priority=5201)
    for host in (alpha, beta):
        host.start()
        host.apply(mesh.netmap(2, alpha.node(), beta.node()))
    assert alpha.cli("ping", "beta", "-c", "1").returncode == 0
    assert alpha.status()["problems"] == []
