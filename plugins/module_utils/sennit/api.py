# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control API's wire format, and a small blocking client of it.

One JSON object a line over a unix stream socket. A request is {"method": "...", "params": {...}}, its reply
{"result": ...} or {"error": {"code": "...", "message": "..."}}. A connection may carry any number of requests, one
after the other. The serving half is api_server.py; this half needs nothing but the standard library, so that
Ansible modules can use it on a host.

method           params                             result
version                                             the agent's version
status                                              all of it (status.py)
peer.status      name                               one peer of it
netmap.apply     netmap: base64 of the signed file  changed, version, and trial: {id, deadline} if it is one
                 trial: seconds, if it is to be one
preferences.get                                     preferences: {...}
preferences.set  preferences: {those to change}     changed, preferences: {...}, and trial: {id, deadline} if it is one
                 trial: seconds, if it is to be one
trial.confirm    id                                 confirmed: true
dns.status                                          who answers names here, and how (names.py)
dns.query        name, type ("A" if left out)       what became of it (dns/stub.py)

A trial is in force at once, and is written down only when it is confirmed, best over a connection that is made after
it began. Unless that happens within its ``deadline`` in seconds, what was before is in force again; a restart of the
agent ends it the same way. There is one at a time: meanwhile other changes get the error "trial-running". The same
change again starts its time anew, or, if it is no trial this time, confirms it.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from typing import Any, Optional

DEFAULT_SOCKET = "/run/sennit/control.sock"
# Holds the largest netmap (16 MiB) in base64, and little more.
MAX_REQUEST_BYTES = 24 * 1024 * 1024
MAX_REPLY_BYTES = 64 * 1024 * 1024


class ApiError(Exception):
    """A request failed.

    ``code`` is one of the agent's ("bad-request", "unknown-method", "internal", a netmap's reason for refusal ...)
    or of the client's own: "not-running", "no-permission", "timeout", "bad-reply".
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def encode(message: Mapping[str, Any]) -> bytes:
    """One message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def call(
    socket_path: str = DEFAULT_SOCKET,
    method: str = "status",
    params: Optional[Mapping[str, Any]] = None,
    timeout: float = 30.0,
) -> Any:
    """Ask the agent once and give the reply's result.

    ``timeout`` in seconds is for the whole exchange. Raises ApiError.
    """
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.settimeout(timeout)
            connection.connect(socket_path)
            # A broken pipe: the agent refused before it had read all, and its reply says why.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(encode({"method": method, "params": dict(params or {})}))
            line = _read_line(connection, deadline)
        except socket.timeout as error:
            raise ApiError("timeout", f"no answer from the agent at {socket_path} within {timeout:g} s") from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise ApiError("not-running", f"no agent is running at {socket_path}") from error
        except PermissionError as error:
            raise ApiError("no-permission", f"no permission to use {socket_path}: only root may") from error
        except OSError as error:
            raise ApiError("bad-reply", f"{socket_path}: {error.strerror or error}") from error
    return _result(line, socket_path)


def _read_line(connection: socket.socket, deadline: float) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise socket.timeout
        connection.settimeout(remaining)
        chunk = connection.recv(256 * 1024)
        received += chunk
        if not chunk or len(received) > MAX_REPLY_BYTES:
            raise ApiError("bad-reply", f"the agent's reply ended after {len(received)} bytes")
    return bytes(received)


def _result(line: bytes, socket_path: str) -> Any:
    try:
        reply = json.loads(line)
        if "result" in reply:
            return reply["result"]
        error = reply["error"]
        raise ApiError(str(error["code"]), str(error["message"]))
    except (ValueError, TypeError, KeyError) as problem:
        raise ApiError("bad-reply", f"{socket_path}: not a reply of an agent") from problem
