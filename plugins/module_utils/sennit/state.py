# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the agent keeps over restarts: the signed netmap, byte for byte, the preferences, and where names led."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Optional, TypeVar

from . import files
from .beacon.messages import is_reachable
from .beacon.registry import Sighting
from .beacon.whereabouts import LOCAL, OBSERVED, RELAY_OBSERVED
from .netmap.endpoint import join_endpoint, literal_address, split_endpoint
from .netmap.model import TOO_LARGE, NetmapError, decode_key, encode_key
from .preferences import MAX_PREFERENCES_BYTES, Preferences, PreferencesError
from .relay.routes import EXPIRE_AFTER, MOST, Route
from .wireguard.constants import REJECT_AFTER_TIME
from .wireguard.events import Endpoint

_MAX_SESSIONS_BYTES = 4 << 20
_MAX_ROUTES_BYTES = 16 << 20
_MAX_WHEREABOUTS_BYTES = 64 << 20
_KINDS = {"observed": OBSERVED, "by_relay": RELAY_OBSERVED, "local": LOCAL}

Content = TypeVar("Content")


class StateError(Exception):
    """The state cannot be read or written; the message names the file."""


class _Store:
    """One file; ``limit`` is the most bytes it may have."""

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit

    def save(self, content: bytes, lasting: bool = True) -> None:
        """Replace the file; a crash leaves the old one or the new one. Raises StateError."""
        try:
            files.replace(self._path, content, lasting=lasting)
        except OSError as error:
            raise StateError(f"{self._path}: {error.strerror}") from error

    def remove(self) -> None:
        """Have no file. Raises StateError."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        except OSError as error:
            raise StateError(f"{self._path}: {error.strerror}") from error

    def remove_leftovers(self) -> None:
        """Remove what a crash in the middle of save() left. Raises StateError."""
        directory, name = os.path.split(self._path)
        try:
            files.remove_leftovers(directory, name)
        except OSError as error:
            raise StateError(f"{directory}: {error.strerror}") from error

    def _load(self, parse: Callable[[Any], Content], nothing: Content) -> Content:
        """What ``parse`` makes of the file's JSON; ``nothing`` when there is no file, or a crash has left it empty.

        Raises StateError.
        """
        try:
            content = self._read()
            return parse(json.loads(content)) if content else nothing
        except _NOT_WHAT_WAS_SAVED as error:
            raise StateError(f"{self._path}: {error}") from error

    def _read(self) -> Optional[bytes]:
        """The content, None when there is no file. One that is too long is refused by its size, unread.

        Raises StateError, and _TooLargeError.
        """
        try:
            with open(self._path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > self._limit:
                    raise _TooLargeError(f"{size} bytes; the limit is {self._limit}")
                return file.read(self._limit)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self._path}: {error.strerror}") from error


class _TooLargeError(Exception):
    pass


# What parsing raises for a file that somebody has damaged.
_NOT_WHAT_WAS_SAVED = (
    _TooLargeError, ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError
)  # fmt: skip


class NetmapStore(_Store):
    """One signed netmap."""

    def load(self) -> Optional[bytes]:
        """The signed netmap, or None when there is none yet. Raises NetmapError too-large, StateError."""
        try:
            return self._read()
        except _TooLargeError as error:
            raise NetmapError(TOO_LARGE, str(error)) from error


class PreferencesStore(_Store):
    """The preferences of this host."""

    def __init__(self, path: str) -> None:
        super().__init__(path, MAX_PREFERENCES_BYTES)

    def load(self) -> Preferences:
        """The preferences, the defaults when none were set yet. Raises StateError."""
        try:
            content = self._read()
            return Preferences() if content is None else Preferences.from_json(content)
        except (_TooLargeError, PreferencesError) as error:
            raise StateError(f"{self._path}: {error}") from error


class SessionStore(_Store):
    """With which peers there are sessions, and where they are: for the next run, should it begin soon."""

    def __init__(self, path: str) -> None:
        super().__init__(path, _MAX_SESSIONS_BYTES)

    def load(self, now: float) -> dict[bytes, Endpoint]:
        """By public key; empty when it is older than a session lasts. now is the time of day. Raises StateError."""

        def parse(content: Any) -> dict[bytes, Endpoint]:
            if not 0 <= now - float(content["at"]) < REJECT_AFTER_TIME:
                return {}
            return {decode_key(key): split_endpoint(address) for key, address in content["peers"].items()}

        return self._load(parse, {})

    def keep(self, sessions: Mapping[bytes, Endpoint], now: float) -> None:
        """Not those on the link alone: its interface may have another name then. Raises StateError."""
        peers = {
            encode_key(key): join_endpoint(*endpoint) for key, endpoint in sessions.items() if is_reachable(endpoint)
        }
        self.save(json.dumps({"at": now, "peers": peers}).encode() + b"\n")


class RouteStore(_Store):
    """The routes of the sessions that go by a relay: for the next run, should it begin soon."""

    def __init__(self, path: str) -> None:
        super().__init__(path, _MAX_ROUTES_BYTES)

    def load(self, now: float) -> list[Route]:
        """MOST of them; none when all are too old. now is the time of day. Raises StateError."""

        def parse(content: Any) -> list[Route]:
            if not 0 <= now - float(content["at"]) < EXPIRE_AFTER:
                return []
            nodes = [decode_key(key) for key in content["nodes"]]
            routes = [Route(nodes[owner], nodes[other], int(index)) for owner, other, index in content["routes"]]
            return routes[:MOST]

        return self._load(parse, [])

    def keep(self, routes: Iterable[Route], now: float) -> None:
        """Have these, and no others; no disk is waited for. Raises StateError."""
        numbers: dict[bytes, int] = {}
        numbered = [
            (numbers.setdefault(owner, len(numbers)), numbers.setdefault(other, len(numbers)), index)
            for owner, other, index in routes
        ]
        content = {"at": now, "nodes": [encode_key(key) for key in numbers], "routes": numbered}
        self.save(json.dumps(content).encode() + b"\n", lasting=False)


class EndpointStore(_Store):
    """The addresses of endpoints that have a name, "host:port" of each."""

    def __init__(self, path: str) -> None:
        super().__init__(path, MAX_PREFERENCES_BYTES)

    def load(self) -> dict[str, Endpoint]:
        """By endpoint; empty when there is none. Raises StateError."""

        def parse(content: Any) -> dict[str, Endpoint]:
            found = {str(endpoint): split_endpoint(address) for endpoint, address in content.items()}
            return {endpoint: address for endpoint, address in found.items() if literal_address(address[0])}

        return self._load(parse, {})

    def keep(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Have these, and no others. Raises StateError."""
        content = {endpoint: join_endpoint(*address) for endpoint, address in endpoints.items()}
        self.save(json.dumps(content, sort_keys=True).encode() + b"\n")


