"""The exchange with one nameserver, over sockets of the loopback device."""

import asyncio
import socket
import struct

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from tests.unit.dns.helpers import query

from sennit.dns import nameserver
from sennit.dns.nameserver import NameserverError, exchange

ASKED = "www.example.com"


def response(wire, *, rcode=0, flags=0, records=1, ident=None, name=None):
    """What a nameserver answers to these bytes."""
    asked = dns.message.from_wire(wire)
    message = dns.message.make_response(asked, recursion_available=True)
    if name:
        message.question = [
            dns.rrset.RRset(dns.name.from_text(name), asked.question[0].rdclass, asked.question[0].rdtype)
        ]
    message.flags |= flags
    message.set_rcode(rcode)
    for number in range(records):
        message.answer.append(
            dns.rrset.from_text(asked.question[0].name, 60, "IN", "A", f"203.0.{113 + number // 256}.{number % 256}")
        )
    found = bytearray(message.to_wire(max_size=65535))
    if ident is not None:
        found[:2] = struct.pack(">H", (asked.id + ident) & 0xFFFF)
    return bytes(found)


class Server:
    """A nameserver on the loopback device. by_udp and by_tcp: the messages that each query gets, in order."""

    def __init__(self, by_udp, by_tcp=lambda _wire: []):
        self.by_udp = by_udp
        self.by_tcp = by_tcp
        self.asked = []
        """Each query's kind, port and bytes."""

    def __enter__(self):
        while True:
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._udp.bind(("127.0.0.1", 0))
            self._udp.setblocking(False)
            self.port = self._udp.getsockname()[1]
            self._tcp = socket.socket()
            self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self._tcp.bind(("127.0.0.1", self.port))
            except OSError:  # somebody's by TCP
                self.__exit__()
            else:
                return self

    def __exit__(self, *_exception):
        self._udp.close()
        self._tcp.close()

    def ask(self, asked, monkeypatch, timeouts=(5.0, 5.0), times=1):
        """The last of so many exchanges."""
        monkeypatch.setattr(nameserver, "PORT", self.port)
        monkeypatch.setattr(nameserver, "UDP_TIMEOUTS", timeouts)

        async def work():
            loop = asyncio.get_running_loop()
            loop.add_reader(self._udp, self._readable)
            tcp = await asyncio.start_server(self._serve, sock=self._tcp) if self.by_tcp else None
            try:
                return [await exchange("127.0.0.1", asked) for _time in range(times)][-1]
            finally:
                loop.remove_reader(self._udp)
                if tcp:
                    tcp.close()

        return asyncio.run(work())

    def _readable(self):
        wire, client = self._udp.recvfrom(65535)
        self.asked.append(("udp", client[1], wire))
        for each in self.by_udp(wire):
            self._udp.sendto(each, client)

    async def _serve(self, reader, writer):
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        wire = await reader.readexactly(length)
        self.asked.append(("tcp", writer.get_extra_info("peername")[1], wire))
        for each in self.by_tcp(wire):
            writer.write(each)
        writer.close()

    def kinds(self):
        return [kind for kind, _port, _wire in self.asked]


def framed(wire):
    return struct.pack(">H", len(wire)) + wire


def addresses(answer):
    return [record.to_text() for records in answer.decoded().answer for record in records]


def test_an_answer(monkeypatch):
    with Server(lambda wire: [response(wire)]) as server:
        answer, tcp = server.ask(query(ASKED), monkeypatch)
    assert (addresses(answer), tcp) == (["203.0.113.0"], False)


def test_ids_and_ports_differ_from_question_to_question(monkeypatch):
    with Server(lambda wire: [response(wire)]) as server:
        server.ask(query(ASKED), monkeypatch, times=20)
    assert len({wire[:2] for _kind, _port, wire in server.asked}) > 15
    assert len({port for _kind, port, _wire in server.asked}) > 15


@pytest.mark.parametrize(
    "forged",
    [
        {"ident": 1},
        {"ident": -1, "rcode": dns.rcode.NXDOMAIN},
        {"name": "www.example.net"},
        {"ident": 77, "flags": dns.flags.TC},
    ],
)
def test_forged_answers_are_ignored_until_the_right_one_comes(monkeypatch, forged):
    with Server(lambda wire: [response(wire, **forged)] * 20 + [b"", b"\x80", response(wire)]) as server:
        answer, _tcp = server.ask(query(ASKED), monkeypatch)
    assert answer.rcode == dns.rcode.NOERROR
    assert addresses(answer) == ["203.0.113.0"]


def test_an_answer_from_elsewhere_is_ignored(monkeypatch):
    """From another port of the same host, with the right ID, and before the right one."""
    with Server(lambda _wire: []) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:

        def answer_twice(wire):
            other.sendto(response(wire, rcode=dns.rcode.NXDOMAIN, records=0), ("127.0.0.1", server.asked[-1][1]))
            return [response(wire)]

        server.by_udp = answer_twice
        answer, _tcp = server.ask(query(ASKED), monkeypatch)
    assert answer.rcode == dns.rcode.NOERROR


