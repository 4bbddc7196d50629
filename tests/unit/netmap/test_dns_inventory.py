# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sennit_dns, from the inventory into the map; what is refused, and of what a node would ask itself."""

from __future__ import annotations

import dataclasses

import pytest
from tests.unit.netmap.inventories import VERIFY_KEY, key, node, silent, static

from sennit.netmap.compile import compile_netmap
from sennit.netmap.describe import describe
from sennit.netmap.dns import DnsSettings, Record, stub_addresses
from sennit.netmap.inventory import CompileError, Host, Report
from sennit.netmap.model import Netmap
from sennit.netmap.names import derive_names

ALPHA, BETA = node("alpha"), node("Beta")


def compiled(dns, *hosts, previous=None, **options):
    """dns: as group_vars have it, for every host."""
    hosts = [dataclasses.replace(h, variables={**h.variables, "sennit_dns": dns}) for h in hosts or (ALPHA, BETA)]
    result = compile_netmap(hosts, previous, VERIFY_KEY, **options)
    assert Netmap.parse(result.netmap.to_bytes()) == result.netmap
    return result


def refused(dns, *hosts, **options):
    with pytest.raises(CompileError) as caught:
        compiled(dns, *hosts, **options)
    return [(each.host, each.variable, each.value, each.reason) for each in caught.value.refusals]


# --- what is read


@pytest.mark.parametrize(
    "unset", [None, "", {}, {"nameservers": "", "split": "", "search": [], "records": "", "override": ""}]
)
def test_without_settings_the_map_says_nothing_of_dns(unset):
    result = compiled(unset)
    assert result.netmap.dns == DnsSettings()
    assert b'"dns"' not in result.netmap.to_bytes()
    assert "dns:" not in describe(result.netmap)


def test_all_settings_in_canonical_form():
    result = compiled(
        {
            "nameservers": ["192.0.2.53", "2001:DB8::0053"],
            "override": "yes",
            "split": {"Company.Test.": ["192.168.10.53"], "10.168.192.in-addr.arpa": "192.168.10.53, 192.168.10.54"},
            "search": "company.test,lab.company.test",
            "records": [
                {"name": "git", "type": "CNAME", "value": "BETA"},
                {"name": "www.company.test", "type": "A", "value": "192.168.10.80"},
                {"name": "www.company.test.", "type": "AAAA", "value": "FD00::0080"},
            ],
        }
    )
    assert result.netmap.dns == DnsSettings(
        nameservers=("192.0.2.53", "2001:db8::53"),
        override=True,
        split={
            "company.test": ("192.168.10.53",),
            "10.168.192.in-addr.arpa": ("192.168.10.53", "192.168.10.54"),
        },
        search=("company.test", "lab.company.test"),
        records=(
            Record("git.sennit.internal", "CNAME", "beta.sennit.internal"),
            Record("www.company.test", "A", "192.168.10.80"),
            Record("www.company.test", "AAAA", "fd00::80"),
        ),
    )
    assert derive_names(result.netmap).aliases == {"git.sennit.internal": "beta.sennit.internal"}
    text = describe(result.netmap)
    for line in (
        "  nameservers: [192.0.2.53, 2001:db8::53]",
        "  override: true",
        "    company.test: [192.168.10.53]",
        "  search: [company.test, lab.company.test]",
        "    - git.sennit.internal CNAME beta.sennit.internal",
    ):
        assert f"{line}\n" in text


def test_a_change_of_the_settings_is_a_new_version_and_the_same_ones_are_not():
    dns = {"split": {"b.test": ["192.0.2.1"], "a.test": ["192.0.2.1"]}}
    first = compiled(dns).netmap
    assert compiled({"split": dict(reversed(dns["split"].items()))}, previous=first).netmap == first
    second = compiled({"split": {"b.test": ["192.0.2.1"]}}, previous=first).netmap
    assert second.version == first.version + 1


def test_the_domain_above_the_networks_own_may_be_split():
    hosts = [dataclasses.replace(h, variables={"sennit_domain": "mesh.company.test"}) for h in (ALPHA, BETA)]
    result = compiled({"split": {"company.test": ["192.0.2.1"], "100.in-addr.arpa": ["192.0.2.1"]}}, *hosts)
    assert set(result.netmap.dns.split) == {"company.test", "100.in-addr.arpa"}


