# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses of the underlay as bytes."""

from __future__ import annotations

import socket


def packed_address(address: str) -> bytes:
    """4 or 16 bytes of an address in text; its scope ("%eth0") is left out. Raises OSError for what is none."""
    host = address.partition("%")[0]
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
