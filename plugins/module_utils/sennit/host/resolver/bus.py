# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The system bus, by systemd's busctl(1): always there where resolved or NetworkManager can be, whatever Python has.

A D-Bus library would be one more package on every host, and not all of them can speak to both; busctl costs nothing
while nothing changes.
"""

from __future__ import annotations

import json
from typing import Any

from .base import ResolverError, run

_COMMAND = ("busctl", "--system", "--json=short", "--auto-start=no", "--timeout=5")


def get(service: str, path: str, interface: str, *properties: str) -> list[Any]:
    """The values of these properties, as JSON has them: they are of any type. Raises ResolverError."""
    text = run(*_COMMAND, "get-property", service, path, interface, *properties)
    values = [_data(line) for line in text.splitlines() if line]
    if len(values) != len(properties):
        raise ResolverError(f"busctl: {len(values)} values for {len(properties)} properties of {interface}")
    return values


def call(service: str, path: str, interface: str, method: str, *arguments: str) -> list[Any]:
    """What the method returns; arguments: their signature, then each as busctl(1) has it. Raises ResolverError."""
    text = run(*_COMMAND, "call", service, path, interface, method, *arguments)
    values = _data(text) if text.strip() else []
    if not isinstance(values, list):
        raise ResolverError(f"busctl: {method} returned no list of values")
    return values


def answers(service: str) -> bool:
    """Whether somebody has this name on the bus."""
    try:
        reply = call(
            "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", "s", service
        )
    except ResolverError:  # no bus, or no busctl: then nobody is there to talk to, either
        return False
    return reply == [True]


def _data(text: str) -> Any:
    try:
        return json.loads(text)["data"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ResolverError(f"busctl: not the JSON that was asked for: {text[:60]!r}") from error
