"""Speaks to a responder from within a network namespace, for benchmarks/handshakes.py. Datagrams are of 148 bytes.

initiations.py answered FILE HOST PORT              each once, as fast as they are answered; prints answers a second
initiations.py flood FILE HOST PORT one|many RATE   for ever, so many a second, from one source or from 131,072
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

LENGTH = 148
WINDOW = 64  # fewer than make a responder ask for cookies
PATIENCE = 1.0


def answered(messages: list[bytes], target: tuple[str, int]) -> float:
    """Answers a second. What gets no answer for a second is given up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(target)
        udp.settimeout(PATIENCE)
        started = time.perf_counter()
        waiting: set[int] = set()
        answers = sent = 0
        last = started
        while sent < len(messages) or waiting:
            while sent < len(messages) and len(waiting) < WINDOW:
                udp.send(messages[sent])
                waiting.add(sent)
                sent += 1
            try:
                answer = udp.recv(2000)
            except TimeoutError:
                waiting.clear()
                continue
            kind, _sender, receiver = struct.unpack_from("<III", answer)
            if kind == 2 and receiver in waiting:
                waiting.remove(receiver)
                answers += 1
                last = time.perf_counter()
        if answers < len(messages) // 2:
            raise SystemExit(f"{answers} of {len(messages)} answered")
        return answers / (last - started)


def flood(send: Callable[[int], object], rate: float) -> None:
    """Call it with 0, 1, 2... in bursts of a millisecond, for ever."""
    print("ready", flush=True)
    started, number = time.perf_counter(), 0
    while True:
        due = int((time.perf_counter() - started) * rate)
        while number < due:
            send(number)
            number += 1
        time.sleep(0.001)


def from_one(messages: list[bytes], target: tuple[str, int]) -> Callable[[int], object]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.connect(target)
    return lambda number: udp.send(messages[number % len(messages)])


def from_many(messages: list[bytes], target: tuple[str, int]) -> Callable[[int], object]:
    """With sources of the network for benchmarks (RFC 2544); the kernel fills in lengths and checksum of the header."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    chance = random.Random(2)  # noqa: S311
    destination = socket.inet_aton(target[0])
    udp = struct.pack(">HHHH", 40000, target[1], 8 + LENGTH, 0)

    def send(number: int) -> object:
        source = struct.pack(">I", (198 << 24 | 18 << 16) + chance.getrandbits(17))
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0, source, destination)
        return raw.sendto(ip + udp + messages[number % len(messages)], (target[0], 0))

    return send


def main() -> None:
    what, path, host, port, *more = sys.argv[1:]
    content = Path(path).read_bytes()
    messages = [content[at : at + LENGTH] for at in range(0, len(content), LENGTH)]
    target = host, int(port)
    if what == "answered":
        print(answered(messages, target))
    else:
        flood((from_many if more[0] == "many" else from_one)(messages, target), float(more[1]))


if __name__ == "__main__":
    main()
