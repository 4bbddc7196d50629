"""Doubles of what owns a host's resolver: they answer the commands that the agent runs, and keep what it set."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from typing import Any, Callable

import pytest

from sennit.host.resolver.base import Wanted

STUB = ("100.100.100.100", "fd5e::24:6464")
WANTED = Wanted(STUB, ("demo.internal",), ("company.test", "64.100.in-addr.arpa"), everything=False)
RESOLVED_DEFAULTS = {
    "DNS": [], "Domains": [], "DefaultRoute": True,
    "LLMNR": "yes", "MulticastDNS": "yes", "DNSOverTLS": "opportunistic", "DNSSEC": "allow-downgrade",
}  # fmt: skip


class Commands:
    """Commands by name: each a function of its arguments and its standard input, that returns what it prints."""

    def __init__(self) -> None:
        self.run: list[tuple[str, ...]] = []
        self.known: dict[str, Callable[[list[str], str], str]] = {}

    def __call__(self, command: tuple[str, ...], **options: Any) -> subprocess.CompletedProcess[bytes]:
        self.run.append(tuple(command))
        if command[0] not in self.known:
            raise FileNotFoundError(2, "No such file or directory")
        try:
            out = self.known[command[0]](list(command[1:]), options["input"].decode())
        except RefusedError as error:
            return subprocess.CompletedProcess(command, 1, b"", f"{error}\n".encode())
        return subprocess.CompletedProcess(command, 0, out.encode(), b"")


class RefusedError(Exception):
    """The command fails, and says so."""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Commands:
    commands = Commands()
    monkeypatch.setattr(subprocess, "run", commands)
    return commands


class Bus:
    """busctl, before services by name: functions of method or property."""

    def __init__(self, commands: Commands) -> None:
        self.services: dict[str, Any] = {}
        commands.known["busctl"] = self.answer

    def answer(self, arguments: list[str], _text: str) -> str:
        words = [word for word in arguments if not word.startswith("--")]
        verb, service, path, interface, *rest = words
        if service == "org.freedesktop.DBus":
            return json.dumps({"type": "b", "data": [rest[-1] in self.services]})
        if service not in self.services:
            raise RefusedError(f"Call failed: The name {service} was not provided by any .service files")
        if verb == "get-property":
            values = [self.services[service].get(path, interface, name) for name in rest]
            return "".join(json.dumps({"type": "?", "data": value}) + "\n" for value in values)
        result = self.services[service].call(path, rest[0], rest[2:])
        return "" if result is None else json.dumps({"type": "?", "data": [result]})


@pytest.fixture
def bus(commands: Commands) -> Bus:
    return Bus(commands)


class ResolvedDouble:
    """org.freedesktop.resolve1 with one link, number 7, of ours; eth0's server is the host's own."""

    def __init__(self) -> None:
        self.link: dict[str, Any] = dict(RESOLVED_DEFAULTS)
        self.others: list[Any] = [[2, 2, [192, 0, 2, 53]]]
        self.flushed = 0

    def get(self, path: str, _interface: str, name: str) -> Any:
        if path.endswith("/link/_37"):
            return self.link[name]
        return [*self.others, *([7, *server] for server in self.link["DNS"])]

    def call(self, _path: str, method: str, arguments: list[str]) -> Any:
        if method == "FlushCaches":
            self.flushed += 1
            return None
        if arguments[0] != "7":
            raise RefusedError(f"Call failed: Link {arguments[0]} not known")
        if method == "GetLink":
            return "/org/freedesktop/resolve1/link/_37"
        if method == "RevertLink":
            self.link = dict(RESOLVED_DEFAULTS)
        elif method == "SetLinkDNS":
            self.link["DNS"] = _servers(arguments[1:])
        elif method == "SetLinkDomains":
            count, *words = arguments[1:]
            self.link["Domains"] = [[words[2 * n], words[2 * n + 1] == "true"] for n in range(int(count))]
        elif method == "SetLinkDefaultRoute":
            self.link["DefaultRoute"] = arguments[1] == "true"
        else:
            self.link[method[len("SetLink") :]] = arguments[1]
        return None

    @property
    def servers(self) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_address(bytes(octets))) for _family, octets in self.link["DNS"])


def _servers(words: list[str]) -> list[Any]:
    servers = []
    numbers = [int(word) for word in words[1:]]
    for _server in range(int(words[0])):
        family, length = numbers[:2]
        servers.append([family, numbers[2 : 2 + length]])
        numbers = numbers[2 + length :]
    if numbers:
        raise RefusedError("Too many parameters for signature.")
    return servers


@pytest.fixture
def resolved(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> ResolvedDouble:
    double = ResolvedDouble()
    bus.services["org.freedesktop.resolve1"] = double
    monkeypatch.setattr("socket.if_nametoindex", {"sennit0": 7}.__getitem__)
    return double
