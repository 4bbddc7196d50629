# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The running agent: an event loop between the control API, the netmap, the datapath and the host."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import signal
import time
from collections.abc import Coroutine
from typing import Any, Optional

from . import __version__
from .api import ApiError
from .api_server import ApiServer
from .config import Config
from .datapath.userspace import UserspaceDatapath
from .endpoints import Endpoints
from .host.monitor import Monitor
from .host.tunnel import Tunnel
from .log import logger
from .netmap.admit import admit
from .netmap.model import MALFORMED, TOO_LARGE, Netmap, NetmapError, encode_key
from .netmap.signing import MAX_SIGNED_BYTES
from .netmap.view import View, derive
from .state import NetmapStore, StateError
from .status import peer_status
from .systemd import Notifier
from .wireguard.constants import REJECT_AFTER_TIME
from .wireguard.events import PeerConfig

# Seconds. Changes of the host come in bursts; look when one is over.
SETTLE_TIME = 1.0
# How often to try again what the host refused, and to look whether silent peers have moved.
HOUSEKEEPING_INTERVAL = 60.0


class Daemon:
    """One agent. ``datapath`` has been started; run() works with it and closes it."""

    def __init__(
        self, config: Config, public_key: bytes, datapath: UserspaceDatapath, tunnel: Tunnel, notifier: Notifier
    ) -> None:
        self._config = config
        self._public_key = public_key
        self._datapath = datapath
        self._tunnel = tunnel
        self._notifier = notifier
        self._started_at = time.monotonic()
        self._store = NetmapStore(config.netmap_path, MAX_SIGNED_BYTES)
        self._netmap: Optional[Netmap] = None
        self._view: Optional[View] = None
        self._sha256: Optional[str] = None
        self._refused: Optional[dict[str, Any]] = None

    async def run(self) -> None:
        """Until SIGTERM, or until a part without which there is no mesh fails; its error is raised."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        # One change at a time.
        self._changing = asyncio.Lock()
        self._endpoints = Endpoints(self._configure_datapath)
        api = ApiServer(self._config.socket_path, self._answer, self._refuse_oversized)
        monitor = Monitor()
        parts: list[asyncio.Future[None]] = []
        try:
            await api.start()
            parts += _start(self._datapath.run(), self._feed_watchdog())
            async with self._changing:
                self._load()
                await self._apply()
            self._notifier.ready()
            parts += _start(self._watch_host(monitor), self._keep_house(), _until(stop))
            done, _pending = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            self._notifier.stopping()
            await api.close()
            await self._endpoints.close()
            await _stop(parts)
            monitor.close()
            # Routes go before the interface does, so that every removal is seen to work.
            async with self._changing:
                await self._tunnel.reconcile(None)
            self._datapath.close()

    # --- the netmap

    def _load(self) -> None:
        """Take up the netmap of the last run, if there is one and it is good."""
        try:
            self._store.remove_leftovers()
            signed = self._store.load()
            if signed is None:
                logger.info("no netmap yet; waiting for one")
            else:
                self._admit(signed)
        except NetmapError as error:
            self._refuse(error.reason, f"the stored netmap: {error}")
        except StateError as error:
            self._refuse("unreadable", str(error))

    def _admit(self, signed: bytes) -> bool:
        """Make a map the current one; False when it was already. Raises NetmapError."""
        sha256 = hashlib.sha256(signed).hexdigest()
        if sha256 == self._sha256:
            return False
        netmap = admit(signed, self._config.signing_key, self._config.network, self._netmap)
        view = derive(netmap, self._public_key)
        self._netmap, self._view, self._sha256 = netmap, view, sha256
        logger.info("netmap version %d: this is node %s, with %d peers", netmap.version, view.name, len(view.peers))
        return True

    def _refuse(self, reason: str, message: str) -> None:
        self._refused = {"reason": reason, "message": message, "at": time.time()}
        logger.error("refused a netmap (%s): %s", reason, message)

    def _refuse_oversized(self) -> None:
        self._refuse(TOO_LARGE, f"longer than {MAX_SIGNED_BYTES} bytes")

    async def _apply(self) -> None:
        """Bring the datapath and the host to what the view says."""
        peers = self._view.peers if self._view else ()
        self._endpoints.use(peer.endpoint for peer in peers if peer.endpoint)
        self._configure_datapath()
        await self._tunnel.reconcile(self._view)
        self._show_status()

    def _configure_datapath(self) -> None:
        self._datapath.configure(
            {
                peer.public_key: PeerConfig(
                    public_key=peer.public_key,
                    allowed_ips=peer.allowed_ips,
                    endpoint=self._endpoints.get(peer.endpoint),
                    persistent_keepalive=peer.persistent_keepalive,
                )
                for peer in (self._view.peers if self._view else ())
            }
        )

    def _show_status(self) -> None:
        if self._view and self._netmap:
            text = f"{self._view.name}, netmap version {self._netmap.version}, {len(self._view.peers)} peers"
        else:
            text = "waiting for a netmap"
        refused = f"; refused a netmap ({self._refused['reason']})" if self._refused else ""
        self._notifier.status(text + refused)

    # --- the control API

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        if method == "version":
            return __version__
        if method == "status":
            return self._status()
        if method == "netmap.apply":
            return await self._apply_netmap(params)
        raise ApiError("unknown-method", f"no method {method[:60]!r}")

    async def _apply_netmap(self, params: dict[str, Any]) -> dict[str, Any]:
        encoded = params.get("netmap")
        if not isinstance(encoded, str):
            raise ApiError("bad-request", "params.netmap: missing, or not a string")
        async with self._changing:
            before = self._netmap, self._view, self._sha256
            try:
                signed = _decode(encoded)
                changed = self._admit(signed)
            except NetmapError as error:
                self._refuse(error.reason, str(error))
                self._show_status()
                raise ApiError(error.reason, str(error)) from error
            if changed:
                try:
                    # First the disk, so that no restart falls back behind what peers have already seen of us.
                    self._store.save(signed)
                except StateError as error:
                    self._netmap, self._view, self._sha256 = before
                    logger.error("cannot keep the netmap: %s", error)
                    raise ApiError("state", str(error)) from error
            self._refused = None
            if changed:
                await self._apply()
            self._show_status()
        return {"changed": changed, "version": self._netmap.version if self._netmap else None}

    def _status(self) -> dict[str, Any]:
        live = self._datapath.status()
        view = self._view
        peers = view.peers if view else ()
        return {
            "version": __version__,
            "network": self._config.network,
            "interface": self._config.interface,
            "datapath": "userspace",
            "node": view.name if view else None,
            "public_key": encode_key(self._public_key),
            "addresses": list(view.addresses) if view else [],
            "listen_port": live.listen_port,
            "uptime": time.monotonic() - self._started_at,
            "netmap": {
                "version": self._netmap.version if self._netmap else None,
                "sha256": self._sha256,
                "refused": self._refused,
            },
            "peers": [peer_status(peer, live.peers.get(peer.public_key)) for peer in peers],
            "routes": [
                {"prefix": prefix, "via": peer.name, "state": self._tunnel.route_state(prefix)}
                for peer in peers
                for prefix in peer.routes
            ],
            "problems": [f"{what}: {reason}" for what, reason in self._tunnel.failed.items()],
            "drops": dict(live.drops),
        }

    # --- what goes on by itself

    async def _watch_host(self, monitor: Monitor) -> None:
        """Look again when the host's addresses or rules change: an on-link prefix more or less, a rule lost."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def readable() -> None:
            if monitor.changed():
                changed.set()

        loop.add_reader(monitor.socket, readable)
        try:
            while True:
                await changed.wait()
                await asyncio.sleep(SETTLE_TIME)
                changed.clear()
                async with self._changing:
                    await self._tunnel.reconcile(self._view)
        finally:
            loop.remove_reader(monitor.socket)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_INTERVAL)
            if self._tunnel.failed:
                async with self._changing:
                    await self._tunnel.reconcile(self._view)
            live = self._datapath.status().peers
            for peer in self._view.peers if self._view else ():
                known = live.get(peer.public_key)
                handshake = known.latest_handshake if known else None
                # Silent for longer than a session lasts: perhaps its name leads elsewhere by now.
                if handshake is None or time.time() - handshake > REJECT_AFTER_TIME:
                    self._endpoints.refresh(peer.endpoint)

    async def _feed_watchdog(self) -> None:
        """Tell systemd that the loop turns; as soon as the datapath fails, run() ends and with it this."""
        interval = self._notifier.watchdog_interval
        if interval is None:
            await asyncio.get_running_loop().create_future()
            return
        while True:
            self._notifier.alive()
            await asyncio.sleep(interval)


def _decode(encoded: str) -> bytes:
    # By its length first: what is too large is not worth decoding.
    if len(encoded) > 4 * (MAX_SIGNED_BYTES // 3 + 1):
        raise NetmapError(TOO_LARGE, f"longer than {MAX_SIGNED_BYTES} bytes")
    try:
        return base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        raise NetmapError(MALFORMED, "not base64") from None


def _start(*parts: Coroutine[Any, Any, None]) -> list[asyncio.Future[None]]:
    return [asyncio.ensure_future(part) for part in parts]


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _stop(parts: list[asyncio.Future[None]]) -> None:
    for part in parts:
        part.cancel()
    await asyncio.gather(*parts, return_exceptions=True)
