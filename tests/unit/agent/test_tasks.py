"""A task that nobody waits for does not end unheard."""

import asyncio
import gc

import pytest

from sennit.tasks import begin


def test_a_failure_is_told_at_once_and_once_and_nothing_else_is(caplog: pytest.LogCaptureFixture) -> None:
    async def work(error: Exception | None) -> int:
        await asyncio.sleep(0)
        if error:
            raise error
        return 7

    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    async def body() -> None:
        failing, good, endless = (
            begin("this", work(KeyError("what"))),
            begin("that", work(None)),
            begin("it", forever()),
        )
        assert await good == 7
        await asyncio.sleep(0)
        assert [record.getMessage() for record in caplog.records] == ["this has failed"]
        assert "KeyError: 'what'" in caplog.text
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)
        del failing

    asyncio.run(body())
    gc.collect()
    assert len(caplog.records) == 1
