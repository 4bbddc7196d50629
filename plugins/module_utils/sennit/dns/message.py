# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host's messages, by dnspython: the one parser of queries, and what every answer of ours has in common.

An answer is written without its ID, which is its client's: so one serves many. What passes from nameservers to
clients is in passing.py.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Optional

try:
    import dns.edns
    import dns.exception
    import dns.flags
    import dns.message
    import dns.name
    import dns.rcode
    import dns.rdataclass
    import dns.rdatatype
    import dns.rrset
except ImportError as error:  # the agent goes on without names, and says so
    DNSPYTHON_IMPORT_ERROR: Optional[ImportError] = error
    dns = None  # type: ignore[assignment]
else:
    DNSPYTHON_IMPORT_ERROR = None

__all__ = [
    "DNSPYTHON_IMPORT_ERROR",
    "HEADER",
    "MAX_MESSAGE",
    "OPT",
    "OPT_TYPE",
    "PLAIN_UDP_SIZE",
    "UDP_SIZE",
    "Key",
    "MessageError",
    "Query",
    "dns",
    "failure",
    "new_answer",
    "parse_query",
    "refusal",
    "suffixes",
    "to_wire",
    "written",
]

MAX_MESSAGE = 65535
PLAIN_UDP_SIZE = 512
"""What a UDP answer may be long if the query has no EDNS (RFC 1035, section 4.2.1)."""

UDP_SIZE = 1232
"""What we offer to take by UDP: no fragments on any path (DNS flag day 2020)."""

HEADER = struct.Struct(">HHHHHH")
"""ID, flags, and how many records are in the sections question, answer, authority and additional."""

OPT = struct.Struct(">BHHBBHH")
"""An OPT record without options: root, type, UDP size, upper bits of the rcode, version, flags, length (RFC 6891)."""

OPT_TYPE = 41
DO = 0x8000
_MAX_ADDITIONAL = 4
_MAX_DATAGRAM = MAX_MESSAGE - 20 - 8  # less the headers of IPv4 and UDP
_ESCAPE = re.compile(r"\\([^0-9])")


Key = tuple[str, int, int, int, bool]
"""What two queries have in common that one answer serves: name, type, class, flags, DO."""


class MessageError(Exception):
    """Bytes that are no DNS message we can use; `rcode` is what their sender is told, None: nothing."""

    def __init__(self, text: str, rcode: Optional[int] = None) -> None:
        super().__init__(text)
        self.rcode = rcode


class Query:
    """One question of class IN or ANY, and how it was asked, without the ID.

    owner: the name as it was asked. name: in lower case, as text without the final dot ("" is the root); a dot in it
    always ends a label. question: the section's bytes. flags: which of RD, CD and AD it has. edns, dnssec_ok: whether
    it has an OPT record, and the flag DO in it. udp_size: the longest answer that its client takes by UDP.
    """

    __slots__ = ("dnssec_ok", "edns", "flags", "name", "owner", "question", "rdclass", "type", "udp_size")

    def __init__(
        self,
        owner: dns.name.Name,
        rdtype: dns.rdatatype.RdataType,
        rdclass: dns.rdataclass.RdataClass,
        flags: int,
        *,
        ednsflags: Optional[int] = None,
        udp_size: int = PLAIN_UDP_SIZE,
    ) -> None:
        self.owner = owner
        self.name = _text(owner)
        self.type = rdtype
        self.rdclass = rdclass
        self.question = (owner.to_wire() or b"") + struct.pack(">HH", rdtype, rdclass)
        self.flags = flags & (dns.flags.RD | dns.flags.CD | dns.flags.AD)
        self.edns = ednsflags is not None
        self.dnssec_ok = bool((ednsflags or 0) & DO)
        self.udp_size = min(max(PLAIN_UDP_SIZE, udp_size), _MAX_DATAGRAM)

    @property
    def key(self) -> Key:
        return self.name, self.type, self.rdclass, self.flags, self.dnssec_ok

    def asking(self, owner: dns.name.Name) -> Query:
        """The same, of another name."""
        ednsflags = (DO if self.dnssec_ok else 0) if self.edns else None
        return Query(owner, self.type, self.rdclass, self.flags, ednsflags=ednsflags, udp_size=self.udp_size)


