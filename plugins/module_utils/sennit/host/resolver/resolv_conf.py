# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The text of resolv.conf(5): the one parser of it, and ours."""

from __future__ import annotations

import dataclasses
import os

from .base import RESOLV_CONF, Wanted, is_nameserver

MAX_BYTES = 1 << 16

HEADER = "# Written by the agent of a Sennit mesh, which puts back what was here before when it stops."


@dataclasses.dataclass(frozen=True)
class ResolvConf:
    """nameservers: addresses; search: domains without the final dot; options: as they are written. Each once."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(content: bytes) -> ResolvConf:
    """What a resolver makes of it: of these bytes or any others. As the C library does, skip what makes no sense."""
    nameservers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in content.decode("utf-8", "replace").split("\n"):
        keyword, *values = _words(line) or [""]
        if keyword == "nameserver":
            nameservers += [value for value in values[:1] if is_nameserver(value)]
        elif keyword in ("search", "domain"):
            # The last one counts.
            search = [value.rstrip(".") for value in values if value.rstrip(".")]
        elif keyword == "options":
            options += values
    return ResolvConf(*(tuple(dict.fromkeys(values)) for values in (nameservers, search, options)))


def render(wanted: Wanted, before: ResolvConf) -> bytes:
    """The stub's addresses for all names, its search domains before those that were there, the options that were."""
    search = dict.fromkeys((*wanted.search, *before.search))
    lines = [HEADER, *(f"nameserver {address}" for address in wanted.stub)]
    lines += [f"search {' '.join(search)}"] if search else []
    lines += [f"options {' '.join(before.options)}"] if before.options else []
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def is_ours(content: bytes) -> bool:
    return content.startswith(HEADER.encode())


def read(path: str = RESOLV_CONF) -> bytes:
    """The file, as far as a resolver would read it; empty if there is none. Raises OSError."""
    try:
        # A pipe in its place would be waited for without end.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    with open(descriptor, "rb") as file:
        return file.read(MAX_BYTES) or b""


def _words(line: str) -> list[str]:
    words = line.split()
    comment = next((number for number, word in enumerate(words) if word[0] in "#;"), len(words))
    return words[:comment]
