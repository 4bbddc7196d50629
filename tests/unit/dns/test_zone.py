"""What the map answers by itself."""

import ipaddress

import dns.flags
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dns.helpers import from_map, lines, new_stub, question

from sennit.dns.message import Query
from sennit.netmap.dns import DnsSettings, Record
from sennit.netmap.model import KIND_NODE, KIND_STATIC, Netmap, Network, Node
from sennit.netmap.names import derive_names

STUB = new_stub()


def ask(name, rdtype="A", **values):
    return from_map(STUB, question(name, rdtype, **values))


@pytest.mark.parametrize(
    ("name", "rdtype", "found"),
    [
        ("alpha.demo.internal", "A", ["alpha.demo.internal. 0 IN A 100.64.0.1"]),
        ("alpha.demo.internal", "AAAA", ["alpha.demo.internal. 0 IN AAAA fd5e::1"]),
        (
            "alpha.demo.internal",
            "ANY",
            ["alpha.demo.internal. 0 IN A 100.64.0.1", "alpha.demo.internal. 0 IN AAAA fd5e::1"],
        ),
        ("db.lab.demo.internal", "A", ["db.lab.demo.internal. 0 IN A 192.168.10.5"]),
        ("printer.company.test", "A", ["printer.company.test. 0 IN A 192.168.10.7"]),
        ("1.0.64.100.in-addr.arpa", "PTR", ["1.0.64.100.in-addr.arpa. 0 IN PTR alpha.demo.internal."]),
        ("git.demo.internal", "CNAME", ["git.demo.internal. 0 IN CNAME alpha.demo.internal."]),
        ("web.demo.internal", "CNAME", ["web.demo.internal. 0 IN CNAME www.example.com."]),
        (
            "code.demo.internal",
            "A",
            [
                "alpha.demo.internal. 0 IN A 100.64.0.1",
                "code.demo.internal. 0 IN CNAME git.demo.internal.",
                "git.demo.internal. 0 IN CNAME alpha.demo.internal.",
            ],
        ),
        ("localhost", "A", ["localhost. 0 IN A 127.0.0.1"]),
        ("app.localhost", "AAAA", ["app.localhost. 0 IN AAAA ::1"]),
    ],
)
def test_records(name, rdtype, found):
    answer = ask(name, rdtype)
    assert lines(answer) == found
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.flags & dns.flags.AA
    assert answer.flags & dns.flags.RA


def test_the_ipv6_address_has_a_name():
    name = ipaddress.ip_address("fd5e::9").reverse_pointer
    assert lines(ask(name, "PTR")) == [f"{name}. 0 IN PTR phone.demo.internal."]


def test_names_are_case_insensitive_and_come_back_as_they_were_asked():
    answer = ask("ALPHA.Demo.Internal")
    assert lines(answer) == ["ALPHA.Demo.Internal. 0 IN A 100.64.0.1"]
    assert answer.question[0].name.to_text() == "ALPHA.Demo.Internal."


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode"),
    [
        ("nobody.demo.internal", "A", dns.rcode.NXDOMAIN),
        ("alpha.alpha.demo.internal", "A", dns.rcode.NXDOMAIN),
        ("beta.demo.internal", "AAAA", dns.rcode.NOERROR),
        ("alpha.demo.internal", "MX", dns.rcode.NOERROR),
        ("alpha.demo.internal", "TYPE65", dns.rcode.NOERROR),
        ("printer.company.test", "AAAA", dns.rcode.NOERROR),
        ("demo.internal", "A", dns.rcode.NOERROR),
        ("demo.internal", "NS", dns.rcode.NOERROR),
        # A name that holds nothing, but under which there is another.
        ("lab.demo.internal", "A", dns.rcode.NOERROR),
        ("0.64.100.in-addr.arpa", "PTR", dns.rcode.NOERROR),
        ("77.0.64.100.in-addr.arpa", "PTR", dns.rcode.NXDOMAIN),
        ("1.0.64.100.in-addr.arpa", "A", dns.rcode.NOERROR),
        ("gone.demo.internal", "A", dns.rcode.NXDOMAIN),
        ("x.invalid", "A", dns.rcode.NXDOMAIN),
        ("x.onion", "A", dns.rcode.NXDOMAIN),
        ("localhost", "MX", dns.rcode.NOERROR),
    ],
)
def test_nxdomain_is_not_nodata_and_neither_outlives_a_map(name, rdtype, rcode):
    answer = ask(name, rdtype)
    assert answer.rcode() == rcode
    assert [line for line in lines(answer) if " CNAME " not in line] == []
    (soa,) = answer.authority
    assert (soa.ttl, soa[0].minimum) == (0, 0)
    target = answer.answer[-1][0].target if answer.answer else answer.question[0].name
    assert target.is_subdomain(soa.name)


