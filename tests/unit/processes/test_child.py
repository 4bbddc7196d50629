"""A function in a short-lived child process."""

import asyncio
import os
import signal

import pytest

from sennit.processes import child


def run(function, *arguments, timeout=10.0):
    return asyncio.run(child.run(function, *arguments, timeout=timeout))


def children():
    pid = os.getpid()
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


@pytest.fixture(autouse=True)
def no_child_is_left():
    before = children()
    yield
    assert children() == before


def test_gives_the_result_of_another_process():
    assert run(lambda *numbers: [sum(numbers), os.getpid()], 1, 2)[0] == 3
    assert run(os.getpid) != os.getpid()


def test_an_answer_longer_than_a_pipe_holds():
    assert len(run(lambda: "x" * 1_000_000)) == 1_000_000


def test_an_error_is_told():
    def fail():
        raise OSError(2, "No such thing")

    with pytest.raises(child.ChildError, match=r"FileNotFoundError: \[Errno 2\] No such thing"):
        run(fail)


def test_an_end_without_an_answer_is_told():
    with pytest.raises(child.ChildError, match="without an answer"):
        run(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_what_takes_too_long_is_ended():
    with pytest.raises(child.ChildError, match=r"no answer within 0\.1 s"):
        run(signal.pause, timeout=0.1)


def test_an_answer_that_is_no_json_is_told():
    with pytest.raises(child.ChildError):
        run(lambda: b"bytes")


def test_the_loop_goes_on_meanwhile():
    async def both():
        task = asyncio.ensure_future(child.run(signal.pause, timeout=60))
        for _tick in range(10):
            await asyncio.sleep(0)
        going_on = not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return going_on

    assert asyncio.run(both())


def test_a_cancelled_caller_leaves_no_process():
    async def cancel():
        task = asyncio.ensure_future(child.run(signal.pause, timeout=10))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())


def test_the_child_has_no_descriptor_of_the_parent():
    read_end, write_end = os.pipe()
    try:
        assert (
            run(lambda: [int(name) for name in os.listdir("/proc/self/fd") if int(name) in (read_end, write_end)]) == []
        )
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_signal_for_the_child_is_not_one_for_the_parent():
    async def terminate():
        loop = asyncio.get_running_loop()
        caught = []
        loop.add_signal_handler(signal.SIGTERM, lambda: caught.append(1))
        with pytest.raises(child.ChildError, match="without an answer"):
            await child.run(lambda: os.kill(os.getpid(), signal.SIGTERM), timeout=10)
        await asyncio.sleep(0)
        loop.remove_signal_handler(signal.SIGTERM)
        return caught

    assert asyncio.run(terminate()) == []
