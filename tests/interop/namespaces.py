"""Network namespaces of tests and benchmarks."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

from tests.interop.agents import run, wait

CLONE_NEWNET = 0x40000000


def enter(path: str) -> None:
    """Have this thread's sockets in the network namespace of this file."""
    with open(path, "rb") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), path)


def add_address(address: str, device: str, namespace: str | None = None) -> None:
    """Returns when it can be used: of IPv6 the kernel adds the route to itself later, when the device is up.

    namespace: that of this thread if none is given.
    """
    ip = ("ip", "-n", namespace) if namespace else ("ip",)
    if ":" not in address:
        run(*ip, "addr", "add", address, "dev", device)
        return
    run(*ip, "addr", "add", address, "dev", device, "nodad")
    local = f"local {address.partition('/')[0]} dev {device} "
    wait(lambda: local in run(*ip, "-6", "route", "show", "table", "local"), f"{address} on {device}")


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Have this thread in this network namespace for the length of the block."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    enter(f"/run/netns/{name}")
    try:
        yield
    finally:
        enter(f"/proc/self/fd/{home}")
        os.close(home)


@contextlib.contextmanager
def network_namespace() -> Iterator[str]:
    """A new network namespace with a loopback device, entered for the length of the block."""
    name = f"sdn{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        with inside(name):
            yield name
    finally:
        run("ip", "netns", "del", name)
