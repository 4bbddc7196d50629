"""The clients of a server."""

import asyncio

import pytest

from sennit.clients import Clients


async def _serve(clients, end):
    with clients.served():
        await end.wait()


def test_a_client_is_counted_while_it_is_served():
    async def main():
        clients, end = Clients(), asyncio.Event()
        tasks = [asyncio.ensure_future(_serve(clients, end)) for _client in range(2)]
        await asyncio.sleep(0)
        assert len(clients) == 2
        end.set()
        await asyncio.gather(*tasks)
        assert len(clients) == 0

    asyncio.run(main())


def test_none_outlives_the_server_and_its_end_is_no_error():
    async def main():
        clients = Clients()
        task = asyncio.ensure_future(_serve(clients, asyncio.Event()))
        await asyncio.sleep(0)
        await clients.close()
        # asyncio asks for the exception, which a cancelled task raises instead.
        assert task.done() and task.exception() is None
        assert len(clients) == 0

    asyncio.run(main())


def test_what_else_is_raised_is_the_servers_matter():
    async def fail(clients):
        with clients.served():
            raise ConnectionResetError

    clients = Clients()
    with pytest.raises(ConnectionResetError):
        asyncio.run(fail(clients))
    assert len(clients) == 0
