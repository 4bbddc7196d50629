# Copyright: (c) 2026, Sennit contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's start.

The datapath comes first, and forks its workers while this process is still small; what only the control half needs
(asyncio alone is 8 MB) is imported after that.
"""

from __future__ import annotations

import argparse
import fcntl
import os
from typing import Optional

from . import __version__, log
from .config import DEFAULT_PATH, Config, ConfigError
from .datapath.base import KERNEL, USERSPACE, Datapath, DatapathError, NameTakenError, NoKernelWireGuardError
from .key import PrivateKeyError, ensure_private_key, read_private_key
from .log import logger
from .systemd import Notifier
from .wireguard.crypto import NACL_IMPORT_ERROR

# sysexits.h, as systemd's RestartPreventExitStatus= knows it: starting again would not help.
EX_CONFIG = 78


class StartError(Exception):
    """The agent cannot start."""


def main(notifier: Notifier, kept: Optional[int]) -> int:
    """Run until SIGTERM. The exit status: 0, 1 after a failure, 78 when the configuration has to be changed first."""
    arguments = _parser().parse_args()
    log.set_up()
    try:
        if NACL_IMPORT_ERROR is not None:
            raise ConfigError("the Python library PyNaCl (python3-nacl) is not installed")
        run(Config.load(arguments.config), notifier, kept)
    except (ConfigError, PrivateKeyError, NameTakenError) as error:
        logger.critical("%s", error)
        return EX_CONFIG
    except (StartError, DatapathError, OSError) as error:
        logger.critical("%s", error)
        return 1
    return 0


def run(config: Config, notifier: Notifier, kept: Optional[int]) -> None:
    """Start the agent and run it. Raises StartError, PrivateKeyError, DatapathError, OSError."""
    os.umask(0o077)
    for directory in (config.state_dir, config.runtime_dir):
        os.makedirs(directory, mode=0o700, exist_ok=True)
    with open(os.path.join(config.runtime_dir, "lock"), "wb") as lock:
        try:
            # A lock of this process alone: unlike one of flock(2), no worker that outlives it can hold on to it.
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"another agent runs already with {config.runtime_dir}") from None
        _run(config, notifier, kept)


def _run(config: Config, notifier: Notifier, kept: Optional[int]) -> None:
    public_key = ensure_private_key(config.private_key_path)
    datapath = _started_datapath(config, kept)

    import asyncio  # noqa: PLC0415

    from .daemon import Daemon  # noqa: PLC0415
    from .host.tunnel import Tunnel  # noqa: PLC0415

    asyncio.run(Daemon(config, public_key, datapath, Tunnel(config), notifier).run())


def _started_datapath(config: Config, kept: Optional[int]) -> Datapath:
    """The one that is configured or, if that may be either, the kernel's where there is one. Raises DatapathError.

    kept: the descriptor of the TUN device of the last run.
    """
    from .datapath import kernel  # noqa: PLC0415

    key = read_private_key(config.private_key_path)
    place = (config.interface, config.listen_port, config.mtu, config.fwmark)
    datapath: Datapath
    if config.datapath != USERSPACE:
        if kept is not None and kernel.available():
            os.close(kept)  # the name is needed
            kept = None
        datapath = kernel.KernelDatapath(key, *place)
        try:
            datapath.start()
        except NoKernelWireGuardError as error:
            if config.datapath == KERNEL:
                raise ConfigError(f"datapath: kernel: {error}; auto or userspace does without") from error
            logger.info("%s; the datapath is in userspace", error)
        else:
            logger.info("the datapath is the kernel's WireGuard")
            return datapath
    if kept is None:
        kernel.clear(config.interface, key)

    from .datapath.userspace import UserspaceDatapath  # noqa: PLC0415

    userspace = UserspaceDatapath(key, *place)
    userspace.start(kept)
    return userspace


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sennit-agent", description="The agent of a Sennit mesh.")
    parser.add_argument("--config", default=DEFAULT_PATH, help="its configuration (default: %(default)s)")
    parser.add_argument("--version", action="version", version=f"sennit {__version__}")
    return parser
