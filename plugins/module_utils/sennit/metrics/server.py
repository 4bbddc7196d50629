# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics over HTTP for whoever scrapes them from within the mesh: at this node's mesh addresses, and nowhere else."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import socketserver
import sys
import threading
import time
import wsgiref.simple_server
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, Optional, Union

# Seconds. So long a client may take over its request.
REQUEST_TIMEOUT = 10.0
# How often to look whether the mesh is still the same.
LOOK_INTERVAL = 30.0
# Clients at a time; a scrape takes milliseconds.
MAX_CLIENTS = 16

ReadStatus = Callable[[], Optional[Mapping[str, Any]]]
Application = Callable[..., Iterable[bytes]]
Prefix = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class Servers:
    """A server at each mesh address of this status. Raises OSError when an address cannot be had."""

    def __init__(self, status: Mapping[str, Any], port: int, application: Application) -> None:
        self._servers: list[_Server] = []
        self.use(status)
        try:
            for address in status["addresses"]:
                self._servers.append(_Server(address, port, application, self._admits))
        except OSError:
            self.close()
            raise
        for server in self._servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def use(self, status: Mapping[str, Any]) -> None:
        """Serve the peers of this status, what is behind them, and this host itself."""
        prefixes = [ipaddress.ip_network(prefix) for peer in status["peers"] for prefix in peer["allowed_ips"]]
        self._prefixes: list[Prefix] = [*map(ipaddress.ip_network, status["addresses"]), *prefixes]

    def close(self) -> None:
        for server in self._servers:
            server.server_close()

    def _admits(self, address: str) -> bool:
        """A host on the LAN can send to a mesh address, too, for the kernel answers at any interface."""
        source = ipaddress.ip_address(address)
        return any(source in prefix for prefix in self._prefixes)


def serve(read: ReadStatus, port: int, application: Application, ready: Callable[[Sequence[str]], None]) -> None:
    """Until this node's addresses are others. Raises OSError when one cannot be had.

    ``ready`` is called with the addresses as soon as they are served.
    """
    status = read()
    addresses = status["addresses"] if status else []
    if not status or not addresses:
        raise OSError(0, "this node has no address in the mesh yet")
    with contextlib.closing(Servers(status, port, application)) as servers:
        ready(addresses)
        while True:
            time.sleep(LOOK_INTERVAL)
            status = read()
            if status and status["addresses"] != addresses:
                return
            if status:
                servers.use(status)


class _Handler(wsgiref.simple_server.WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT

    def log_message(self, *_arguments: Any) -> None:
        """A scrape is nothing to log."""


class _Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True

    def __init__(self, address: str, port: int, application: Application, admits: Callable[[str], bool]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._admits = admits
        self._free = threading.BoundedSemaphore(MAX_CLIENTS)
        super().__init__((address, port), _Handler)
        self.set_app(application)

    def server_bind(self) -> None:
        # HTTPServer's own would ask for the address's name, and wait for an answer.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        return self._admits(client_address[0])

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that has left, or is too slow, is nobody's fault here.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
