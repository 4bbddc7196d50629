from __future__ import annotations

import asyncio

import pytest

from sennit.waiting import within


def test_a_cancellation_is_not_lost_when_the_result_comes_at_the_same_moment() -> None:
    async def endless(changed: asyncio.Event) -> None:
        while True:
            await within(60, changed.wait())
            changed.clear()

    async def main() -> None:
        changed = asyncio.Event()
        task = asyncio.ensure_future(endless(changed))
        for ticks in range(6):
            for _ in range(ticks):
                await asyncio.sleep(0)
            changed.set()
            # Wherever in its round it is: cancelled once, it ends.
            for _ in range(ticks % 3):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=60)
            assert done and task.cancelled()
            changed.clear()
            task = asyncio.ensure_future(endless(changed))
        task.cancel()

    asyncio.run(main())


def test_what_comes_in_time_is_returned_or_raised() -> None:
    async def value() -> int:
        await asyncio.sleep(0)
        return 7

    async def failure() -> int:
        raise ValueError("no")

    assert asyncio.run(within(60, value())) == 7
    assert asyncio.run(within(None, value())) == 7
    with pytest.raises(ValueError, match="no"):
        asyncio.run(within(60, failure()))


def test_what_takes_too_long_is_cancelled_and_has_ended() -> None:
    ended = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("slow")

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(within(0, slow()))
    assert ended == ["slow"]


def test_what_is_waited_for_ends_with_who_waits() -> None:
    async def main() -> None:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        outer = asyncio.ensure_future(within(60, inner))
        await asyncio.sleep(0)
        outer.cancel()
        await asyncio.wait([outer, inner])
        assert outer.cancelled() and inner.cancelled()

    asyncio.run(main())


def test_a_cancellation_of_what_is_waited_for_is_no_timeout() -> None:
    async def main() -> None:
        inner = asyncio.get_running_loop().create_future()
        outer = asyncio.ensure_future(within(60, inner))
        await asyncio.sleep(0)
        inner.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer

    asyncio.run(main())
