"""What passes from nameservers to clients."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dns.helpers import query, question

from sennit.dns.message import MessageError, parse_query
from sennit.dns.passing import Answer, OtherMessageError, question_for

NAME = "www.Example.com"
LABELS = st.text(alphabet="abcXYZ09-_", min_size=1, max_size=20)
OPAQUE = st.binary(max_size=40).map(lambda data: f"\\# {len(data)} {data.hex()}")
RECORDS = st.lists(
    st.one_of(
        st.tuples(LABELS, st.just("A"), st.ip_addresses(v=4).map(str)),
        st.tuples(LABELS, st.just("AAAA"), st.ip_addresses(network="2001:db8::/32").map(str)),
        st.tuples(LABELS, st.just("MX"), LABELS.map(lambda label: f"10 {label}.example.com.")),
        st.tuples(
            LABELS, st.just("TYPE65280"), st.binary(max_size=40).map(lambda data: f"\\# {len(data)} {data.hex()}")
        ),
    ),
    max_size=8,
)


def said(asked, answer=(), authority=(), additional=(), *, rcode=0, flags=0, edns=True):
    """A nameserver's message, before it is bytes."""
    message = dns.message.make_response(dns.message.from_wire(question_for(asked, 77)), recursion_available=True)
    message.flags |= flags
    if edns:
        message.use_edns(0, 0, 1232, options=[dns.edns.GenericOption(65001, b"of the nameserver")])
    else:
        message.use_edns(False)
    message.set_rcode(rcode)
    for section, records in (
        (message.answer, answer),
        (message.authority, authority),
        (message.additional, additional),
    ):
        for label, rdtype, value in records:
            section.append(dns.rrset.from_text(f"{label}.example.com.", 300, "IN", rdtype, value))
    return message


def passed(message, asked, client=None, tcp=True):
    """What the client of this query gets."""
    client = client or asked
    return dns.message.from_wire(b"\x00\x07" + Answer(message.to_wire(), asked.question, 77).passed_on(client, tcp))


def in_lines(records):
    """In lower case, for names end as the client wrote the question's; each once, as dnspython has them."""
    return sorted({line.lower() for each in records for line in each.to_text().splitlines()})


@given(st.tuples(RECORDS, RECORDS, RECORDS), st.booleans(), st.sampled_from([None, 512, 1232, 4096]), st.booleans())
def test_every_record_passes_as_it_is(sections, edns, size, secure):
    asked = query(NAME)
    client = parse_query(question(NAME.upper(), edns=size, want_dnssec=secure))
    message = said(asked, *sections, edns=edns)
    found = passed(message, asked, client)
    assert in_lines(found.answer) == in_lines(message.answer)
    assert in_lines(found.authority) == in_lines(message.authority)
    # There are nameservers that write OPT first, as older versions of dnspython do; what is behind it is left out.
    assert in_lines(found.additional) in (
        [in_lines(message.additional), []] if edns else [in_lines(message.additional)]
    )
    assert found.id == 7
    assert found.question[0].name.to_text() == f"{NAME.upper()}."
    assert (found.edns >= 0) == client.edns == (size is not None or secure)
    assert found.options == ()
    assert bool(found.ednsflags & dns.flags.DO) == secure


@given(RECORDS, RECORDS, st.sampled_from([None, 512, 700, 1232]))
def test_what_does_not_fit_is_truncated(answer, authority, size):
    asked, client = query(NAME), query(NAME, edns=size)
    received = Answer(said(asked, answer, authority).to_wire(), asked.question, 77)
    whole, found = received.passed_on(client, True), received.passed_on(client, False)
    if len(whole) + 2 <= (size or 512):
        assert found == whole
        return
    truncated = dns.message.from_wire(b"\x00\x07" + found)
    assert truncated.flags & dns.flags.TC
    assert not (truncated.answer or truncated.authority or truncated.additional)
    assert (truncated.edns >= 0) == (size is not None)


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_an_answer_or_a_message_error(body, tcp):
    asked = query(NAME)
    for wire in (body, struct.pack(">HHHHHH", 77, 0x8180, 1, 3, 1, 2) + asked.question + body):
        try:
            answer = Answer(wire, asked.question, 77)
        except MessageError:
            continue
        assert len(answer.passed_on(asked, tcp)) + 2 <= (65535 if tcp else 512)
        try:
            answer.decoded()
        except MessageError:
            continue


@given(RECORDS, st.lists(st.tuples(st.integers(12, 400), st.integers(0, 255)), min_size=1, max_size=5))
def test_an_answer_with_some_bytes_changed(records, changes):
    asked = query(NAME)
    wire = bytearray(said(asked, records, records).to_wire())
    for at, value in changes:
        wire[at % len(wire)] = value
    try:
        answer = Answer(bytes(wire), asked.question, 77)
        answer.passed_on(query(NAME, edns=4096), True)
        answer.decoded()
    except MessageError:
        pass


