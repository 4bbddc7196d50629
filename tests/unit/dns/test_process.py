"""The agent's handle of the resolver's process, at its end."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from typing import Any, NoReturn

import pytest
from tests.unit.dns.helpers import view

from sennit.dns import process
from sennit.dns.process import StubResolver
from sennit.dns.settings import Settings


def silent(_channel: socket.socket) -> NoReturn:
    """A process that says nothing."""
    while True:
        signal.pause()


def waiting(handle: StubResolver) -> bool:
    return handle._process is not None and bool(handle._process._waiting)


@pytest.mark.parametrize("timeout", [60.0, 0.01], ids=["closed at once", "closed when it was waited for in vain"])
def test_a_process_that_has_said_nothing_is_closed_without_an_error(
    monkeypatch: pytest.MonkeyPatch, timeout: float
) -> None:
    monkeypatch.setattr(process, "_work", silent)
    monkeypatch.setattr(process, "REPLY_TIMEOUT", timeout)
    errors: list[dict[str, Any]] = []

    async def start_and_close() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, error: errors.append(error))
        handle = StubResolver()
        starting = asyncio.ensure_future(handle.start(Settings(view(), ())))
        asked = False
        while not asked or (timeout < 1 and waiting(handle)):
            await asyncio.sleep(0)
            asked = asked or waiting(handle)
        await handle.close()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)

    asyncio.run(start_and_close())
    gc.collect()
    assert errors == []
