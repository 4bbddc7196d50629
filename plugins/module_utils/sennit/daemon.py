# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The running agent: an event loop between the control API, the netmap, the datapath and the host."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import signal
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Optional, cast

from . import __version__
from .api import ApiError
from .api_server import ApiServer
from .beacon.former import NO_FORMER
from .config import Config
from .datapath.base import KERNEL, Datapath
from .following import Following
from .host.monitor import Monitor
from .host.routes import Wanted
from .host.tunnel import Tunnel
from .in_force import NETMAP, PREFERENCES, TRIAL_EXPIRED, InForce, Proposal, Trial
from .log import logger
from .names import Names
from .netmap.endpoint import literal_address, split_endpoint
from .netmap.model import MALFORMED, TOO_LARGE, NetmapError, encode_key
from .netmap.signing import MAX_SIGNED_BYTES
from .paths.endpoints import Endpoints
from .paths.paths import Paths
from .preferences import PreferencesError
from .processes.child import ChildError
from .relay.process import Relay
from .routing import DOWN, Routing, exit_state
from .sessions import Sessions
from .state import EndpointStore, StateError
from .status import peer_status, status
from .systemd import Notifier
from .tasks import begin
from .waiting import within
from .wireguard.constants import REJECT_AFTER_TIME
from .wireguard.events import Endpoint, PeerConfig

# Seconds. Changes of the host come in bursts; look when one is over.
SETTLE_TIME = 1.0
# How often to try again what the host refused, and to look whether silent peers have moved.
HOUSEKEEPING_INTERVAL = 60.0
# How often to look whether the exit node is down, if that matters.
EXIT_NODE_INTERVAL = 5.0
# How often a beacon looks where its peers are.
LOOK_INTERVAL = 1.0
# How long to wait for the address of an endpoint that is to be the exit node's.
ENDPOINT_TIMEOUT = 10.0
MAX_TRIAL_SECONDS = 3600


