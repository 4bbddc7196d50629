# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What passes from a nameserver to clients: its records, byte for byte; header, question and OPT are the client's.

Nothing in the records is decoded. So no answer takes longer than it takes to go once through its bytes, records of
types that nobody here knows pass, and compression pointers stay true: the question before them has the same length.
"""

from __future__ import annotations

import struct

from .message import DO, HEADER, MAX_MESSAGE, OPT, OPT_TYPE, UDP_SIZE, MessageError, Query, dns

MAX_DECODED = 8192
"""An answer that is to be decoded may be so long: for a person, or to be joined with an alias of the map."""

_RECORD = struct.Struct(">HHIH")
_POINTER = 0xC0
_CLIENT_FLAGS = 0x0110  # RD and CD


class OtherMessageError(MessageError):
    """Not the answer to what was asked: of another question, or nobody's."""


class Answer:
    """A nameserver's answer. The rcode's upper bits are those of its OPT record."""

    __slots__ = ("_counts", "_end", "_start", "flags", "rcode", "truncated", "wire")

    def __init__(self, wire: bytes, question: bytes, ident: int) -> None:
        """Raises OtherMessageError, or MessageError for the answer to this question if it is malformed."""
        if len(wire) < HEADER.size:
            raise OtherMessageError("shorter than a header")
        found, self.flags, questions, *counts = HEADER.unpack_from(wire)
        if found != ident or self.flags & 0xF800 != 0x8000:
            raise OtherMessageError("not the response to our query")
        self.wire = wire
        self.rcode = self.flags & 15
        self.truncated = bool(self.flags & 0x0200)
        self._start = self._end = HEADER.size
        self._counts = (0, 0, 0)
        if questions == 0 and self.rcode and not any(counts):
            return  # some answer so what they cannot read
        self._start = self._end = HEADER.size + len(question)
        asked = wire[HEADER.size : self._start]
        if questions != 1 or asked[:-4].lower() != question[:-4].lower() or asked[-4:] != question[-4:]:
            raise OtherMessageError("the response to another question")
        if not self.truncated:
            self._walk(counts[0], counts[1], counts[2])

    def _walk(self, answers: int, authorities: int, additional: int) -> None:
        """Find where the records end that are passed on: before the OPT record, which is between two neighbours."""
        at, kept = self._start, 0
        try:
            for number in range(answers + authorities + additional):
                start = at
                at = _after_name(self.wire, at)
                rdtype, _size, ttl, length = _RECORD.unpack_from(self.wire, at)
                at += _RECORD.size + length
                if rdtype == OPT_TYPE:
                    if number < answers + authorities:
                        raise MessageError("malformed: an OPT record among the answers")
                    self.rcode |= ttl >> 20 & 0xFF0
                    at = start
                    break
                kept += 1
        except (IndexError, struct.error) as error:
            raise MessageError("malformed: its records do not end") from error
        if at > len(self.wire):
            raise MessageError("malformed: its last record does not end")
        self._end = at
        self._counts = (answers, authorities, kept - answers - authorities)

    def passed_on(self, query: Query, tcp: bool) -> bytes:
        """For this client, without the ID; TC and no records if it is longer than the client takes."""
        flags = 0x8080 | self.flags & 0x0400 | query.flags & _CLIENT_FLAGS | self.rcode
        if query.dnssec_ok or query.flags & dns.flags.AD:  # who did not ask would not know what it says (RFC 6840, 5.8)
            flags |= self.flags & dns.flags.AD
        opt = OPT.pack(0, OPT_TYPE, UDP_SIZE, 0, 0, DO if query.dnssec_ok else 0, 0) if query.edns else b""
        head, answers, authorities, additional = query.question, *self._counts
        length = HEADER.size + len(head) + self._end - self._start + len(opt)
        if length > (MAX_MESSAGE if tcp else query.udp_size):
            return (HEADER.pack(0, flags | 0x0200, 1, 0, 0, query.edns) + head + opt)[2:]
        header = HEADER.pack(0, flags, 1, answers, authorities, additional + query.edns)
        return b"".join((header[2:], head, self.wire[self._start : self._end], opt))

    def decoded(self) -> dns.message.Message:
        """By dnspython. Raises MessageError if it is malformed, or longer than MAX_DECODED."""
        if len(self.wire) > MAX_DECODED:
            raise MessageError(f"an answer of {len(self.wire)} bytes, too long to be shown")
        try:
            return dns.message.from_wire(self.wire, ignore_trailing=True)
        except (dns.exception.DNSException, ValueError, IndexError, KeyError, TypeError, struct.error) as error:
            raise MessageError(f"malformed: {type(error).__name__}") from error


def question_for(query: Query, ident: int, edns: bool = True) -> bytes:
    """What a nameserver is asked for a client's query: the same question and flags, with our own EDNS or with none."""
    header = HEADER.pack(ident, query.flags, 1, 0, 0, edns)
    opt = OPT.pack(0, OPT_TYPE, UDP_SIZE, 0, 0, DO if query.dnssec_ok else 0, 0) if edns else b""
    return header + query.question + opt


def _after_name(wire: bytes, at: int) -> int:
    """Where the name that begins here ends; pointers are not followed. Raises IndexError and MessageError."""
    while True:
        length = wire[at]
        if length >= _POINTER:
            return at + 2
        if length >= 64:
            raise MessageError("malformed: a label of an unknown kind")
        at += 1 + length
        if not length:
            return at
