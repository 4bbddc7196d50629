"""The stub resolver's process with real nameservers beside it: who is asked for what, and what comes of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest
from tests.interop import lacking
from tests.interop.agents import Mesh, run
from tests.interop.nameservers import Resolver, dnsmasq, settings, stub, unbound
from tests.interop.namespaces import inside
from tests.interop.processes import ending

MESH = {"alpha.demo.internal": ("100.64.0.1", "fd5e::1"), "beta.demo.internal": ("100.64.0.2",)}
STUB, STUB_IPV6 = "100.100.100.100", "fd5e::24:6464"
COMPANY, SECOND, PUBLIC = "127.0.0.11", "127.0.0.12", "127.0.0.13"


def dig(name: str, *arguments: str, server: str = STUB) -> str:
    """What dig says; it asks once, and waits for longer than the resolver may take."""
    return run("dig", f"@{server}", "+tries=1", "+time=20", name, *arguments)


def short(name: str, *arguments: str, server: str = STUB) -> list[str]:
    return dig(name, *arguments, "+short", server=server).split()


def rcode(name: str, *arguments: str) -> str:
    return dig(name, *arguments).partition("status: ")[2].partition(",")[0]


def used(resolver: Resolver, suffix: str) -> list[tuple[str, str, int]]:
    """Of this rule's nameservers: address, state, and how often each was asked."""
    rule = next(rule for rule in resolver.status()["rules"] if rule["suffix"] == suffix)
    return [(each["address"], each["state"], each["queries"]) for each in rule["nameservers"]]


