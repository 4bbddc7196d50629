# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The serving half of the control API (api.py): a unix stream socket that only root may use.

Every request is read under a bound of bytes and of time, so that a slow, broken or hostile client costs no more than
its own connection. Whatever it sends, it gets a reply in the API's form, or is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Awaitable
from typing import Any, Callable

from .api import MAX_REQUEST_BYTES, ApiError, encode
from .log import logger
from .unix_server import UnixServer, bind
from .waiting import within

Handler = Callable[[str, dict[str, Any]], Awaitable[Any]]

# Seconds that a client may take over one request, and over taking its reply.
REQUEST_TIMEOUT = 10.0
REPLY_TIMEOUT = 10.0
MAX_CLIENTS = 32

_UCRED = struct.Struct("=iII")  # process, user, group (unix(7))


class ApiServer:
    """Answers requests by ``handler(method, params)``, which returns JSON or raises ApiError.

    ``oversized`` is called for a request longer than the bound; of all requests, only one that carries a netmap can be.
    """

    def __init__(
        self,
        path: str,
        handler: Handler,
        oversized: Callable[[], None],
        *,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        request_timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self._path = path
        self._handler = handler
        self._oversized = oversized
        self._max_request_bytes = max_request_bytes
        self._request_timeout = request_timeout
        self._server = UnixServer(self._converse)

    async def start(self) -> None:
        """Listen; takes the place of a socket that a killed agent left. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        await self._server.start(bind(self._path), self._max_request_bytes)

    async def close(self) -> None:
        await self._server.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        refusal = self._refusal(writer)
        if refusal:
            await _reply(writer, _error(refusal))
        else:
            while await self._serve_one(reader, writer):
                pass

    def _refusal(self, writer: asyncio.StreamWriter) -> ApiError | None:
        peer = writer.get_extra_info("socket")
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        user = _UCRED.unpack(credentials)[1]
        if user not in (0, os.geteuid()):
            return ApiError("no-permission", "only root may use the control API")
        if self._server.clients > MAX_CLIENTS:
            return ApiError("busy", f"{MAX_CLIENTS} clients are connected already")
        return None

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when it was the last."""
        try:
            line = await within(self._request_timeout, reader.readuntil())
        except asyncio.IncompleteReadError as error:
            if error.partial:
                await _reply(writer, _error(ApiError("bad-request", "the request does not end with a newline")))
            return False
        except asyncio.LimitOverrunError as error:
            # Empty the buffer: a closed connection's would stay in memory until the next run of the collector.
            await reader.readexactly(error.consumed)
            self._oversized()
            message = f"a request may have {self._max_request_bytes} bytes"
            await _reply(writer, _error(ApiError("too-large", message)))
            return False
        except asyncio.TimeoutError:
            message = f"no request within {self._request_timeout:g} s"
            await _reply(writer, _error(ApiError("timeout", message)))
            return False
        await _reply(writer, await self._answer(line))
        return True

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            method, params = parse_request(line)
            return {"result": await self._handler(method, params)}
        except ApiError as error:
            return _error(error)
        except Exception:
            logger.exception("a request to the control API failed")
            return _error(ApiError("internal", "the agent failed on this request; its log says why"))


def parse_request(line: bytes) -> tuple[str, dict[str, Any]]:
    """Method and parameters of one line. Raises ApiError."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ApiError("bad-request", "not JSON") from error
    if not isinstance(request, dict):
        raise ApiError("bad-request", "not a JSON object")
    method, params = request.get("method"), request.get("params", {})
    if not isinstance(method, str):
        raise ApiError("bad-request", "method: missing, or not a string")
    if not isinstance(params, dict):
        raise ApiError("bad-request", "params: not an object")
    return method, params


def _error(error: ApiError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message}}


async def _reply(writer: asyncio.StreamWriter, reply: dict[str, Any]) -> None:
    writer.write(encode(reply))
    await within(REPLY_TIMEOUT, writer.drain())