def test_what_is_truncated_is_asked_again_by_tcp(monkeypatch):
    with Server(
        lambda wire: [response(wire, flags=dns.flags.TC, records=0)],
        lambda wire: [framed(response(wire, records=200))],
    ) as server:
        answer, tcp = server.ask(query(ASKED), monkeypatch)
    assert (len(addresses(answer)), tcp) == (200, True)
    assert server.kinds() == ["udp", "tcp"]


def test_64_kb_by_tcp_in_small_pieces(monkeypatch):
    def pieces(wire):
        whole = framed(response(wire, records=4090))
        return [whole[at : at + 1000] for at in range(0, len(whole), 1000)]

    with Server(lambda wire: [response(wire, flags=dns.flags.TC, records=0)], pieces) as server:
        answer, _tcp = server.ask(query(ASKED), monkeypatch)
    assert len(answer.wire) > 65000
    assert answer.passed_on(query(ASKED), True)[-4:] == answer.wire[-15:-11]  # without OPT


def test_a_lost_datagram_is_sent_again(monkeypatch):
    heard = []

    def deaf_once(wire):
        heard.append(wire)
        return [response(wire)] if len(heard) > 1 else []

    with Server(deaf_once) as server:
        _answer, tcp = server.ask(query(ASKED), monkeypatch, timeouts=(0.01, 10.0))
    assert (tcp, server.kinds()) == (False, ["udp", "udp"])
    # The same question, from the same port: a late answer to the first is as good as one to the second.
    assert server.asked[0][1:] == server.asked[1][1:]


def test_who_is_silent_by_udp_is_asked_by_tcp(monkeypatch):
    with Server(lambda _wire: [], lambda wire: [framed(response(wire))]) as server:
        _answer, tcp = server.ask(query(ASKED), monkeypatch, timeouts=(0.01, 0.01))
    assert (tcp, server.kinds()) == (True, ["udp", "udp", "tcp"])


@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS])
def test_who_does_not_know_edns_is_asked_without(monkeypatch, rcode):
    def old(wire):
        if dns.message.from_wire(wire).edns >= 0:
            return [response(wire, rcode=rcode, records=0)]
        return [response(wire)]

    with Server(old) as server:
        answer, _tcp = server.ask(query(ASKED), monkeypatch)
    assert addresses(answer) == ["203.0.113.0"]


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP", "BADCOOKIE"])
def test_rcodes_that_are_no_answer(monkeypatch, rcode):
    value = dns.rcode.from_text(rcode)
    with (
        Server(lambda wire: [response(wire, rcode=value, records=0)]) as server,
        pytest.raises(NameserverError, match=rcode) as error,
    ):
        server.ask(query(ASKED), monkeypatch)
    assert error.value.state == "failing"


@pytest.mark.parametrize(
    "by_tcp",
    [
        lambda _wire: [],  # closed at once
        lambda _wire: [b"\x00"],
        lambda _wire: [b"\xff\xff", b"\x00" * 100],
        lambda _wire: [b"\x00\x00"],
        lambda _wire: [framed(b"nothing of use")],
        lambda wire: [framed(response(wire, ident=1))],
        lambda wire: [framed(response(wire)[:-20])],
    ],
)
def test_garbage_by_tcp_is_a_failure(monkeypatch, by_tcp):
    with (
        Server(lambda wire: [response(wire, flags=dns.flags.TC, records=0)], by_tcp) as server,
        pytest.raises(NameserverError) as error,
    ):
        server.ask(query(ASKED), monkeypatch)
    assert error.value.state == "failing"


def test_an_answer_cut_short_by_udp_is_a_failure(monkeypatch):
    with Server(lambda wire: [response(wire)[:-20]]) as server, pytest.raises(NameserverError, match="malformed"):
        server.ask(query(ASKED), monkeypatch)


def test_nobody_there(monkeypatch):
    with Server(lambda _wire: []) as server:
        pass
    monkeypatch.setattr(nameserver, "PORT", server.port)
    with pytest.raises(NameserverError, match="refused"):
        asyncio.run(exchange("127.0.0.1", query(ASKED)))


@pytest.mark.parametrize("address", ["fe80::1%nosuchdevice0", "192.0.2.1%eth0", "nothing"])
def test_an_address_that_cannot_be_asked_is_a_failure(address):
    with pytest.raises(NameserverError):
        asyncio.run(exchange(address, query(ASKED)))


def test_a_link_local_nameserver_is_reached_by_its_interface():
    assert nameserver._destination("fe80::1%lo") == ("fe80::1", nameserver.PORT, 0, socket.if_nametoindex("lo"))