def test_the_zone_has_an_soa():
    assert len(ask("demo.internal", "SOA").answer) == 1


def test_aliases_in_a_circle_are_servfail():
    assert ask("round.demo.internal").rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(("short", "leads_to"), [("alpha", "alpha.demo.internal."), ("GIT", "alpha.demo.internal.")])
def test_a_short_name_does_not_leave_the_host(short, leads_to):
    assert f"{leads_to} 0 IN A 100.64.0.1" in lines(ask(short))


def test_a_short_name_is_nobodys_top_level_domain():
    assert isinstance(STUB.answer_now(question("alpha", "NS"), False), Query)
    assert isinstance(STUB.answer_now(question("unknown", "A"), False), Query)


@pytest.mark.parametrize(
    "name",
    [
        "www.example.com",
        ".",
        "internal",
        "xdemo.internal",
        "company.test",
        "1.10.168.192.in-addr.arpa",
        "in-addr.arpa",
        # One label that holds a dot: not below the domain, however it is written.
        "x\\.demo.internal",
        "x\\\\\\.demo.internal",
        # What an alias leads to, if the map does not know it.
        "web.demo.internal",
    ],
)
def test_others_are_asked_for_what_is_not_the_maps(name):
    assert isinstance(STUB.answer_now(question(name), False), Query)


def test_a_backslash_before_the_domain_is_in_it():
    assert ask("x\\\\.demo.internal").rcode() == dns.rcode.NXDOMAIN


def in_pools():
    return st.one_of(
        st.ip_addresses(network="100.64.0.0/10"),
        st.ip_addresses(network="fd5e::/48"),
    )


@given(in_pools())
def test_no_address_of_the_pools_is_asked_of_others(address):
    assert isinstance(STUB.answer_now(question(address.reverse_pointer, "PTR"), False), bytes)


@given(st.ip_addresses(v=4).filter(lambda address: address not in ipaddress.ip_network("100.64.0.0/10")))
def test_no_other_address_is_taken_for_one(address):
    assert isinstance(STUB.answer_now(question(address.reverse_pointer, "PTR"), False), Query)


def test_a_new_map_changes_the_answers_at_once():
    stub = new_stub()
    asked = question("beta.demo.internal"), question("gamma.demo.internal")
    assert [from_map(stub, each).rcode() for each in asked * 2] == [0, 3, 0, 3]
    stub.configure(new_stub(addresses={"gamma.demo.internal": ("100.64.0.3",)})._settings)
    assert [from_map(stub, each).rcode() for each in asked * 2] == [3, 0, 3, 0]


def test_nodes_static_peers_and_records_have_names():
    nodes = (
        Node("Alpha", KIND_NODE, bytes(32), ("100.64.0.1", "fd5e::1")),
        Node("phone", KIND_STATIC, bytes(31) + b"1", ("100.64.0.9",)),
    )
    records = (
        Record("wiki.company.test", "A", "192.168.10.9"),
        Record("w.demo.internal", "CNAME", "phone.demo.internal"),
    )
    netmap = Netmap(
        Network("demo", "demo.internal", ("100.64.0.0/10", "fd5e::/48")), 1, nodes, {}, dns=DnsSettings(records=records)
    )
    names = derive_names(netmap)
    stub = new_stub(addresses=names.addresses, aliases=names.aliases, pointers=names.pointers)
    assert lines(from_map(stub, question("alpha.demo.internal", "AAAA")))[0].endswith(" fd5e::1")
    assert lines(from_map(stub, question("phone.demo.internal")))[0].endswith(" 100.64.0.9")
    assert lines(from_map(stub, question("wiki.company.test")))[0].endswith(" 192.168.10.9")
    assert lines(from_map(stub, question("w.demo.internal")))[0].endswith(" 100.64.0.9")
    assert lines(from_map(stub, question("9.0.64.100.in-addr.arpa", "PTR")))[0].endswith(" phone.demo.internal.")
