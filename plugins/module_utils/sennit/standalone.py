# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`sennit wireguard INTERFACE`: the userspace datapath alone, told what to do by nothing but `wg`.

Arguments and environment are wireguard-go's, so that what starts that (wg-quick, a test) can start this. It ends by
SIGTERM or SIGINT, when the interface is removed, and when its socket in /var/run/wireguard is.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
from collections.abc import Sequence
from typing import Optional

from . import __version__, log
from .config import is_interface_name
from .datapath.base import DatapathError, InterfaceGoneError
from .datapath.userspace import UserspaceDatapath
from .log import logger
from .wireguard.constants import KEY_LENGTH
from .wireguard.crypto import NACL_IMPORT_ERROR

MTU = 1420
"""Until somebody sets another."""

_LEVELS = {"verbose": logging.DEBUG, "debug": logging.DEBUG, "info": logging.INFO, "error": logging.ERROR}
_READY = "ready"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run, in the background unless told otherwise. The exit status: 0, 1 after a failure, 2 for a wrong argument."""
    options = _parser().parse_args(arguments)
    wanted = os.environ.get("LOG_LEVEL", "")
    log.set_up(_LEVELS.get(wanted, logging.CRITICAL if wanted == "silent" else logging.ERROR))
    if NACL_IMPORT_ERROR is not None:
        logger.error("the Python library PyNaCl (python3-nacl) is not installed")
        return 1
    if options.foreground or os.environ.get("WG_PROCESS_FOREGROUND") == "1":
        return _run(options.interface, _Command(None))
    told, pipe = os.pipe()
    daemon = os.fork()
    if daemon:
        os.close(pipe)
        # The interface is there, and its socket, when the command returns; or nothing of it is.
        outcome = os.read(told, 4096).decode()
        if outcome == _READY:
            return 0
        os.waitpid(daemon, 0)
        if outcome:
            logger.error("%s", outcome)
        return 1
    os.close(told)
    _detach()
    return _run(options.interface, _Command(pipe))


class _Command:
    """The command that waits for the daemon which it has become, if it has."""

    def __init__(self, pipe: Optional[int]) -> None:
        self._pipe = pipe

    def tell(self, outcome: str) -> bool:
        """_READY, or why not; once. False when nobody waits."""
        if self._pipe is None:
            return False
        os.write(self._pipe, outcome.encode())
        os.close(self._pipe)
        self._pipe = None
        return True


def _detach() -> None:
    """Leave the terminal, but for a log that was asked for: before there are workers, which would keep it."""
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    log_wanted = os.environ.get("LOG_LEVEL", "silent") != "silent"
    for descriptor in (0, 1) if log_wanted else (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _run(interface: str, command: _Command) -> int:
    datapath = UserspaceDatapath(bytes(KEY_LENGTH), interface, 0, MTU, 0)
    try:
        # It forks its workers while this process is still small.
        datapath.start()
    except DatapathError as error:
        return _failed(error, command)

    import asyncio  # noqa: PLC0415

    try:
        asyncio.run(_serve(datapath, interface, command))
    except InterfaceGoneError as error:
        logger.info("%s", error)
    except (DatapathError, OSError) as error:
        return _failed(error, command)
    finally:
        datapath.close()
    return 0


def _failed(error: Exception, command: _Command) -> int:
    if not command.tell(str(error)):
        logger.error("%s", error)
    return 1


async def _serve(datapath: UserspaceDatapath, interface: str, command: _Command) -> None:
    """Until there is a reason to end. Raises DatapathError, OSError."""
    import asyncio  # noqa: PLC0415

    from .uapi.server import UapiServer  # noqa: PLC0415

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = UapiServer(datapath, interface)
    await server.start()
    parts = [asyncio.ensure_future(part) for part in (datapath.run(), server.removed(), stop.wait())]
    try:
        command.tell(_READY)
        logger.info("%s is there", interface)
        done, _pending = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in done:
            part.result()
    finally:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        await server.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sennit wireguard",
        description="A WireGuard interface in userspace, configured with wg.",
        epilog="Environment: WG_PROCESS_FOREGROUND=1, LOG_LEVEL=verbose|info|error|silent (default: error), "
        "SENNIT_QUEUES=1 to 8 (workers a direction; default: by the processors).",
    )
    parser.add_argument("-f", "--foreground", action="store_true", help="do not become a daemon")
    parser.add_argument("--version", action="version", version=f"sennit {__version__}")
    parser.add_argument("interface", metavar="INTERFACE", type=_interface, help="the interface to make")
    return parser


def _interface(text: str) -> str:
    # The kernel would put a number in the place of %d.
    if not is_interface_name(text) or "%" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not an interface's name")
    return text


if __name__ == "__main__":
    raise SystemExit(main())
