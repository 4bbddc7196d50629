"""What owns a host's resolv.conf, and the files and packages that make it so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .topology import FILE, NETWORK_MANAGER, OPENRESOLV, RESOLVCONF, RESOLVED, Host

RESOLV_CONF = "/etc/resolv.conf"


@dataclass(frozen=True)
class Resolver:
    """Its package, the files that it starts from, and the packages and units that it replaces.

    The nameservers themselves come from what configures the host's interfaces; a plain file holds them.
    """

    package: str | None = None
    files: Callable[[Host], dict[str, str]] = lambda _host: {}
    replaced: tuple[str, ...] = ("systemd-resolved",)
    disabled: tuple[str, ...] = ("systemd-resolved.service",)  # in Debian 11 it is part of systemd


def _empty(_host: Host) -> dict[str, str]:
    # Not missing: systemd-tmpfiles would make it a link to systemd-resolved's.
    return {RESOLV_CONF: ""}


def _nameservers(host: Host) -> dict[str, str]:
    return {RESOLV_CONF: "".join(f"nameserver {server}\n" for server in host.nameservers)}


RESOLVERS = {
    RESOLVED: Resolver(replaced=(), disabled=()),
    RESOLVCONF: Resolver("resolvconf"),  # which makes resolv.conf a link to its own
    OPENRESOLV: Resolver("openresolv", _empty),
    NETWORK_MANAGER: Resolver(None, _empty),
    FILE: Resolver(None, _nameservers),
}
