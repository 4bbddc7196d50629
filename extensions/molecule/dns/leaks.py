"""Searches what was captured on this host for names of the mesh, as they are on the wire. Its members are the argument.

Prints every name found, and fails if there is one; or if what must have left the host is not there.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from pathlib import Path

CAPTURES = Path("/srv/captures")
DOMAIN = "names.internal"


def on_the_wire(name: str) -> bytes:
    """A name without the root's empty label."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))


def main() -> int:
    members: dict[str, list[str]] = json.loads(sys.argv[1])
    secret = {DOMAIN: on_the_wire(DOMAIN)}
    secret.update({member: on_the_wire(member) + b"\0" for member in members})
    for address in [each for addresses in members.values() for each in addresses]:
        pointer = ipaddress.ip_address(address).reverse_pointer
        secret[pointer] = on_the_wire(pointer)
    captured = b"".join(path.read_bytes() for path in CAPTURES.glob("*.pcap")).lower()
    found = [name for name, needle in secret.items() if needle in captured]
    missing = [name for name in ("company.test", "public.test") if on_the_wire(name) not in captured]
    print(f"found: {', '.join(found) or 'none'}; not found but asked for: {', '.join(missing) or 'none'}")
    return 1 if found or missing else 0


if __name__ == "__main__":
    sys.exit(main())
