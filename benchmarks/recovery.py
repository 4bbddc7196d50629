"""What becomes of single packets: the first after a start, one whose handshake was lost, one from a new address."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Optional

from benchmarks import records
from benchmarks.subjects import Subject, alone, available

_TIME = re.compile(r"time=([\d.]+) ms")
_SEQUENCE = re.compile(r"icmp_seq=(\d+)")
_LOSE_ONE = """
table inet bench {
  chain output {
    type filter hook output priority 0;
    meta l4proto udp limit rate 1/hour burst 1 packets drop
  }
}
"""


def measure(rounds: int) -> list[records.Record]:
    """The round trip of a first ping, in ms; with its handshake's first message lost, in s; how many pings a peer that
    has moved sends until one is answered."""
    found = records.Rounds()
    for turn in range(rounds):
        for name, make in available().items():
            # Each on hosts of its own: an agent that starts again greets the peers that it knows of.
            with alone(make) as subject:
                if not subject.tunnel:
                    continue
                found.add("first-packet", name, _fresh(subject), "ms")
            # A timer, which is the same each time.
            if subject.silent and turn == 0:
                with alone(make) as subject:
                    found.add("handshake-lost", name, _fresh(subject, _LOSE_ONE) / 1e3, "s")
            with alone(make) as subject:
                found.add("moved", name, _moved(subject), "pings")
    return found.records()


def _fresh(subject: Subject, rules: str = "") -> float:
    """The time of the first ping through a tunnel that has just come up."""
    subject.up()
    try:
        if rules:
            (subject.near.directory / "rules.nft").write_text(rules)
            subject.near.run("nft", "-f", str(subject.near.directory / "rules.nft"))
        answer = subject.near.run("ping", "-n", "-c", "1", "-W", "20", subject.address)
        if rules:
            subject.near.run("nft", "delete", "table", "inet", "bench")
    finally:
        subject.down()
    return float(_TIME.findall(answer)[0])


def _moved(subject: Subject) -> Optional[float]:
    """Pings until one is answered; None where none is."""
    near = subject.near
    subject.up()
    try:
        subject.first_packet()
        (interface,) = json.loads(near.run("ip", "-j", "addr", "show", "dev", "eth0"))
        old = next(each["local"] for each in interface["addr_info"] if each["family"] == "inet")
        near.run("ip", "addr", "del", f"{old}/24", "dev", "eth0")
        near.run("ip", "addr", "add", f"{ipaddress.ip_address(old) + 100}/24", "dev", "eth0")
        answers = near.run("ping", "-n", "-c", "5", "-i", "0.2", "-W", "1", subject.address, check=False)
        return next(map(float, _SEQUENCE.findall(answers)), None)
    finally:
        subject.down()
