"""Asks for names in the ways that a host's programs do. Run on the host, with what to ask for and who is in the mesh.

Prints each command whose output is not what it has to be, and fails if there is one.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

DOMAIN = "names.internal"
STUB = "100.100.100.100"

Lookups = Iterator[tuple[str, str]]
Members = dict[str, list[str]]


def mesh(members: Members) -> Lookups:
    """Every member both ways, by its full and its short name, by libc and by DNS."""
    for member, addresses in members.items():
        full = f"{member}.{DOMAIN}"
        for address in addresses:
            version = ipaddress.ip_address(address).version
            kind = "A" if version == 4 else "AAAA"
            for name in (member, full):
                yield f"getent ahostsv{version} {name} | awk '{{print $1}}' | sort -u", address
            yield f"dig +short {full} {kind}", address
            yield f"dig +short +search {member.upper()} {kind}", address
            yield f"dig +short -x {address}", f"{full}."
            yield f"getent hosts {address}", f"{address} {full}"
            if shutil.which("resolvectl") and "127.0.0.53" in _nameservers():
                yield f"resolvectl query --no-pager --legend=no {full} -{version} | awk '{{print $2}}'", address
                yield f"resolvectl query --no-pager --legend=no {address} | awk '{{print $2}}'", full
        # It is there, without such a record; and there is none of that name.
        yield f"dig {full} MX | grep -o 'status: [A-Z]*'", "status: NOERROR"
        yield f"dig {full} MX | grep -o 'ANSWER: [0-9]*'", "ANSWER: 0"
    yield f"dig nobody.{DOMAIN} | grep -o 'status: [A-Z]*'", "status: NXDOMAIN"
    yield "dig -x 100.64.77.77 | grep -o 'status: [A-Z]*'", "status: NXDOMAIN"


def records(members: Members) -> Lookups:
    """The extra records of the inventory. The alias git leads to whoever is given as its owner."""
    for owner, addresses in members.items():
        yield "getent ahostsv4 git | awk '{print $1}' | sort -u", addresses[0]
        yield f"dig +short git.{DOMAIN}", f"{owner}.{DOMAIN}. {addresses[0]}"


def company(_members: Members) -> Lookups:
    """The split domain, both ways, by the nameservers behind the subnet router."""
    yield "dig +short www.company.test", "192.168.50.80"
    yield "getent ahostsv4 www | awk '{print $1}' | sort -u", "192.168.50.80"
    yield "getent hosts 192.168.50.80", "192.168.50.80 www.company.test"
    yield "dig +short -x 192.168.50.80", "www.company.test."
    yield "getent ahostsv4 intranet | awk '{print $1}' | sort -u", "192.168.50.80"  # an alias in the map
    yield "dig nobody.company.test | grep -o 'status: [A-Z]*'", "status: NXDOMAIN"
    yield "sennit dns query --json server.company.test TXT | grep -o '\"rule\": .*'", '"rule": "company.test",'


def big(_members: Members) -> Lookups:
    """An answer of 4 KB: too much for UDP, so the client is told, and asks by TCP. One of the nameservers has it."""
    size = "tr -d '\"\\n' | wc -c"
    yield f"dig +short big.company.test TXT | {size}", "4000"
    yield f"dig @{STUB} +short big.company.test TXT | {size}", "4000"
    yield f"dig @{STUB} +ignore big.company.test TXT | grep -c 'flags:.* tc[ ;]'", "1"
    yield "dig +short big.company.test TXT | sort -u | wc -l", "20"


def second(_members: Members) -> Lookups:
    """Who answers while the first nameserver of the company does not run."""
    for _again in range(3):
        yield "dig +short server.company.test TXT", '"dnsmasq"'


def public(_members: Members) -> Lookups:
    """What no rule is for."""
    yield "dig +short www.public.test", "203.0.113.80"
    yield "getent ahostsv6 www.public.test | awk '{print $1}' | sort -u", "2001:db8::80"


def unblocked(_members: Members) -> Lookups:
    """What the host's own nameserver says of the name that the other one blocks."""
    yield "dig +short ads.public.test", "203.0.113.66"


def blocked(_members: Members) -> Lookups:
    """That the network's nameserver is asked instead of the host's own."""
    yield "dig +short ads.public.test", "192.0.2.66"
    yield "getent ahostsv4 ads.public.test | awk '{print $1}' | sort -u", "192.0.2.66"


def _nameservers() -> list[str]:
    with open("/etc/resolv.conf", encoding="utf-8") as file:
        return [words[1] for words in map(str.split, file) if words[:1] == ["nameserver"]]


def main() -> int:
    topics, members = sys.argv[1].split(","), json.loads(sys.argv[2])
    wrong = 0
    for topic in topics:
        for command, wanted in globals()[topic](members):
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
            found = " ".join(done.stdout.split())
            if found != wanted:
                wrong += 1
                print(f"{command}\n  gives {found!r}, not {wanted!r}; {done.stderr.strip()}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