class Daemon:
    """One agent. ``datapath`` has been started; run() works with it and closes it."""

    def __init__(
        self, config: Config, public_key: bytes, datapath: Datapath, tunnel: Tunnel, notifier: Notifier
    ) -> None:
        self._config = config
        self._public_key = public_key
        self._datapath = datapath
        self._tunnel = tunnel
        self._notifier = notifier
        self._started_at = time.monotonic()
        self._in_force = InForce(config, public_key)
        self._refused: Optional[dict[str, Any]] = None
        self._unreadable: list[str] = []
        """What of the last run could not be taken up, for those who look for a problem."""
        self._endpoint_store = EndpointStore(config.endpoints_path)
        self._remembered: dict[str, Endpoint] = {}
        self._sessions = Sessions(config.sessions_path, datapath)
        self._trial_ends: Optional[asyncio.Future[None]] = None
        self._exit_down = False
        self._former = NO_FORMER

    async def run(self) -> None:
        """Until SIGTERM, or until a part without which there is no mesh fails; its error is raised."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        self._build()
        api = ApiServer(self._config.socket_path, self._answer, self._refuse_oversized)
        monitor = Monitor(self._config.interface)
        parts: list[asyncio.Future[None]] = []
        try:
            await api.start()
            parts += _start(self._datapath.run(), self._feed_watchdog(), self._answer_wg())
            async with self._changing:
                self._load()
                await self._apply()
                self._sessions.resume()
            self._following.start()
            self._notifier.ready()
            parts += _start(self._watch_host(monitor), self._keep_house(), self._watch_exit_node(), _until(stop))
            parts += _start(self._names.watch(), self._sessions.watch(), self._watch_peers(), self._paths.run())
            done, _pending = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            await self._close(api, monitor, parts)

    def _build(self) -> None:
        """The rest of __init__(), within the loop: before Python 3.10, what waits is bound to one when it is made."""
        # One change at a time.
        self._changing = asyncio.Lock()
        self._names = Names(self._config)
        self._following = Following(self._config, self._public_key, self._in_force, self._changing, self)
        self._attached_changed = asyncio.Event()
        self._relay = Relay(self._config, self._attached_changed.set)
        self._load_endpoints()
        self._following.load()
        self._endpoints = Endpoints(self._endpoint_found, remembered=self._remembered)
        self._paths = Paths(
            self._datapath,
            self._public_key,
            self._following.beacons.whereabouts,
            stated=self._endpoints.get,
            relays_changed=self._configure_datapath,
        )
        self._following.beacons.whereabouts.moved = self._paths.look_again

    async def _close(self, api: ApiServer, monitor: Monitor, parts: Sequence[asyncio.Future[None]]) -> None:
        self._notifier.stopping()
        await api.close()
        await self._following.close()
        await self._relay.close()
        await self._endpoints.close()
        await _stop([*parts, *([self._trial_ends] if self._trial_ends else [])])
        monitor.close()
        self._paths.close()
        self._sessions.close()
        # Routes go before the interface does, so that every removal is seen to work; and before them, names.
        async with self._changing:
            await self._names.close()
            if not self._interface_stays():
                await self._tunnel.reconcile(Wanted())
        self._datapath.close()

    def _interface_stays(self) -> bool:
        """Over a restart, with its addresses, routes and rules: what is sent meanwhile waits, and does not leave by
        the LAN.
        """
        if not self._notifier.restarting():
            return False
        descriptor = self._datapath.keep_interface()
        return descriptor is None or self._notifier.keep(descriptor)

    def _load(self) -> None:
        """Take up what was in force in the last run, as far as it is good."""
        try:
            self._in_force.load_preferences()
        except StateError as error:
            self._unreadable.append(f"the preferences are the defaults: {error}")
            logger.error("%s", self._unreadable[-1])
        try:
            self._in_force.load_netmap()
        except NetmapError as error:
            self._refuse(error.reason, f"the stored netmap: {error}")
        except StateError as error:
            self._refuse("unreadable", str(error))

    def _load_endpoints(self) -> None:
        try:
            self._remembered = self._endpoint_store.load()
        except StateError as error:
            logger.error("where names led is not known any more: %s", error)

    def _refuse(self, reason: str, message: str) -> None:
        self._refused = {"reason": reason, "message": message, "at": time.time()}
        logger.error("refused a netmap (%s): %s", reason, message)

    def _refuse_oversized(self) -> None:
        self._refuse(TOO_LARGE, f"longer than {MAX_SIGNED_BYTES} bytes")

    # --- bringing the datapath and the host to what is in force

    def _routing(self) -> Optional[Routing]:
        state = self._in_force.state
        if state.view is None:
            return None
        return Routing(state.view, state.preferences, not self._tunnel.exit_node_loops, self._exit_down, self._former)

    async def _apply(self) -> None:
        view = self._in_force.state.view
        self._endpoints.use(peer.endpoint for peer in (view.peers if view else ()) if peer.endpoint)
        if self._former != self._in_force.former:
            # What was an address as any other has to go before it can be one that is only answered from.
            self._former = NO_FORMER
            await self._settle()
            self._former = self._in_force.former
        await self._settle()
        self._relay.use(view)
        await self._following.use()
        self._paths.use(view)
        await self._apply_names()
        self._remember_exit_node()
        self._show_status()

    async def _apply_names(self) -> None:
        """They are answered by way of the tunnel, so without it the host asks whom it would ask without us."""
        state = self._in_force.state
        wanted = state.view is not None and state.preferences.accept_dns and not self._tunnel.down
        await self._names.apply(state.view.dns if state.view and wanted else None)

    async def _settle(self) -> None:
        """Look at the host, change what is to be changed, and again when what was found changes what is wanted."""
        for _look in range(2):
            routing = self._routing()
            await self._datapath.follow(self._wanted_peers())
            peer = routing.exit_peer if routing else None
            endpoint = self._endpoints.get(peer.endpoint) if peer else None
            await self._tunnel.reconcile(routing.wanted(endpoint) if routing else Wanted())
            if self._routing() == routing:
                break

    def _endpoint_found(self) -> None:
        self._configure_datapath()
        self._paths.look_again()
        self._remember_exit_node()

    def _remember_exit_node(self) -> None:
        """Keep where the exit node's name leads, while it can still be asked for."""
        routing = self._routing()
        peer = routing.exit_peer if routing else None
        found = self._endpoints.get(peer.endpoint) if peer else None
        if not (peer and peer.endpoint and found) or self._remembered.get(peer.endpoint) == found:
            return
        if literal_address(split_endpoint(peer.endpoint)[0]):
            return
        try:
            self._endpoint_store.keep({peer.endpoint: found})
        except StateError as error:
            logger.error("cannot keep where the exit node is: %s", error)
        else:
            self._remembered = {peer.endpoint: found}

    def _configure_datapath(self) -> None:
        self._datapath.configure(self._wanted_peers())

    def _wanted_peers(self) -> dict[bytes, PeerConfig]:
        routing = self._routing()
        peers = routing.view.peers if routing else ()
        configured = (
            {peer.public_key: routing.peer_config(peer, self._endpoints.get(peer.endpoint)) for peer in peers}
            if routing
            else {}
        )
        return {**self._paths.relay_peers, **configured}

    def _show_status(self) -> None:
        state = self._in_force.state
        if state.view and state.netmap:
            text = f"{state.view.name}, netmap version {state.netmap.version}, {len(state.view.peers)} peers"
        else:
            text = "waiting for a netmap"
        if self._in_force.trial:
            text += f"; {self._in_force.trial.proposal.what} on trial"
        refused = f"; refused a netmap ({self._refused['reason']})" if self._refused else ""
        self._notifier.status(text + refused)

    # --- the control API

    async def _answer(self, method: str, params: dict[str, Any]) -> Any:
        if method == "version":
            return __version__
        if method == "status":
            return self._status()
        if method == "peer.status":
            return self._peer_status(params)
        if method == "dns.status":
            return await self._names.status()
        if method == "dns.query":
            return await self._names.query(*_question(params))
        if method == "netmap.apply":
            return await self._apply_netmap(params)
        if method == "preferences.get":
            return {"preferences": self._in_force.state.preferences.to_mapping()}
        if method == "preferences.set":
            return await self._set_preferences(params)
        if method == "trial.confirm":
            return await self._confirm(params)
        raise ApiError("unknown-method", f"no method {method[:60]!r}")

    async def _apply_netmap(self, params: dict[str, Any]) -> dict[str, Any]:
        encoded = params.get("netmap")
        if not isinstance(encoded, str):
            raise ApiError("bad-request", "params.netmap: missing, or not a string")
        seconds = _trial_seconds(params)
        async with self._changing:
            try:
                proposal = self._in_force.propose_netmap(_decode(encoded), "the control node")
            except NetmapError as error:
                self._refuse(error.reason, str(error))
                self._show_status()
                raise ApiError(error.reason, str(error)) from error
            result = await self._adopt(proposal, seconds)
            netmap = self._in_force.state.netmap
            return {**result, "version": netmap.version if netmap else None}

    async def _set_preferences(self, params: dict[str, Any]) -> dict[str, Any]:
        seconds = _trial_seconds(params)
        async with self._changing:
            try:
                proposal = self._in_force.propose_preferences(params.get("preferences"))
            except PreferencesError as error:
                raise ApiError(error.reason, str(error)) from error
            before, after = self._in_force.state.preferences, proposal.state.preferences
            if after.exit_node is not None and after.exit_node != before.exit_node:
                await self._survey(proposal)
            result = await self._adopt(proposal, seconds)
            return {**result, "preferences": after.to_mapping()}

    async def _survey(self, proposal: Proposal) -> None:
        """Whether this host can use an exit node at all, before anything changes. Raises ApiError."""
        state = proposal.state
        peer = Routing(state.view, state.preferences).exit_peer if state.view else None
        endpoint = await self._endpoints.find(peer.endpoint, ENDPOINT_TIMEOUT) if peer else None
        if peer and peer.endpoint and endpoint is None:
            # Its name would have to be asked for through itself.
            message = f"the address of its endpoint {peer.endpoint} cannot be found"
            raise ApiError("exit-node-not-found", f"exit_node: {peer.name} cannot be used here: {message}")
        try:
            code, message = await self._tunnel.survey(endpoint[0] if endpoint else None)
        except ChildError as error:
            raise ApiError("internal", f"cannot look at this host's routes: {error}") from error
        if code:
            raise ApiError(code, f"exit_node: {state.preferences.exit_node} cannot be used here: {message}")

    async def adopt_by_itself(self, proposal: Proposal, seconds: Optional[float]) -> None:
        """For Following: without a control node that could mend what cannot be saved. Raises ApiError."""
        await self._adopt(proposal, seconds, must_save=False)

    async def confirm_by_itself(self, identity: str) -> None:
        """For Following. Raises ApiError."""
        await self._confirm({"id": identity}, must_save=False)

    async def _adopt(self, proposal: Proposal, seconds: Optional[float], must_save: bool = True) -> dict[str, Any]:
        try:
            changed = self._in_force.adopt(proposal, seconds, time.monotonic(), must_save)
        except StateError as error:
            logger.error("cannot keep the %s: %s", proposal.what, error)
            raise ApiError("state", str(error)) from error
        if proposal.what == NETMAP:
            self._refused = None
        if changed:
            if proposal.what == PREFERENCES:
                self._unreadable.clear()
            self._watch_trial()
            self._following.pass_on()
            await self._apply()
        self._show_status()
        trial = self._in_force.trial
        if changed and trial:
            return {"changed": True, "trial": {"id": trial.id, "deadline": trial.seconds}}
        return {"changed": changed}

    async def _confirm(self, params: dict[str, Any], must_save: bool = True) -> dict[str, Any]:
        async with self._changing:
            try:
                self._in_force.confirm(params.get("id"), must_save)
            except StateError as error:
                raise ApiError("state", str(error)) from error
            self._watch_trial()
            if self._former == self._in_force.former:
                await self._following.use()
            else:
                await self._apply()
            self._show_status()
        return {"confirmed": True}

    def _watch_trial(self) -> None:
        """Have the trial that there is, if there is one, end in time, and no other."""
        if self._trial_ends is not None:
            self._trial_ends.cancel()
            self._trial_ends = None
        if self._in_force.trial is not None:
            self._trial_ends = begin("the end of a trial", self._end(self._in_force.trial))

    async def _end(self, trial: Trial) -> None:
        await asyncio.sleep(trial.ends_at - time.monotonic())
        async with self._changing:
            # From here on nobody cancels this: whoever does holds the lock.
            if self._in_force.trial is not trial:
                return
            self._trial_ends = None
            self._in_force.fall_back()
            if trial.proposal.what == NETMAP:
                message = f"{trial.proposal.state.of(NETMAP)} was not confirmed within {trial.seconds:g} s"
                self._refused = {"reason": TRIAL_EXPIRED, "message": message, "at": time.time()}
            await self._apply()

    def _status(self) -> dict[str, Any]:
        return status(
            self._config,
            encode_key(self._public_key),
            self._in_force,
            routing=self._routing(),
            tunnel=self._tunnel,
            live=self._datapath.status(),
            uptime=time.monotonic() - self._started_at,
            refused=self._refused,
            names=self._names,
            unreadable=self._unreadable,
            following=self._following,
            relay=self._relay,
            paths=self._paths,
        )

    def _peer_status(self, params: dict[str, Any]) -> dict[str, Any]:
        view = self._in_force.state.view
        for peer in view.peers if view else ():
            if peer.name == params.get("name"):
                return peer_status(peer, self._datapath.status().peers.get(peer.public_key), self._paths)
        raise ApiError("bad-request", f"params.name: no peer is called {str(params.get('name'))[:60]!r}")

    # --- what goes on by itself

    async def _watch_host(self, monitor: Monitor) -> None:
        """Look again when the host's addresses or rules change: an on-link prefix more or less, a rule lost."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def readable() -> None:
            if monitor.changed():
                changed.set()
                # Peers wait for that.
                self._paths.host_changed()

        loop.add_reader(monitor.socket, readable)
        try:
            while True:
                await changed.wait()
                await asyncio.sleep(SETTLE_TIME)
                changed.clear()
                async with self._changing:
                    await self._settle()
                    await self._apply_names()
                self._following.look_around()
        finally:
            loop.remove_reader(monitor.socket)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_INTERVAL)
            async with self._changing:
                # The peers are the netmap's, whatever somebody has done with `wg`.
                self._configure_datapath()
                if self._tunnel.failed:
                    await self._settle()
                await self._following.keep_house()
            live = self._datapath.status().peers
            view = self._in_force.state.view
            for peer in view.peers if view else ():
                known = live.get(peer.public_key)
                handshake = known.latest_handshake if known else None
                # Silent for longer than a session lasts: perhaps its name leads elsewhere by now.
                if handshake is None or time.time() - handshake > REJECT_AFTER_TIME:
                    self._endpoints.refresh(peer.endpoint)

    async def _watch_peers(self) -> None:
        """Notice where peers are, and which of them the relay reaches."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await within(LOOK_INTERVAL, self._attached_changed.wait())
            self._attached_changed.clear()
            view = self._in_force.state.view
            if view and view.beacon is not None:
                self._following.observe(self._datapath.status().peers, self._relay, self._paths.relay_endpoints)

    async def _watch_exit_node(self) -> None:
        """With exit_node_fail_open, notice that the exit node is down, or up again."""
        while True:
            await asyncio.sleep(EXIT_NODE_INTERVAL)
            if not self._in_force.state.preferences.exit_node_fail_open:
                continue
            async with self._changing:
                routing = self._routing()
                peer = routing.exit_peer if routing else None
                live = self._datapath.status().peers.get(peer.public_key) if peer else None
                down = peer is not None and exit_state(live, time.time()) == DOWN
                if down != self._exit_down:
                    self._exit_down = down
                    logger.warning("the exit node is %s", "down: all leaves by the LAN" if down else "up again")
                    await self._settle()

    async def _answer_wg(self) -> None:
        """Be an interface that `wg` finds, as the kernel's WireGuard is by itself. Nothing here depends on it."""
        forever = asyncio.get_running_loop().create_future()
        if self._datapath.status().name == KERNEL:
            await forever
        from .datapath.userspace import UserspaceDatapath  # noqa: PLC0415
        from .uapi.server import UapiServer  # noqa: PLC0415

        server = UapiServer(cast(UserspaceDatapath, self._datapath), self._config.interface, fixed=True)
        try:
            await server.start()
        except OSError as error:
            logger.warning("wg does not see %s: %s", self._config.interface, error.strerror)
        try:
            await forever
        finally:
            await server.close()

    async def _feed_watchdog(self) -> None:
        """Tell systemd that the loop turns; as soon as the datapath fails, run() ends and with it this."""
        interval = self._notifier.watchdog_interval
        if interval is None:
            await asyncio.get_running_loop().create_future()
            return
        while True:
            self._notifier.alive()
            await asyncio.sleep(interval)


def _question(params: dict[str, Any]) -> tuple[str, str]:
    """Name and type of a query. Raises ApiError."""
    name, type_name = params.get("name"), params.get("type", "A")
    if not isinstance(name, str) or not isinstance(type_name, str):
        raise ApiError("bad-request", "params.name: missing, or it or params.type not a string")
    return name, type_name


def _trial_seconds(params: dict[str, Any]) -> Optional[float]:
    """For how long a change is to be tried; None when it is for good. Raises ApiError."""
    value = params.get("trial")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_TRIAL_SECONDS:
        message = f"params.trial: {str(value)[:60]} is no number of seconds up to {MAX_TRIAL_SECONDS}"
        raise ApiError("bad-request", message)
    return float(value)


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
