# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""resolvconf(8), Debian's own and openresolv: a record of ours beside those of DHCP clients and the like.

openresolv leaves the others' out if ours is exclusive. Debian's knows no such thing, but writes no more than three
nameservers: ours come first, as records of the loopback device do, and fill the places.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from .base import Found, Place, ResolverError, Wanted, mapped, others, run
from .resolv_conf import ResolvConf, parse, read

NAME = "resolvconf"
OPENRESOLV = "openresolv"
DEBIAN_FILES = ("/run/resolvconf/resolv.conf", "/etc/resolvconf/run/resolv.conf")

_COMMAND = "resolvconf"
# Where it keeps its records, in older versions and in newer ones.
_OPENRESOLV_RECORDS = ("/run/resolvconf/interfaces", "/run/resolvconf/keys")
_DEBIAN_RECORD = "lo.sennit"
_DEBIAN_RECORDS = "/run/resolvconf/interface"
_DEBIAN_ORDER = "/lib/resolvconf/list-records"
# What the administrator of a host has written for all times (resolvconf(8)).
_DEBIAN_STATIC = tuple(f"/etc/resolvconf/resolv.conf.d/{name}" for name in ("head", "base", "tail"))
_MOST = 3


class Openresolv:
    """Our record is named after the tunnel's interface."""

    name = OPENRESOLV

    def __init__(self, place: Place) -> None:
        self._path = place.path
        self._interface = place.interface

    def found(self, stub: Sequence[str]) -> Found:
        return _found(_sections(run(_COMMAND, "-l"), self._interface), stub)

    def apply(self, wanted: Wanted) -> list[str]:
        text = _text(wanted.stub, wanted.search)
        before = read(self._path)
        run(_COMMAND, "-m", "0", "-x", "-a", self._interface, text=text)
        return _told(before, read(self._path))

    def undo(self) -> list[str]:
        if is_there():  # else its records are nothing any more
            run(_COMMAND, "-f", "-d", self._interface)
        return []

    def watched(self) -> list[str]:
        return [self._path, *(f"{directory}/*" for directory in _OPENRESOLV_RECORDS)]


class DebianResolvconf:
    """Our record is one of the loopback device's, which come first (interface-order(5))."""

    name = NAME

    def __init__(self, place: Place) -> None:
        self._path = place.path

    def found(self, stub: Sequence[str]) -> Found:
        # Older versions list what is in the working directory.
        ordered = run(_DEBIAN_ORDER, directory=_DEBIAN_RECORDS).split()
        records = [record for record in ordered if record != _DEBIAN_RECORD]
        paths = [*(os.path.join(_DEBIAN_RECORDS, record) for record in records), *_DEBIAN_STATIC]
        return _found([parse(read(path)) for path in paths], stub)

    def apply(self, wanted: Wanted) -> list[str]:
        before = read(self._path)
        addresses = dict.fromkeys((*wanted.stub, *map(mapped, wanted.stub)))
        run(_COMMAND, "-a", _DEBIAN_RECORD, text=_text(tuple(addresses)[:_MOST], wanted.search))
        after = read(self._path)
        nameservers = parse(after).nameservers
        if nameservers[:1] != wanted.stub[:1]:
            first = nameservers[0] if nameservers else "none"
            raise ResolverError(f"{NAME}: another's record comes before ours: the first nameserver is {first}")
        return _told(before, after)

    def undo(self) -> list[str]:
        if is_there():
            run(_COMMAND, "-d", _DEBIAN_RECORD)
        return []

    def watched(self) -> list[str]:
        return [self._path, os.path.realpath(self._path), _DEBIAN_RECORDS + "/*"]


def is_there() -> bool:
    """Whether there is the command; resolved's own, which only has its name, does not count."""
    path = shutil.which(_COMMAND, path="/usr/sbin:/sbin:/usr/bin:/bin")
    return path is not None and os.path.basename(os.path.realpath(path)) != "resolvectl"


def is_debian() -> bool:
    """Whether it is Debian's own; not all of its versions tell so."""
    return os.path.exists(_DEBIAN_ORDER)


def _found(records: Sequence[ResolvConf], stub: Sequence[str]) -> Found:
    nameservers = [address for record in records for address in record.nameservers]
    return Found(
        others(nameservers, stub), tuple(dict.fromkeys(domain for record in records for domain in record.search))
    )


def _sections(text: str, own: str) -> list[ResolvConf]:
    """The records of `resolvconf -l`, without our own."""
    marker = "# resolv.conf from "
    sections: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith(marker):
            sections.append((line[len(marker) :].strip(), []))
        elif sections:
            sections[-1][1].append(line)
    return [parse("\n".join(lines).encode()) for name, lines in sections if name != own]


def _text(addresses: Sequence[str], search: Sequence[str]) -> str:
    lines = [*(f"nameserver {address}" for address in addresses), *([f"search {' '.join(search)}"] if search else [])]
    return "".join(f"{line}\n" for line in lines)


def _told(before: bytes, after: bytes) -> list[str]:
    return [] if before == after else ["it has the mesh's resolver"]
