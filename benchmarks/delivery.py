"""How soon a lab's hosts use a map that `ansible-playbook` delivers: most by SSH, and some that it cannot reach.

Each round adds a static peer to the inventory. A host uses the map when its kernel has the route to that peer, which
`ip monitor` dates. Callable by itself.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins" / "module_utils")]

from benchmarks import records  # noqa: E402
from tests.interop.agents import Lines  # noqa: E402

LAB = "bench-delivery"
BEACONS = {"east1": "198.51.100.10", "west1": "198.51.100.42"}
REACHED = ("east2", "east3", "east4", "west2")
LEFT = ("west3", "west4")
"""What Ansible does not reach any more when the network is there: they hear of changes from the beacons."""
HOSTS = (*BEACONS, *REACHED, *LEFT)
_DELIVERY = "TASK [sennit.mesh.agent : Deliver the netmap]"


def measure(rounds: int) -> list[records.Record]:
    """Seconds until the last host uses a map: from the start of its delivery, and of the whole play."""
    found = records.Rounds()
    with tempfile.TemporaryDirectory(prefix="sennit-bench-") as text, lab(), contextlib.ExitStack() as stack:
        directory = Path(text)
        play(directory, 0)
        monitors = {host: stack.enter_context(route_monitor(host)) for host in HOSTS}
        for number in range(1, rounds + 1):
            begun = time.time()
            delivered = play(directory, number)
            used = {host: _seen(monitor, phone_address(number)) for host, monitor in monitors.items()}
            for what, hosts in (("reached", (*BEACONS, *REACHED)), ("left-to-beacons", LEFT)):
                found.add(f"delivery-{what}", _subject(), max(used[host] for host in hosts) - delivered, "s")
            found.add("delivery-whole-play", _subject(), max(used.values()) - begun, "s")
    return found.records()


def _subject() -> str:
    return f"sennit, {len(HOSTS)} hosts"


@contextlib.contextmanager
def lab() -> Iterator[None]:
    command = [str(ROOT / "tests/lab/lab"), "--lab", LAB]
    subprocess.run([*command, "up", str(ROOT / "tests/lab/topologies/delivery.yml")], check=True)
    try:
        yield
    finally:
        subprocess.run([*command, "down"], check=True)


def phone_address(number: int) -> str:
    return f"100.64.7.{number}"


def inventory(phones: int) -> dict[str, object]:
    """The network with so many static peers; from the first one on, some hosts cannot be reached."""
    # Without ControlPersist, so that no connection of the play before lives on.
    cut_off = {"ansible_ssh_common_args": "-o ProxyCommand=false"} if phones else {}
    left = {"sennit_endpoint": "", "ansible_ssh_args": "-o Compression=yes", **cut_off}
    nodes: dict[str, dict[str, str]] = {host: {} for host in REACHED}
    # Nobody can call these first.
    nodes.update({host: left for host in LEFT})
    static = {
        f"phone{number}": {
            "sennit_public_key": base64.b64encode(number.to_bytes(32, "big")).decode(),
            "sennit_addresses": [phone_address(number)],
        }
        for number in range(1, phones + 1)
    }
    groups: dict[str, object] = {
        "sennit_beacons": {"hosts": {host: {"sennit_endpoint": address} for host, address in BEACONS.items()}},
        "sennit_nodes": {"hosts": nodes},
        "sennit_static_peers": {"hosts": static},
    }
    return {"sennit": {"children": groups, "vars": {"sennit_network": "bench"}}}


def play(directory: Path, phones: int) -> float:
    """Run site.yml; the time of day at which it began to deliver the map. Raises RuntimeError."""
    path = directory / "inventory.json"
    path.write_text(json.dumps(inventory(phones)))
    process = subprocess.Popen(
        [
            *("ansible-playbook", "-i", f"/run/sennit-lab/{LAB}/inventory.yml", "-i", str(path)),
            *("-e", f"sennit_signing_key_file={directory}/signing.key", str(ROOT / "playbooks/site.yml")),
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    output, delivered = [], float("nan")
    for line in process.stdout or ():
        output.append(line)
        if line.startswith(_DELIVERY):
            delivered = time.time()
    if process.wait() != 0:
        raise RuntimeError(f"site.yml: exit {process.returncode}\n{''.join(output)}")
    unreached = sum("ignored=1" in line for line in output)
    if unreached != (len(LEFT) if phones else 0):
        raise RuntimeError(f"{unreached} hosts were not reached\n{''.join(output)}")
    return delivered


@contextlib.contextmanager
def route_monitor(host: str) -> Iterator[Lines]:
    command = ["ip", "-ts", "-n", f"sennit-lab.{LAB}.{host}", "monitor", "route"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None:
                raise AssertionError("there is a pipe")
            yield Lines(process.stdout)
        finally:
            process.kill()


def _seen(monitor: Lines, address: str) -> float:
    """When there came to be a route to this address: the time of day."""
    monitor.wait_for(f"] {address} dev ")
    return route_time(str(monitor), address)


def route_time(output: str, address: str) -> float:
    """From the output of `ip -ts monitor`: `[2026-01-31T12:00:00.000001] 100.64.7.1 dev sennit0 table 21472 ...`."""
    line = next(line for line in output.splitlines() if f"] {address} dev " in line)
    return datetime.fromisoformat(line[1 : line.index("]")]).timestamp()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    print(records.table(measure(parser.parse_args().rounds)))
