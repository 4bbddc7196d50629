"""What becomes of those whom the listener serves when it is closed."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.dns.helpers import Clock, Nameservers, new_stub, question

from sennit.dns.listener import Listener


def test_who_waits_for_an_answer_is_left_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    nameservers = Nameservers(Clock(), monkeypatch)

    async def ask_and_close() -> None:
        listener = Listener(new_stub(default=("192.0.2.53",)), port=0)
        await listener.open("127.0.0.1")
        [server] = listener._servers
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())  # type: ignore[attr-defined]
        wire = question("www.example.com")
        writer.write(len(wire).to_bytes(2, "big") + wire)
        while not nameservers.asked:
            await asyncio.sleep(0)
        [serving] = [task for task in asyncio.all_tasks() if task.get_coro().__name__ == "_serve"]  # type: ignore[union-attr]
        await listener.close()
        # A cancelled one is what some versions of asyncio (3.12.1) log a traceback for.
        assert serving.done() and not serving.cancelled()
        assert await reader.read() == b""
        writer.close()

    asyncio.run(ask_and_close())