@contextlib.contextmanager
def captured(*expression: str) -> Iterator[list[str]]:
    """What tcpdump sees on the loopback device for the length of the block, a line a packet."""
    lines: list[str] = []
    process = subprocess.Popen(
        ["tcpdump", "-n", "-l", "-i", "lo", "--immediate-mode", *expression],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if process.stdout is None or process.stderr is None:
        raise AssertionError("there are pipes")
    while "listening on" not in process.stderr.readline():
        assert process.poll() is None
    try:
        yield lines
        # What was sent before this has been seen when this is.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
            marker.sendto(b"end", ("127.9.9.9", 9))
        for line in process.stdout:
            if "127.9.9.9.9" in line:
                break
            lines.append(line)
    finally:
        process.terminate()
        process.communicate()


def test_both_families_udp_and_tcp(namespace: str) -> None:
    with stub(MESH):
        for server in (STUB, STUB_IPV6):
            for transport in ("+notcp", "+tcp"):
                assert short("alpha.demo.internal", transport, server=server) == ["100.64.0.1"]
                assert short("alpha.demo.internal", "AAAA", transport, server=server) == ["fd5e::1"]
        assert short("-x", "100.64.0.2") == ["beta.demo.internal."]
        assert short("-x", "fd5e::1") == ["alpha.demo.internal."]
        assert rcode("nobody.demo.internal") == "NXDOMAIN"
        assert rcode("beta.demo.internal", "AAAA") == "NOERROR"


def test_each_domain_goes_to_its_nameserver(namespace: str, tmp_path: Path) -> None:
    company = {"wiki.company.test": "192.168.10.80", "wiki.lab.company.test": "192.0.2.1"}
    lab = {"wiki.lab.company.test": "192.168.20.80"}
    with (
        dnsmasq(tmp_path, COMPANY, company, [], "--local=/company.test/"),
        dnsmasq(tmp_path, SECOND, lab),
        unbound(tmp_path, PUBLIC, {"www.example.com": "203.0.113.80", "wiki.company.test": "203.0.113.99"}),
        stub(
            MESH,
            rules={
                "company.test": [COMPANY],
                "lab.company.test": [SECOND],
                "168.192.in-addr.arpa": [COMPANY],
                "20.168.192.in-addr.arpa": [SECOND],
            },
            default=[PUBLIC],
        ) as resolver,
    ):
        assert short("wiki.company.test") == ["192.168.10.80"]
        assert short("wiki.lab.company.test") == ["192.168.20.80"]
        assert short("www.example.com") == ["203.0.113.80"]
        assert short("-x", "192.168.10.80") == ["wiki.company.test."]
        assert short("-x", "192.168.20.80") == ["wiki.lab.company.test."]
        assert rcode("nobody.company.test") == "NXDOMAIN"
        told = resolver.query("wiki.lab.company.test")
        assert (told["rule"], told["server"], told["answers"]) == (
            "lab.company.test", SECOND, ["wiki.lab.company.test. 0 IN A 192.168.20.80"],
        )  # fmt: skip
        # Other settings are in force at once.
        resolver.configure(settings(MESH, default=[PUBLIC]))
        assert short("wiki.company.test") == ["203.0.113.99"]


def test_no_name_of_the_mesh_is_asked_of_anybody(namespace: str, tmp_path: Path) -> None:
    with (
        dnsmasq(tmp_path, PUBLIC, {"www.example.com": "203.0.113.80"}),
        stub(MESH, default=[PUBLIC]),
        captured("dst port 53 and dst host", PUBLIC, "or dst host 127.9.9.9") as packets,
    ):
        for name in ("alpha", "nobody", "x.alpha", "_service._tcp"):
            for rdtype in ("A", "AAAA", "MX", "HTTPS", "ANY"):
                dig(f"{name}.demo.internal", rdtype)
        dig("demo.internal", "NS")
        dig("alpha")  # the short name, of a program that does not know of search lists
        for address in ("100.64.0.1", "100.127.255.254", "fd5e::77"):
            dig("-x", address)
        assert short("www.example.com") == ["203.0.113.80"]
    assert packets
    assert [line for line in packets if "www.example.com" not in line] == []


@pytest.mark.parametrize("fault", ["stopped", "refusing", "silent"])
def test_a_second_nameserver_takes_over(namespace: str, tmp_path: Path, fault: str) -> None:
    names = {"wiki.company.test": "192.168.10.80", "mail.company.test": "192.168.10.25"}
    with (
        dnsmasq(tmp_path, COMPANY, {"wiki.company.test": "192.168.10.80"}) as first,
        dnsmasq(tmp_path, SECOND, names),
        contextlib.ExitStack() as stack,
        stub(MESH, rules={"company.test": [COMPANY, SECOND]}) as resolver,
    ):
        assert short("wiki.company.test") == ["192.168.10.80"]
        if fault == "silent":
            first.send_signal(signal.SIGSTOP)
        else:
            first.kill()
            first.wait()
        if fault == "refusing":
            stack.enter_context(unbound(tmp_path, COMPANY, {}, [], "  local-zone: company.test refuse"))
        for _query in range(3):
            assert short("mail.company.test") == ["192.168.10.25"]
        states = {address: state for address, state, _queries in used(resolver, "company.test")}
        assert states[SECOND] == "ok"
        assert resolver.query("mail.company.test")["server"] == SECOND


def test_nobody_answers(namespace: str, tmp_path: Path) -> None:
    """SERVFAIL, and not silence."""
    with (
        dnsmasq(tmp_path, COMPANY) as silent,
        stub(MESH, rules={"company.test": [COMPANY], "nobody.test": [SECOND]}),
    ):
        silent.send_signal(signal.SIGSTOP)
        assert rcode("www.nobody.test") == "SERVFAIL"  # nobody listens there
        assert rcode("www.company.test") == "SERVFAIL"
        assert rcode("www.example.com") == "SERVFAIL"  # no rule, and no default


def test_an_answer_of_4_kb(namespace: str, tmp_path: Path) -> None:
    text = [f'  local-data: "big.company.test 60 IN TXT {"x" * 200}{number:03}"' for number in range(20)]
    with (
        unbound(tmp_path, COMPANY, {}, [], *text, "  edns-buffer-size: 1232", "  max-udp-size: 1232"),
        stub(MESH, rules={"company.test": [COMPANY]}) as resolver,
    ):
        answer = dig("big.company.test", "TXT")
        assert answer.count("xxx0") == 20
        assert "Truncated, retrying in TCP mode" in answer
        assert "(TCP)" in answer
        # Who takes so much by UDP gets it by UDP.
        assert "(UDP)" in dig("big.company.test", "TXT", "+bufsize=8192")
        assert "tc" in dig("big.company.test", "TXT", "+noedns", "+ignore").partition("flags:")[2].partition(";")[0]
        told = resolver.query("big.company.test", "TXT")
        assert (told["tcp"], len(told["answers"])) == (True, 20)


def test_an_alias_that_leads_out_of_the_mesh(namespace: str, tmp_path: Path) -> None:
    with (
        dnsmasq(tmp_path, PUBLIC, {"www.example.com": "203.0.113.80"}),
        stub(MESH, default=[PUBLIC], aliases={"web.demo.internal": "www.example.com"}),
        captured("dst port 53 and dst host", PUBLIC, "or dst host 127.9.9.9") as packets,
    ):
        assert short("web.demo.internal") == ["www.example.com.", "203.0.113.80"]
    assert not any("demo.internal" in line for line in packets)


def test_forged_answers_are_ignored(namespace: str) -> None:
    """A nameserver that sends forgeries before the answer, and somebody else who does, too."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        server.bind((COMPANY, 53))
        other.bind((SECOND, 53))
        ports, idents = set(), set()

        def serve() -> None:
            while True:
                # Of one name more than once, where we are slow.
                wire, client = server.recvfrom(4096)
                if not wire:
                    return
                asked = dns.message.from_wire(wire)
                ports.add(client[1])
                idents.add(asked.id)
                lie = dns.message.make_response(asked, recursion_available=True)
                lie.set_rcode(dns.rcode.NXDOMAIN)
                other.sendto(lie.to_wire(), client)  # the right ID, from the wrong address
                for step in range(1, 50):
                    lie.id = (asked.id + step) & 0xFFFF
                    server.sendto(lie.to_wire(), client)  # the right address, and a guessed ID
                truth = dns.message.make_response(asked, recursion_available=True)
                truth.answer.append(dns.rrset.from_text(asked.question[0].name, 0, "IN", "A", "192.168.10.80"))
                server.sendto(truth.to_wire(), client)

        thread = threading.Thread(target=serve, daemon=True)
        with stub(MESH, rules={"company.test": [COMPANY]}):
            thread.start()
            for number in range(40):
                assert short(f"n{number}.company.test") == ["192.168.10.80"]
            other.sendto(b"", (COMPANY, 53))
            thread.join()
    assert len(ports) > 30
    assert len(idents) > 30


def test_a_killed_process_is_back(namespace: str, tmp_path: Path) -> None:
    with stub(MESH) as resolver:
        for _time in range(2):
            (pid,) = resolver.pids
            with ending(pid):
                os.kill(pid, signal.SIGKILL)
            resolver.wait_for_another(pid)
            assert short("alpha.demo.internal") == ["100.64.0.1"]
            assert short("alpha.demo.internal", "+tcp", server=STUB_IPV6) == ["100.64.0.1"]


def test_without_ipv6_names_are_answered_by_ipv4(tmp_path: Path) -> None:
    with Mesh(tmp_path, "alpha", "beta") as mesh:
        alpha, beta = mesh.hosts
        alpha.wrapper = lacking.command("IPv6")
        alpha.start()
        alpha.apply(mesh.netmap(1, alpha.node(), beta.node()))
        assert alpha.run("dig", f"@{STUB}", "+short", "beta.demo.internal").split() == ["100.64.0.2"]
        assert not any("DNS" in problem for problem in alpha.status()["problems"])


def test_a_loop_is_noticed_and_cut(namespace: str, tmp_path: Path) -> None:
    """dnsmasq asks the stub, which asks dnsmasq: as where a host's own forwarder was told of the stub."""
    with (
        dnsmasq(tmp_path, COMPANY, {}, [STUB]),
        dnsmasq(tmp_path, SECOND, {"www.example.com": "203.0.113.80"}),
        stub(MESH, default=[COMPANY]) as resolver,
        captured("udp dst port 53 and dst host", COMPANY, "or dst host 127.9.9.9") as packets,
    ):
        assert rcode("www.example.com") == "SERVFAIL"
        assert COMPANY in resolver.problem("comes back to this host")
        assert used(resolver, "")[0][1] == "looped"
        for number in range(5):
            assert rcode(f"n{number}.example.com") == "SERVFAIL"
        # With another nameserver, names are found; the mesh's always were.
        resolver.configure(settings(MESH, default=[COMPANY, SECOND]))
        assert short("www.example.com") == ["203.0.113.80"]
        assert short("alpha.demo.internal") == ["100.64.0.1"]
    assert 0 < len(packets) <= 6, packets


def test_a_loop_through_a_resolver_that_merges_queries_is_cut(namespace: str, tmp_path: Path) -> None:
    """unbound waits for the stub's answer, and does not ask again what it has asked already."""
    with (
        unbound(tmp_path, COMPANY, {}, [STUB]),
        stub(MESH, default=[COMPANY]) as resolver,
    ):
        # The client asks unbound, so that the copy comes to unbound, which is waiting for the stub.
        run("dig", f"@{COMPANY}", "+tries=1", "+time=8", "www.example.com", check=False)
        assert COMPANY in resolver.problem("comes back to this host")


def test_status_names_the_loop(tmp_path: Path) -> None:
    """The host has its own forwarder, which forwards to the host's resolver: to the stub, since there is a mesh."""
    with Mesh(tmp_path, "alpha", "beta") as mesh:
        alpha, beta = mesh.hosts
        (alpha.directory / "resolv.conf").write_text(f"nameserver {COMPANY}\n")
        with inside(alpha.namespace), dnsmasq(tmp_path, COMPANY, {}, [STUB]):
            alpha.start()
            alpha.apply(mesh.netmap(1, alpha.node(), beta.node()))
            assert rcode("www.example.com") == "SERVFAIL"
            assert short("beta.demo.internal") == ["100.64.0.2"]
            alpha.log.wait_for("comes back to this host")
            assert f"nameserver {COMPANY} for names without a rule comes back" in alpha.cli("status").stdout
            assert "looped" in alpha.cli("dns", "status").stdout