def parse_query(wire: bytes) -> Query:
    """The query in these bytes. Raises MessageError, and nothing else, whatever they are."""
    if len(wire) < HEADER.size:
        raise MessageError("shorter than a header")
    _id, flags, questions, answers, authorities, additional = HEADER.unpack_from(wire)
    if flags & dns.flags.QR:
        raise MessageError("a response, not a query")
    if flags & 0x7800:
        raise MessageError("an opcode other than QUERY", dns.rcode.NOTIMP)
    # A name may be a chain of thousands of pointers. Few names, and the time that they take is bounded, too.
    if questions != 1 or answers or authorities or additional > _MAX_ADDITIONAL:
        raise MessageError("other sections than a query has", dns.rcode.FORMERR)
    try:
        message = dns.message.from_wire(wire)
    # dnspython wraps what its records' parsers raise only since 2.1; before, theirs come through.
    except (dns.exception.DNSException, ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise MessageError(f"malformed: {type(error).__name__}", dns.rcode.FORMERR) from error
    if message.edns > 0:
        raise MessageError(f"EDNS version {message.edns}", dns.rcode.BADVERS)
    question = message.question[0]
    if question.rdclass not in (dns.rdataclass.IN, dns.rdataclass.ANY):
        raise MessageError("a class other than IN", dns.rcode.REFUSED)
    if question.rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR, dns.rdatatype.OPT):
        raise MessageError("a transfer, or no type to ask for", dns.rcode.REFUSED)
    ednsflags, size = (message.ednsflags, message.payload) if message.edns == 0 else (None, PLAIN_UDP_SIZE)
    return Query(question.name, question.rdtype, question.rdclass, flags, ednsflags=ednsflags, udp_size=size)


def suffixes(name: str) -> Iterator[str]:
    """The name itself, then the domains that it is in, the longest first; "", the root, is the last."""
    while name:
        yield name
        name = name.partition(".")[2]
    yield ""


def refusal(wire: bytes, rcode: int) -> bytes:
    """An answer to bytes that could not be read further than their header (which they have), without the ID."""
    flags = dns.flags.QR | dns.flags.RA | int.from_bytes(wire[2:4], "big") & 0x7900  # the opcode, and RD
    if rcode == dns.rcode.BADVERS:  # takes an OPT record to say (RFC 6891, section 6.1.3)
        opt = OPT.pack(0, OPT_TYPE, UDP_SIZE, rcode >> 4, 0, 0, 0)
        return (HEADER.pack(0, flags | rcode & 15, 0, 0, 0, 1) + opt)[2:]
    return HEADER.pack(0, flags | rcode, 0, 0, 0, 0)[2:]


def new_answer(query: Query, rcode: Optional[dns.rcode.Rcode] = None) -> dns.message.Message:
    """An answer without records: the client's question in its own case, and EDNS if it has it. None is NOERROR."""
    answer = dns.message.make_query(query.owner, query.type, query.rdclass)
    answer.id = 0
    answer.flags = dns.flags.QR | dns.flags.RA | query.flags & (dns.flags.RD | dns.flags.CD)
    if query.edns:
        answer.use_edns(0, DO if query.dnssec_ok else 0, UDP_SIZE)
    if rcode is not None:
        answer.set_rcode(rcode)
    return answer


def to_wire(answer: dns.message.Message, limit: int) -> bytes:
    """The answer in at most `limit` bytes. One that does not fit loses its records and has TC set (RFC 2181, 9).

    Raises MessageError if it cannot be written at all.
    """
    try:
        try:
            return bytes(answer.to_wire(max_size=limit))
        except dns.exception.TooBig:
            answer.answer, answer.authority, answer.additional = [], [], []
            answer.flags |= dns.flags.TC
            return bytes(answer.to_wire(max_size=max(limit, PLAIN_UDP_SIZE)))
    except (dns.exception.DNSException, ValueError, OverflowError, struct.error) as error:
        raise MessageError(f"cannot be written: {error}", dns.rcode.SERVFAIL) from error


def written(answer: dns.message.Message, query: Query, tcp: bool) -> bytes:
    """The answer as its client takes it, without the ID."""
    return to_wire(answer, MAX_MESSAGE if tcp else query.udp_size)[2:]


def failure(query: Query) -> bytes:
    """SERVFAIL, without the ID."""
    return to_wire(new_answer(query, dns.rcode.SERVFAIL), PLAIN_UDP_SIZE)[2:]


def _text(name: dns.name.Name) -> str:
    text = str(name.to_text(omit_final_dot=True)).lower() if name != dns.name.root else ""
    # A dot within a label is none between two.
    return _ESCAPE.sub(lambda escape: f"\\{ord(escape[1]):03}", text) if "\\" in text else text
