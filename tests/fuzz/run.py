"""Fuzz the native batch core for a while: `python tests/fuzz/run.py SECONDS`.

The corpus begins with well-formed frames and packets, and grows in build/fuzz from run to run. What the fuzzer finds is
left there as a file that reproduces it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins" / "module_utils")]

from tests.unit.datapath.packets import ACK, CWR, FIN, PSH, offloaded, tcp, udp  # noqa: E402

from sennit.datapath.vnet import GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, PLAIN  # noqa: E402

SOURCE = ROOT / "plugins" / "module_utils" / "sennit" / "datapath" / "native"
BUILD = ROOT / "build" / "fuzz"
SANITIZERS = "-fsanitize=fuzzer,address,undefined"
MAX_INPUT = 20_000


def seeds() -> list[bytes]:
    """Inputs as native.c takes them."""
    frames, packets = [], []
    for version, gso in ((4, GSO_TCPV4), (6, GSO_TCPV6)):
        for length, size in ((0, 100), (99, 100), (250, 100), (4000, 1400)):
            payload = bytes(length)
            frames += [
                offloaded(tcp(version, payload, 5, ACK | PSH | FIN | CWR), gso | GSO_ECN, size, 16),
                offloaded(udp(version, payload), GSO_UDP_L4, size, 6),
                offloaded(tcp(version, payload), 0, 0, 16),
                PLAIN + udp(version, payload),
            ]
        packets.append([tcp(version, bytes(100), at * 100, ACK | (PSH if at == 5 else 0)) for at in range(6)])
        packets.append([udp(version, bytes(100))] * 6)
    joined = b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames)
    found = [b"\0" + len(frame).to_bytes(2, "big") + frame for frame in frames] + [b"\0" + joined]
    found += [b"\3" + len(frame).to_bytes(2, "big") + frame for frame in frames] + [b"\3" + joined]
    for same in packets:
        datagrams = b"".join(b"\4\0\0\0\7\0\0\0" + bytes(7) + b"\1" + packet + bytes(16) for packet in same)
        size = (len(same[0]) + 32 - 1).to_bytes(2, "big")
        found += [b"\1" + size + datagrams, b"\2" + size + datagrams]
        each = [(len(packet) + 32).to_bytes(2, "big") + bytes(15) + b"\1" + packet + bytes(16) for packet in same]
        found.append(b"\4" + b"".join(each))
    return found


def main() -> int:
    seconds = int(sys.argv[1])
    corpus = BUILD / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number:03}").write_bytes(seed)
    program = BUILD / "native"
    subprocess.run(
        ["clang", "-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", SANITIZERS, "-fno-sanitize-recover=all",
         "-I", SOURCE, "-o", program, Path(__file__).with_name("native.c"), *sorted(SOURCE.glob("*.c"))],
        check=True,
    )  # fmt: skip
    fuzzing = [program, f"-max_total_time={seconds}", f"-max_len={MAX_INPUT}", "-timeout=10"]
    log = BUILD / "log"
    with log.open("wb") as file:
        command = [*fuzzing, f"-artifact_prefix={BUILD}/", corpus]
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    lines = log.read_text(errors="replace").splitlines()
    print("\n".join(lines[-60:] if status else [line for line in lines if line.startswith("Done")]))
    return status


if __name__ == "__main__":
    sys.exit(main())