class WhereaboutsStore(_Store):
    """Where a beacon has last seen the nodes."""

    def __init__(self, path: str) -> None:
        super().__init__(path, _MAX_WHEREABOUTS_BYTES)

    def load(self) -> list[tuple[bytes, Sighting]]:
        """By public key; empty when there is no file. Raises StateError."""

        def parse(content: Any) -> list[tuple[bytes, Sighting]]:
            return [
                (decode_key(key), Sighting(_KINDS[kind], split_endpoint(endpoint), float(at)))
                for key, kind, endpoint, at in content
            ]

        return self._load(parse, [])

    def keep(self, sightings: Iterable[tuple[bytes, Sighting]]) -> None:
        """Have these, and no others; no disk is waited for, as beacons learn all of it anew. Raises StateError."""
        names = {kind: name for name, kind in _KINDS.items()}
        content = [
            (encode_key(key), names[sighting.kind], join_endpoint(*sighting.endpoint), round(sighting.at))
            for key, sighting in sightings
        ]
        self.save(json.dumps(content).encode() + b"\n", lasting=False)


class FormerStore(_Store):
    """Addresses that nodes had in earlier maps, and when they were left (seconds since the epoch)."""

    def __init__(self, path: str) -> None:
        super().__init__(path, _MAX_WHEREABOUTS_BYTES)

    def load(self) -> dict[bytes, dict[str, float]]:
        """By public key; empty when there is no file. Raises StateError."""

        def parse(content: Any) -> dict[bytes, dict[str, float]]:
            return {
                decode_key(key): {str(ipaddress.ip_address(address)): float(at) for address, at in left.items()}
                for key, left in content.items()
            }

        return self._load(parse, {})

    def keep(self, left: Mapping[bytes, Mapping[str, float]]) -> None:
        """Have these, and no others. Raises StateError."""
        self.save(json.dumps({encode_key(key): addresses for key, addresses in left.items()}).encode() + b"\n")
