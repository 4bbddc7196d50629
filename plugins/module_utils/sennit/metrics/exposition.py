# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's status as Prometheus metrics, in the text format, with names by Prometheus' own conventions.

They are made from the status by whoever asks for them; the agent itself knows nothing of Prometheus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Optional

try:
    from prometheus_client.core import (
        CollectorRegistry,
        CounterMetricFamily,
        GaugeMetricFamily,
        InfoMetricFamily,
        Metric,
    )
    from prometheus_client.exposition import generate_latest, make_wsgi_app
except ImportError as error:
    PROMETHEUS_IMPORT_ERROR: Optional[ImportError] = error
else:
    PROMETHEUS_IMPORT_ERROR = None

INSTALLED = "installed"

ReadStatus = Callable[[], Optional[Mapping[str, Any]]]
"""Gives the agent's status, or None when no agent answers."""


class StatusCollector:
    """Reads the status anew for each scrape."""

    def __init__(self, read: ReadStatus) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        status = self._read()
        yield _gauge("sennit_up", "Whether the agent answers.", status is not None)
        if status is not None:
            yield from _of_node(status)
            yield from _of_peers(status["peers"])
            yield from _of_beacons(status)


def registry(read: ReadStatus) -> CollectorRegistry:
    """A registry of nothing but these metrics."""
    found = CollectorRegistry(auto_describe=False)
    found.register(StatusCollector(read))
    return found


def exposition(read: ReadStatus) -> bytes:
    """All metrics in the text format."""
    return bytes(generate_latest(registry(read)))


def application(read: ReadStatus) -> Callable[..., Iterable[bytes]]:
    """All metrics, for an HTTP server that speaks WSGI (PEP 3333)."""
    return make_wsgi_app(registry(read))


def _of_node(status: Mapping[str, Any]) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "sennit_build",
        "The agent, and what carries its packets.",
        value={
            "version": status["version"],
            "datapath": status["datapath"],
            "core": status["core"] or "",
        },
    )
    yield InfoMetricFamily(
        "sennit_node",
        "This node.",
        value={"network": status["network"], "node": status["node"] or "", "public_key": status["public_key"]},
    )
    started = status["time"] - status["uptime"]
    yield _gauge("sennit_start_time_seconds", "When the agent started, in seconds since the epoch.", started)
    netmap = status["netmap"]
    yield _gauge("sennit_netmap_version", "The netmap in force; 0 if there is none.", netmap["version"] or 0)
    yield _gauge(
        "sennit_netmap_refused", "Whether the newest netmap offered was refused.", netmap["refused"] is not None
    )
    yield _gauge("sennit_problems", "How many problems the status tells of.", len(status["problems"]))
    drops = CounterMetricFamily("sennit_dropped_packets", "Packets dropped, by reason.", labels=["reason"])
    for reason, count in sorted(status["drops"].items()):
        drops.add_metric([reason], count)
    yield drops
    routes = GaugeMetricFamily(
        "sennit_route_installed", "Whether the route to a subnet of another is in use here.", labels=["prefix", "via"]
    )
    for route in status["routes"]:
        routes.add_metric([route["prefix"], route["via"]], route["state"] == INSTALLED)
    yield routes
    if status["exit_node"]:
        exit_up = GaugeMetricFamily("sennit_exit_node_up", "Whether the exit node in use is up.", labels=["exit_node"])
        exit_up.add_metric([status["exit_node"]["name"]], status["exit_node"]["state"] != "down")
        yield exit_up


def _of_peers(peers: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    handshake = GaugeMetricFamily(
        "sennit_peer_latest_handshake_seconds",
        "When the latest handshake was, in seconds since the epoch; 0 if there was none.",
        labels=["peer"],
    )
    received = CounterMetricFamily("sennit_peer_receive_bytes", "Bytes received from a peer.", labels=["peer"])
    sent = CounterMetricFamily("sennit_peer_transmit_bytes", "Bytes sent to a peer.", labels=["peer"])
    path = InfoMetricFamily(
        "sennit_peer_path",
        "How packets go to a peer: lan, ipv6, direct, relay (by which beacon), or not known.",
        labels=["peer"],
    )
    rtt = GaugeMetricFamily("sennit_peer_rtt_seconds", "The round-trip time to a peer, if measured.", labels=["peer"])
    for peer in peers:
        name = [peer["name"]]
        handshake.add_metric(name, peer["latest_handshake"] or 0)
        received.add_metric(name, peer["rx_bytes"])
        sent.add_metric(name, peer["tx_bytes"])
        known = peer["path"] or {}
        path.add_metric(name, {"path": known.get("kind") or "unknown", "relay": known.get("relay") or ""})
        if peer["rtt"] is not None:
            rtt.add_metric(name, peer["rtt"])
    yield from (handshake, received, sent, path, rtt)


def _of_beacons(status: Mapping[str, Any]) -> Iterator[Metric]:
    connected = GaugeMetricFamily(
        "sennit_beacon_connected", "Whether there is a stream to a beacon.", labels=["beacon"]
    )
    rtt = GaugeMetricFamily("sennit_beacon_rtt_seconds", "How fast a beacon last answered.", labels=["beacon"])
    for beacon in status["beacons"]:
        connected.add_metric([beacon["name"]], beacon["since"] is not None)
        if beacon.get("rtt") is not None:
            rtt.add_metric([beacon["name"]], beacon["rtt"])
    yield from (connected, rtt)
    own = status["beacon"]
    if own:
        yield _gauge("sennit_beacon_clients", "Nodes with a stream to this beacon.", len(own["clients"]))
        yield from _of_relay(own.get("relay") or {})


def _of_relay(relay: Mapping[str, Any]) -> Iterator[Metric]:
    if not relay:
        return
    yield _gauge("sennit_relay_attached_nodes", "Nodes that this beacon's relay reaches.", relay["attached"])
    yield CounterMetricFamily(
        "sennit_relay_forwarded_bytes", "Bytes that this beacon has relayed.", value=relay["forwarded_bytes"]
    )
    drops = CounterMetricFamily("sennit_relay_dropped_packets", "Packets not relayed, by reason.", labels=["reason"])
    for reason, count in sorted(relay["drops"].items()):
        drops.add_metric([reason], count)
    yield drops


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=float(value))