def test_pointers_are_not_followed():
    """64 KB of records whose names are chains of pointers: nobody walks along them."""
    asked = query(NAME)
    chain = b"".join(struct.pack(">H", 0xC000 | at) for at in range(29, 16000, 2))
    record = b"\xff\xfe\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00"
    first = b"\x00\x00\x0a\x00\x01\x00\x00\x00\x00" + struct.pack(">H", len(chain)) + chain
    records = first + record * ((65535 - 12 - len(asked.question) - len(first)) // len(record))
    count = 1 + (len(records) - len(first)) // len(record)
    wire = struct.pack(">HHHHHH", 77, 0x8180, 1, count, 0, 0) + asked.question + records
    answer = Answer(wire, asked.question, 77)
    assert answer.passed_on(asked, True)[-len(records) :] == records
    with pytest.raises(MessageError, match="too long"):
        answer.decoded()


@pytest.mark.parametrize(
    "change",
    [
        lambda wire: wire[:11],
        lambda wire: b"\x00\x4e" + wire[2:],  # another ID
        lambda wire: wire[:2] + b"\x01" + wire[3:],  # a query
        lambda wire: wire[:2] + b"\xa9" + wire[3:],  # another opcode
        lambda wire: wire[:4] + b"\x00\x00" + wire[6:],  # no question, but an answer
        lambda wire: wire[:4] + b"\x00\x02" + wire[6:],
        lambda wire: wire[:13] + b"x" + wire[14:],  # another name
        lambda wire: wire.replace(b"\x00\x00\x01\x00\x01", b"\x00\x00\x1c\x00\x01", 1),  # another type
    ],
)
def test_others_messages_are_told_from_the_answer(change):
    asked = query("www.example.com")
    wire = said(asked, [("www", "A", "192.0.2.1")]).to_wire()
    Answer(wire, asked.question, 77)
    with pytest.raises(OtherMessageError):
        Answer(change(wire), asked.question, 77)


@pytest.mark.parametrize("keep", [-1, -12, 40])
def test_an_answer_that_does_not_end_is_malformed(keep):
    asked = query("www.example.com")
    wire = said(asked, [("www", "A", "192.0.2.1"), ("mail", "A", "192.0.2.2")], edns=False).to_wire()
    with pytest.raises(MessageError) as error:
        Answer(wire[:keep], asked.question, 77)
    assert not isinstance(error.value, OtherMessageError)


def test_the_question_may_come_back_in_another_case():
    asked = query("www.example.com")
    wire = said(query("WWW.EXAMPLE.COM"), [("www", "A", "192.0.2.1")]).to_wire()
    assert Answer(wire, asked.question, 77).rcode == 0


def test_an_error_may_come_without_the_question():
    wire = struct.pack(">HHHHHH", 77, 0x8181, 0, 0, 0, 0)
    assert Answer(wire, query(NAME).question, 77).rcode == dns.rcode.FORMERR


def test_records_behind_opt_are_left_out():
    asked = query("www.example.com")
    wire = said(asked, [("www", "A", "192.0.2.1")]).to_wire()
    extra = b"\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04abcd"
    wire = wire[:10] + b"\x00\x02" + wire[12:] + extra
    found = dns.message.from_wire(b"\x00\x07" + Answer(wire, asked.question, 77).passed_on(query(NAME), True))
    assert in_lines(found.answer) == ["www.example.com. 300 in a 192.0.2.1"]
    assert not found.additional


def test_the_upper_bits_of_an_rcode_are_in_opt():
    asked = query("www.example.com")
    message = said(asked)
    message.set_rcode(dns.rcode.BADVERS)
    assert Answer(message.to_wire(), asked.question, 77).rcode == dns.rcode.BADVERS


@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_rcode_and_aa_pass(rcode):
    asked = query("www.example.com")
    found = passed(said(asked, rcode=rcode, flags=dns.flags.AA), asked)
    assert found.rcode() == rcode
    assert found.flags & dns.flags.AA


def test_ad_is_for_those_who_asked():
    asked = query("www.example.com")
    message = said(asked, flags=dns.flags.AD)
    assert not passed(message, asked).flags & dns.flags.AD
    with_ad = dns.message.make_query("www.example.com", "A")
    with_ad.flags |= dns.flags.AD
    for client in (with_ad.to_wire(), question("www.example.com", want_dnssec=True)):
        assert passed(message, asked, parse_query(client)).flags & dns.flags.AD


def test_what_a_nameserver_is_asked():
    asked = dns.message.from_wire(question_for(parse_query(question(NAME, "MX", want_dnssec=True)), 4711))
    assert (asked.id, asked.flags, asked.edns, asked.payload) == (4711, dns.flags.RD, 0, 1232)
    assert asked.ednsflags == dns.flags.DO
    assert asked.question[0].to_text() == f"{NAME}. IN MX"
    assert dns.message.from_wire(question_for(query(NAME), 1, edns=False)).edns == -1
