from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest
from tests.interop.agents import run

NAMESPACE = f"sdp{os.getpid()}"
CLONE_NEWNET = 0x40000000


def enter(path: str) -> None:
    with open(path, "rb") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), path)


@pytest.fixture
def namespace() -> Iterator[str]:
    """Sockets and devices made by the test live in a namespace that has a loopback device and nothing else."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    run("ip", "netns", "add", NAMESPACE)
    try:
        run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
        enter(f"/run/netns/{NAMESPACE}")
        yield NAMESPACE
    finally:
        enter(f"/proc/self/fd/{home}")
        os.close(home)
        run("ip", "netns", "del", NAMESPACE)