def test_an_alias_may_lead_to_an_alias_and_out_of_the_network():
    records = [
        {"name": "code", "type": "CNAME", "value": "git"},
        {"name": "git", "type": "CNAME", "value": "forge.company.test"},
        {"name": "phonebook", "type": "CNAME", "value": "Phone"},
    ]
    assert len(compiled({"records": records}, ALPHA, static("phone")).netmap.dns.records) == 3


def test_the_settings_are_one_for_the_whole_network():
    alpha = node("alpha", sennit_dns={"search": ["company.test"]})
    with pytest.raises(CompileError) as caught:
        compile_netmap([alpha, BETA], None, VERIFY_KEY)
    (refusal,) = caught.value.refusals
    assert (refusal.host, refusal.variable, refusal.value) == ("Beta", "sennit_dns", "")
    assert "alpha" in refusal.reason and "group sennit" in refusal.reason


# --- what is refused

LONG = ".".join(["a" * 63] * 4)


@pytest.mark.parametrize(
    ("dns", "variable", "value", "reason"),
    [
        ("yes", "sennit_dns", "yes", "not a dictionary"),
        (["192.0.2.53"], "sennit_dns", ["192.0.2.53"], "not a dictionary"),
        ({"servers": ["192.0.2.53"]}, "sennit_dns.servers", ["192.0.2.53"], "there are nameservers, override"),
        ({"nameservers": ["ns.company.test"]}, "sennit_dns.nameservers", "ns.company.test", "not an IP address"),
        ({"nameservers": ["192.0.2.53:53"]}, "sennit_dns.nameservers", "192.0.2.53:53", "not an IP address"),
        ({"nameservers": ["192.0.2.0/24"]}, "sennit_dns.nameservers", "192.0.2.0/24", "not an IP address"),
        ({"nameservers": [53]}, "sennit_dns.nameservers", [53], "not a list of strings"),
        ({"nameservers": {"a": "b"}}, "sennit_dns.nameservers", {"a": "b"}, "not a list of strings"),
        ({"nameservers": ["127.0.0.1"]}, "sennit_dns.nameservers", "127.0.0.1", "that all others reach"),
        ({"nameservers": ["100.100.100.100"]}, "sennit_dns.nameservers", "100.100.100.100", "own resolver"),
        ({"nameservers": ["::1", "192.0.2.1"]}, "sennit_dns.nameservers", "::1", "that all others reach"),
        ({"nameservers": ["192.0.2.1", "192.0.2.1"]}, "sennit_dns.nameservers", "192.0.2.1", "twice"),
        ({"nameservers": ["2001:db8::1", "2001:DB8::01"]}, "sennit_dns.nameservers", "2001:DB8::01", "twice"),
        ({"nameservers": ["100.64.9.9"]}, "sennit_dns.nameservers", "100.64.9.9", "no member has it"),
        ({"override": "perhaps"}, "sennit_dns.override", "perhaps", "neither true nor false"),
        ({"override": True}, "sennit_dns.override", True, "there are none"),
        ({"search": ["a.test", "A.test."]}, "sennit_dns.search", "A.test.", "twice"),
        ({"search": ["a b.test"]}, "sennit_dns.search", "a b.test", "not a DNS name"),
        ({"search": [LONG]}, "sennit_dns.search", LONG, "longer than a DNS name can be"),
        ({"split": ["company.test"]}, "sennit_dns.split", ["company.test"], "not a dictionary"),
        ({"split": {5: ["192.0.2.1"]}}, "sennit_dns.split", {5: ["192.0.2.1"]}, "not a dictionary"),
        ({"split": {"company.test": []}}, "sennit_dns.split.company.test", [], "no nameserver"),
        ({"split": {"company.test": ["dns"]}}, "sennit_dns.split.company.test", "dns", "not an IP address"),
        ({"split": {".": ["192.0.2.1"]}}, "sennit_dns.split", ".", "sennit_dns.nameservers"),
        ({"split": {"192.168.10.0/24": ["192.0.2.1"]}}, "sennit_dns.split", "192.168.10.0/24", "10.168.192.in-addr"),
        ({"split": {"a.test": ["192.0.2.1"], "A.TEST": ["192.0.2.2"]}}, "sennit_dns.split", "A.TEST", "twice"),
        ({"split": {"sennit.internal": ["192.0.2.1"]}}, "sennit_dns.split", "sennit.internal", "from the map alone"),
        ({"split": {"X.sennit.internal": ["192.0.2.1"]}}, "sennit_dns.split", "X.sennit.internal", "from the map"),
        ({"split": {"64.100.in-addr.arpa": ["192.0.2.1"]}}, "sennit_dns.split", "64.100.in-addr.arpa", "mesh address"),
        ({"split": {LONG: ["192.0.2.1"]}}, "sennit_dns.split", LONG, "longer than a DNS name can be"),
        ({"records": "git"}, "sennit_dns.records", "git", "no record"),
        ({"records": [{"name": "git"}]}, "sennit_dns.records", {"name": "git"}, "no record"),
        ({"records": [{"name": "a", "type": "A", "value": 5}]}, "sennit_dns.records",
         {"name": "a", "type": "A", "value": 5}, "string"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_named_with_its_variable_and_value(dns, variable, value, reason):
    ((host, found, shown, why),) = refused(dns)
    assert (host, found, shown) == ("alpha", variable, value)
    assert reason in why


def record(text):
    name, type_, value = text.split()
    return {"name": name, "type": type_, "value": value}


@pytest.mark.parametrize(
    ("records", "value", "reason"),
    [
        (["git MX mail"], "git MX mail", "none of A, AAAA, CNAME"),
        (["git cname beta"], "git cname beta", "none of A, AAAA, CNAME"),
        (["git A fd00::1"], "git A fd00::1", "not an IPv4 address"),
        (["git AAAA 192.0.2.1"], "git AAAA 192.0.2.1", "not an IPv6 address"),
        (["git A beta"], "git A beta", "not an IPv4 address"),
        (["g!t A 192.0.2.1"], "g!t A 192.0.2.1", "not a DNS name"),
        (["192.0.2.1 A 192.0.2.1"], "192.0.2.1 A 192.0.2.1", "not a DNS name"),
        ([f"{LONG} A 192.0.2.1"], f"{LONG} A 192.0.2.1", "longer than a DNS name can be"),
        (["beta A 192.0.2.1"], "beta.sennit.internal A 192.0.2.1", "has the name of Beta"),
        (["alpha.sennit.internal CNAME beta"], "alpha.sennit.internal CNAME beta.sennit.internal", "name of alpha"),
        (["git A 192.0.2.1", "GIT A 192.0.2.1"], "git.sennit.internal A 192.0.2.1", "twice"),
        (["git A 192.0.2.1", "git CNAME beta"], "git.sennit.internal CNAME beta.sennit.internal", "share its name"),
        (["sennit.internal CNAME beta"], "sennit.internal CNAME beta.sennit.internal", "cannot be an alias"),
        (["git CNAME gitt"], "git.sennit.internal CNAME gitt.sennit.internal", "nobody has"),
        (["git CNAME git"], "git.sennit.internal CNAME git.sennit.internal", "back to itself"),
        (["1.0.64.100.in-addr.arpa A 192.0.2.1"], "1.0.64.100.in-addr.arpa A 192.0.2.1", "answered from the map"),
    ],
)
def test_a_bad_record_is_named(records, value, reason):
    ((host, variable, shown, why),) = refused({"records": [record(text) for text in records]})
    assert (host, variable, shown) == ("alpha", "sennit_dns.records", value)
    assert reason in why


def test_a_loop_of_aliases_is_told_of_each_and_not_of_those_that_lead_into_it():
    records = [record(text) for text in ("a CNAME b", "b CNAME c", "c CNAME b")]
    found = refused({"records": records})
    assert [value.split(".")[0] for _host, _variable, value, _reason in found] == ["b", "c"]
    assert all(reason == "leads back to itself" for *_rest, reason in found)


def test_two_aliases_of_one_name_are_both_told_of():
    found = refused({"records": [record("git CNAME alpha"), record("git CNAME beta")]})
    assert len(found) == 2


def test_a_name_that_is_too_long_with_the_domain():
    name = ".".join(["a" * 60] * 4)
    ((host, variable, value, reason),) = refused({}, node(name), BETA)
    assert (host, variable, value) == (name, "inventory_hostname", name)
    assert "sennit.internal" in reason


def test_the_resolvers_own_ipv6_address_is_no_nameserver_and_no_members():
    stub = stub_addresses(compiled({}).netmap.network.pools)[1]
    ((_host, variable, value, reason),) = refused({"nameservers": [stub]})
    assert (variable, value) == ("sennit_dns.nameservers", stub) and "own resolver" in reason
    ((host, variable, value, reason),) = refused({}, node("alpha", sennit_addresses=[stub]))
    assert (host, variable, value) == ("alpha", "sennit_addresses", stub) and "own resolver" in reason


# --- nameservers that are nodes


def pihole(accept_dns=None, **variables):
    report = Report(key("pihole"), ("192.168.10.0/24",), None, ("192.168.10.53",), accept_dns)
    return Host("pihole", ("sennit", "sennit_nodes"), variables, report)


MESH, LAN = "100.64.0.2", "192.168.10.53"


@pytest.mark.parametrize("address", [MESH, LAN])
@pytest.mark.parametrize(
    ("rule", "variable"),
    [("nameservers", "sennit_dns.nameservers"), ("split", "sennit_dns.split.company.test")],
)
@pytest.mark.parametrize("preference", [None, True])
def test_a_nameserver_that_accepts_dns_is_refused_with_the_way_out(address, rule, variable, preference):
    dns = {"nameservers": [address]} if rule == "nameservers" else {"split": {"company.test": [address]}}
    ((host, where, value, reason),) = refused(dns, ALPHA, pihole(preference))
    assert (host, where, value) == ("pihole", "sennit_accept_dns", None)
    assert address in reason and variable in reason
    assert "set sennit_accept_dns: false for it" in reason


def test_a_host_is_told_of_once_whatever_it_is_the_nameserver_of():
    dns = {"nameservers": [MESH, LAN], "split": {"company.test": [LAN]}}
    assert len(refused(dns, ALPHA, pihole())) == 1


def test_what_the_inventory_states_comes_before_the_hosts_preference():
    ((_host, _variable, value, reason),) = refused({"nameservers": [LAN]}, ALPHA, pihole(False, sennit_accept_dns="on"))
    assert value == "on" and reason.startswith("is not false")
    assert compiled({"nameservers": [LAN]}, ALPHA, pihole(True, sennit_accept_dns=False)).warnings == ()
    assert compiled({"nameservers": [LAN]}, ALPHA, pihole(False, sennit_accept_dns="")).warnings == ()


def test_one_that_was_not_asked_is_a_warning():
    previous = compiled({}, ALPHA, pihole()).netmap
    result = compiled({"nameservers": [MESH]}, ALPHA, silent("pihole", in_play=False), previous=previous)
    (warning,) = [text for text in result.warnings if "nameserver" in text]
    assert warning.startswith("pihole: ") and MESH in warning and "sennit_accept_dns: false" in warning
    stated = silent("pihole", in_play=False, sennit_accept_dns=False)
    assert compiled({"nameservers": [MESH]}, ALPHA, stated, previous=previous).warnings == ()


def test_a_network_without_members_has_no_nameserver_in_its_pool():
    device = Host("printer", ("sennit", "sennit_lan_devices"))
    ((host, variable, value, _reason),) = refused({"nameservers": [MESH]}, device)
    assert (host, variable, value) == ("printer", "sennit_dns.nameservers", MESH)


def test_a_static_peer_may_be_a_nameserver():
    assert compiled({"nameservers": [MESH]}, ALPHA, static("appliance")).netmap.dns.nameservers == (MESH,)


def test_accept_dns_that_is_no_boolean_is_refused_where_it_matters():
    ((host, variable, value, _reason),) = refused({"nameservers": [LAN]}, ALPHA, pihole(sennit_accept_dns="often"))
    assert (host, variable, value) == ("pihole", "sennit_accept_dns", "often")
