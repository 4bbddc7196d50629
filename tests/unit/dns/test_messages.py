"""Queries as they are on the wire: any bytes in, an answer or silence out."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.dns.helpers import ADDRESSES, ALIASES, from_map, lines, new_stub, question

from sennit.dns import message
from sennit.dns.message import Query

NAMES = st.sampled_from([*ADDRESSES, *ALIASES, "nobody.demo.internal", "www.example.com", "alpha", "."])
TYPES = st.sampled_from(["A", "AAAA", "PTR", "CNAME", "ANY", "SOA", "TXT", "TYPE65"])
STUB = new_stub()


def header(flags=0x0100, questions=1, answers=0, authorities=0, additional=0):
    return struct.pack(">HHHHHH", 77, flags, questions, answers, authorities, additional)


def check_outcome(wire, tcp):
    """Silence, an answer that can be read and fits, or a query to pass on."""
    found = STUB.answer_now(wire, tcp)
    if isinstance(found, Query) or not found:
        return
    assert found[0] & 0x80
    if found[1] & 15 == dns.rcode.NOTIMP:  # not each version of dnspython reads an opcode that it does not know
        assert len(found) == 10
        return
    answer = dns.message.from_wire(wire[:2] + found)
    assert len(found) + 2 <= (65535 if tcp else 65535 if answer.edns >= 0 else 512)


@given(st.binary(max_size=600), st.booleans())
def test_any_bytes(wire, tcp):
    check_outcome(wire, tcp)


@given(st.binary(max_size=600), st.integers(0, 5), st.booleans())
def test_any_bytes_behind_the_header_of_a_query(body, additional, tcp):
    check_outcome(header(additional=additional) + body, tcp)


@given(
    NAMES,
    TYPES,
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=6),
    st.booleans(),
)
def test_queries_with_some_bytes_changed(name, rdtype, changes, tcp):
    wire = bytearray(question(name, rdtype, edns=1232))
    for at, value in changes:
        wire[at % len(wire)] = value
    check_outcome(bytes(wire), tcp)


@given(NAMES, TYPES, st.none() | st.integers(0, 65535), st.booleans())
def test_the_second_answer_is_the_first(name, rdtype, edns, tcp):
    wire = question(name, rdtype, edns=edns)
    other = b"\xff\xff" + wire[2:]
    first, second, fresh = STUB.answer_now(wire, tcp), STUB.answer_now(other, tcp), new_stub().answer_now(other, tcp)
    if isinstance(first, Query):
        assert first.key == second.key == fresh.key
    else:
        assert first == second
        # Older versions of dnspython write the records of one name in any order.
        once, again = (dns.message.from_wire(wire[:2] + each) for each in (first, fresh))
        assert once == again
        assert (once.rcode(), once.flags, once.edns, lines(once)) == (
            again.rcode(),
            again.flags,
            again.edns,
            lines(again),
        )


@pytest.mark.parametrize(
    "name",
    [
        b"\xc0\x0c",  # points to itself
        b"\x01a\xc0\x0c",  # to the label before it
        b"\xc0\x20" + bytes(30),  # forward
        b"\xc0",  # to nowhere
        b"\x3fabc",  # a label that does not end
        b"\x80abc\x00",  # of a kind that there is none of
        (b"\x3f" + b"a" * 63) * 4 + b"\x00",  # 257 bytes
        (b"\x01a") * 127 + b"\x01a\x00",
    ],
)
def test_names_that_are_none(name):
    assert from_map(STUB, header() + name + b"\x00\x01\x00\x01").rcode() == dns.rcode.FORMERR


def test_a_name_of_255_bytes_is_one():
    name = ".".join(["a" * 63] * 3 + ["a" * 47, "demo.internal"])
    assert len(dns.name.from_text(name).to_wire()) == 255
    assert from_map(STUB, question(name)).rcode() == dns.rcode.NXDOMAIN


def test_64_kb_of_names_are_not_even_read(monkeypatch):
    """Each of them would be a chain of thousands of pointers."""
    monkeypatch.setattr(dns.message, "from_wire", lambda *_arguments: pytest.fail("was parsed"))
    records = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00" * 5000
    for sections in ({"answers": 5000}, {"authorities": 5000}, {"additional": 5000}, {"questions": 5000}):
        found = STUB.answer_now(header(**sections) + b"\x00\x00\x01\x00\x01" + records, True)
        assert found[1] & 15 == dns.rcode.FORMERR


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.binary(max_size=8))
def test_64_kb_of_anything(additional, pattern):
    body = (pattern or b"\xc0\x0c") * 65535
    check_outcome((header(additional=additional) + body)[:65535], True)


@pytest.mark.parametrize(
    ("wire", "rcode"),
    [
        (header(flags=0x2000), dns.rcode.NOTIMP),  # NOTIFY
        (header(flags=0x2800), dns.rcode.NOTIMP),  # UPDATE
        (header(questions=0), dns.rcode.FORMERR),
        (header(questions=2) + b"\x00\x00\x01\x00\x01" * 2, dns.rcode.FORMERR),
        (header() + b"\x00\x00\x01\x00\x03", dns.rcode.REFUSED),  # class CH
        (header() + b"\x00\x00\xfc\x00\x01", dns.rcode.REFUSED),  # AXFR
        (header() + b"\x00\x00\x29\x00\x01", dns.rcode.REFUSED),  # OPT
        (header() + b"\x00\x00\x01\x00\x01trailing", dns.rcode.FORMERR),
    ],
)
def test_what_is_refused(wire, rcode):
    answer = from_map(STUB, wire)
    assert (answer.rcode(), answer.id) == (rcode, 77)


@pytest.mark.parametrize("wire", [b"", b"\x00" * 11, header(flags=0x8100) + b"\x00\x00\x01\x00\x01"])
def test_what_gets_silence(wire):
    assert STUB.answer_now(wire, False) == b""


def test_a_later_version_of_edns_is_told_ours():
    query = dns.message.make_query("alpha.demo.internal", "A")
    query.use_edns(1)
    answer = from_map(STUB, query.to_wire())
    assert (answer.rcode(), answer.edns) == (dns.rcode.BADVERS, 0)


@pytest.mark.parametrize(
    ("edns", "tcp", "limit"),
    [(None, False, 512), (100, False, 512), (1232, False, 1232), (4096, False, 4096), (600, True, 65535)],
)
def test_an_answer_is_as_long_as_its_client_takes(edns, tcp, limit):
    """300 addresses take about 4,850 bytes."""
    wire = question("many.demo.internal", edns=edns)
    found = STUB.answer_now(wire, tcp)
    answer = from_map(STUB, wire, tcp)
    assert len(found) + 2 <= limit
    assert bool(answer.flags & dns.flags.TC) == (not tcp)
    assert len(lines(answer)) == (300 if tcp else 0)
    assert len(answer.question) == 1


def test_a_long_answer_by_udp_to_whom_takes_it():
    assert len(lines(from_map(STUB, question("many.demo.internal", edns=8192)))) == 300


def test_edns_is_for_those_who_have_it():
    assert from_map(STUB, question("alpha.demo.internal")).edns == -1
    plain = from_map(STUB, question("alpha.demo.internal", edns=1232))
    assert (plain.edns, plain.payload, plain.ednsflags) == (0, message.UDP_SIZE, 0)
    secure = from_map(STUB, question("alpha.demo.internal", want_dnssec=True))
    assert secure.ednsflags == dns.flags.DO


def test_unknown_options_of_edns_are_ignored():
    query = dns.message.make_query("alpha.demo.internal", "A")
    query.use_edns(0, 0, 1232, options=[dns.edns.GenericOption(65001, b"abc"), dns.edns.GenericOption(10, bytes(8))])
    answer = from_map(STUB, query.to_wire())
    assert (len(lines(answer)), answer.options) == (1, ())


def test_rd_and_cd_come_back():
    for flags in (0, dns.flags.RD, dns.flags.CD, dns.flags.RD | dns.flags.CD):
        query = dns.message.make_query("alpha.demo.internal", "A")
        query.flags = flags
        assert from_map(STUB, query.to_wire()).flags & (dns.flags.RD | dns.flags.CD) == flags


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr("sennit.dns.stub.MAX_MEMO", 10)
    stub = new_stub()
    for number in range(100):
        assert from_map(stub, question(f"n{number}.demo.internal")).rcode() == dns.rcode.NXDOMAIN
        assert len(stub._memos[False]) <= 10
