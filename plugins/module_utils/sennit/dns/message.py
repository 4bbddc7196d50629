# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DNS messages, by dnspython: the one parser of queries and of answers, and what every answer of ours has in common."""

from __future__ import annotations

import struct
from typing import Optional

try:
    import dns.edns
    import dns.exception
    import dns.flags
    import dns.message
    import dns.name
    import dns.opcode
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
    "HEADER_LENGTH",
    "MAX_MESSAGE",
    "PLAIN_UDP_SIZE",
    "UDP_SIZE",
    "MessageError",
    "Query",
    "dns",
    "new_answer",
    "parse_answer",
    "parse_query",
    "refusal",
    "to_wire",
]

MAX_MESSAGE = 65535
HEADER_LENGTH = 12
PLAIN_UDP_SIZE = 512
"""What a UDP answer may be long if the query has no EDNS (RFC 1035, section 4.2.1)."""

UDP_SIZE = 1232
"""What we offer, and the most we send ourselves: no fragments on any path (DNS flag day 2020)."""

_QR = 0x80
_ADDITIONAL_ONLY = struct.pack(">HHHH", 0, 0, 0, 1)  # the counts of a header whose message is one OPT record


class MessageError(Exception):
    """Bytes that are no DNS message we can use; `rcode` is what their sender is told, None: nothing."""

    def __init__(self, text: str, rcode: Optional[int] = None) -> None:
        super().__init__(text)
        self.rcode = rcode


class Query:
    """A query with exactly one question, of class IN or ANY.

    name: lower case, as text without the final dot ("" is the root). udp_size: the longest answer
    that the client takes by UDP.
    """

    __slots__ = ("message", "name", "type", "udp_size")

    def __init__(self, message: dns.message.Message) -> None:
        question = message.question[0]
        self.message = message
        self.name = question.name.to_text(omit_final_dot=True).lower() if question.name != dns.name.root else ""
        self.type = question.rdtype
        self.udp_size = max(PLAIN_UDP_SIZE, message.payload) if message.edns >= 0 else PLAIN_UDP_SIZE

    @property
    def key(self) -> tuple[str, int, int, int]:
        """What two queries have in common that one answer serves: name, type, class, and the flags RD, CD and DO."""
        message = self.message
        flags = message.flags & (dns.flags.RD | dns.flags.CD)
        return (
            self.name,
            int(self.type),
            int(message.question[0].rdclass),
            int(flags) << 16 | (message.ednsflags & 0x8000),
        )


def parse_query(wire: bytes) -> Query:
    """The query in these bytes. Raises MessageError, and nothing else, whatever they are."""
    if len(wire) < HEADER_LENGTH:
        raise MessageError("shorter than a header")
    if wire[2] & _QR:
        raise MessageError("a response, not a query")
    if wire[2] & 0x78:
        raise MessageError("an opcode other than QUERY", dns.rcode.NOTIMP)
    message = _parse(wire)
    if len(message.question) != 1:
        raise MessageError(f"{len(message.question)} questions", dns.rcode.FORMERR)
    if message.edns > 0:
        raise MessageError(f"EDNS version {message.edns}", dns.rcode.BADVERS)
    if message.question[0].rdclass not in (dns.rdataclass.IN, dns.rdataclass.ANY):
        raise MessageError("a class other than IN", dns.rcode.REFUSED)
    if message.question[0].rdtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR, dns.rdatatype.OPT):
        raise MessageError("a transfer, or no type to ask for", dns.rcode.REFUSED)
    return Query(message)


def parse_answer(wire: bytes, asked: dns.message.Message) -> dns.message.Message:
    """The answer to what was asked. Raises MessageError for anything else."""
    if len(wire) < HEADER_LENGTH or not wire[2] & _QR:
        raise MessageError("not a response")
    message = _parse(wire)
    if not asked.is_response(message) or (message.rcode() == dns.rcode.NOERROR and not message.question):
        raise MessageError("a response to something else")
    return message


def refusal(wire: bytes, rcode: int) -> bytes:
    """An answer to bytes that could not be read further than their header (which they have)."""
    flags = wire[2] & 0x79
    if rcode == dns.rcode.BADVERS:  # takes an OPT record to say (RFC 6891, section 6.1.3)
        opt = struct.pack(">BHHBBHH", 0, dns.rdatatype.OPT, UDP_SIZE, rcode >> 4, 0, 0, 0)
        return wire[:2] + bytes((flags | _QR, 0x80 | rcode & 15)) + _ADDITIONAL_ONLY + opt
    return wire[:2] + bytes((flags | _QR, 0x80 | rcode)) + bytes(8)


def new_answer(query: Query, rcode: Optional[dns.rcode.Rcode] = None) -> dns.message.Message:
    """An answer without records: the client's question in its own case, and EDNS if it has it. None is NOERROR."""
    answer = dns.message.make_response(query.message, recursion_available=True, our_payload=UDP_SIZE)
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


def _parse(wire: bytes) -> dns.message.Message:
    try:
        return dns.message.from_wire(wire)
    # dnspython wraps what its records' parsers raise only since 2.1; before, theirs come through.
    except (dns.exception.DNSException, ValueError, IndexError, KeyError, TypeError, struct.error) as error:
        raise MessageError(f"malformed: {type(error).__name__}", dns.rcode.FORMERR) from error
