# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's own configuration: /etc/sennit/agent.json.

It says only what the netmap cannot: which network this host belongs to, the key that signs its netmap, and the
numbers the agent takes on this host (interface, port, mark, table, rule priority). Which node this host is follows
from its public key in the netmap.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any, Callable

DEFAULT_PATH = "/etc/sennit/agent.json"
MAX_CONFIG_BYTES = 64 * 1024

DATAPATHS = ("auto", "kernel", "userspace")

_NETWORK = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
# What the kernel takes for a link name (dev_valid_name): no slash, no colon, no white space, fewer than 16 bytes.
_INTERFACE = re.compile(r"(?!\.{1,2}\Z)[^/:\s\0]{1,15}\Z", re.ASCII)
_URL = re.compile(r"https?://[^/\s@]+(/[!-~]*)?\Z", re.ASCII)
_RESERVED_TABLES = {253: "default", 254: "main", 255: "local"}


class ConfigError(Exception):
    """agent.json cannot be used; the message names the file, the key and the value."""


def _is_network(value: Any) -> str:
    if isinstance(value, str) and _NETWORK.match(value):
        return ""
    return "a network's name: lower-case letters, digits and hyphens, at most 63"


def _is_key(value: Any) -> str:
    if isinstance(value, str):
        try:
            if len(base64.b64decode(value, validate=True)) == 32:
                return ""
        except (ValueError, binascii.Error):
            pass
    return "an Ed25519 public key: base64 of 32 bytes"


def is_interface_name(text: str) -> bool:
    """Whether the kernel takes it for one."""
    return bool(_INTERFACE.match(text))


def _is_interface(value: Any) -> str:
    if isinstance(value, str) and is_interface_name(value):
        return ""
    return "an interface's name: 1 to 15 characters without slash, colon or white space"


def _is_path(value: Any) -> str:
    if isinstance(value, str) and value.startswith("/") and "\0" not in value:
        return ""
    return "an absolute path"


def is_integer(low: int, high: int) -> Callable[[Any], str]:
    """A check as those in CHECKS."""

    def check(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return ""
        return f"an integer from {low} to {high}"

    return check


def _is_table(value: Any) -> str:
    problem = is_integer(1, 2**32 - 1)(value)
    if not problem and value in _RESERVED_TABLES:
        return f"a routing table of the agent's own; {value} is the system's table {_RESERVED_TABLES[value]}"
    return problem


def _is_url(value: Any) -> str:
    if isinstance(value, str) and (not value or _URL.match(value)):
        return ""
    return "an http:// or https:// URL"


def _is_datapath(value: Any) -> str:
    return "" if value in DATAPATHS else f"one of {', '.join(DATAPATHS)}"


# By key. Each check gives "" for a good value, or what the value ought to be.
CHECKS: Mapping[str, Callable[[Any], str]] = {
    "network": _is_network,
    "signing_key": _is_key,
    "interface": _is_interface,
    "listen_port": is_integer(0, 65535),
    # 1280 is the least that IPv6 runs on (RFC 8200, section 5).
    "mtu": is_integer(1280, 65535),
    "fwmark": is_integer(1, 2**32 - 1),
    "table": _is_table,
    # Before the rule of the main table (32766), after that of the local table (0).
    "rule_priority": is_integer(1, 32765),
    "datapath": _is_datapath,
    "netmap_url": _is_url,
    "relay_port": is_integer(0, 65535),
    "relay_rate": is_integer(64_000, 10**12),
    "state_dir": _is_path,
    "runtime_dir": _is_path,
    "resolv_conf": _is_path,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """One agent's configuration, checked.

    ``network`` and ``signing_key`` (base64 of the Ed25519 public key) have no default; ``listen_port`` 0 lets the
    kernel choose; ``mtu`` is in bytes, of the tunnel's interface, by default the least that IPv6 runs on, so that no
    way of the underlay is too narrow; ``datapath`` "auto" is the kernel's WireGuard where there is one; ``netmap_url``,
    if not empty, is where the newest netmap is; ``relay_port`` is the UDP port of a beacon's relay, 0 for none, and
    ``relay_rate`` what it forwards of each node, in bit/s; ``resolv_conf`` is where the host's programs look for
    nameservers.
    """

    network: str
    signing_key: str
    interface: str = "sennit0"
    listen_port: int = 51820
    mtu: int = 1280
    fwmark: int = 21472
    table: int = 21472
    rule_priority: int = 5200
    datapath: str = "auto"
    netmap_url: str = ""
    relay_port: int = 21473
    relay_rate: int = 100_000_000
    state_dir: str = "/var/lib/sennit"
    runtime_dir: str = "/run/sennit"
    resolv_conf: str = "/etc/resolv.conf"

    @property
    def private_key_path(self) -> str:
        return self.state_dir + "/private.key"

    @property
    def netmap_path(self) -> str:
        return self.state_dir + "/netmap"

    @property
    def preferences_path(self) -> str:
        return self.state_dir + "/preferences.json"

    @property
    def endpoints_path(self) -> str:
        return self.state_dir + "/endpoints.json"

    @property
    def whereabouts_path(self) -> str:
        return self.state_dir + "/whereabouts.json"

    @property
    def former_path(self) -> str:
        return self.state_dir + "/former.json"

    @property
    def sessions_path(self) -> str:
        return self.runtime_dir + "/sessions.json"

    @property
    def relay_path(self) -> str:
        return self.runtime_dir + "/relay.json"

    @property
    def relay_routes_path(self) -> str:
        return self.runtime_dir + "/relay-routes.json"

    @property
    def resolver_path(self) -> str:
        return self.state_dir + "/resolver.json"

    @property
    def socket_path(self) -> str:
        return self.runtime_dir + "/control.sock"

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str = "configuration") -> Config:
        """Check ``values``; raises ConfigError, which names ``source``, the key and the value."""
        for key, value in values.items():
            check = CHECKS.get(key)
            if check is None:
                raise ConfigError(f"{source}: {key}: no such key; there are {', '.join(CHECKS)}")
            wanted = check(value)
            if wanted:
                raise ConfigError(f"{source}: {key}: {json.dumps(value)} is not {wanted}")
        for field in dataclasses.fields(cls):
            if field.default is dataclasses.MISSING and field.name not in values:
                raise ConfigError(f"{source}: {field.name}: missing")
        return cls(**values)

    @classmethod
    def load(cls, path: str) -> Config:
        """Read and check the file; raises ConfigError."""
        try:
            with open(path, "rb") as file:
                text = file.read(MAX_CONFIG_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        if len(text) > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: longer than {MAX_CONFIG_BYTES} bytes")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: not a JSON object")
        return cls.from_mapping(values, path)
