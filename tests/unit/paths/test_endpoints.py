"""Endpoints: addresses at once, names when they are found."""

import asyncio

import pytest

from sennit.paths import endpoints
from sennit.paths.endpoints import Endpoints

FOUND = {"beta.example": "192.0.2.2", "gamma.example": "2001:db8::3"}


def look_up(host, port):
    """In a child process, so what it says comes from a file-less table that was there at the fork."""
    if host not in FOUND:
        raise OSError(-2, "Name or service not known")
    return FOUND[host], port


class Followed:
    """Endpoints, and an event for every change."""

    def __init__(self):
        self.changed = asyncio.Event()
        self.endpoints = Endpoints(self.changed.set, look_up)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.endpoints.close()

    async def next_change(self):
        await asyncio.wait_for(self.changed.wait(), 10)
        self.changed.clear()


def run(scenario):
    async def main():
        async with Followed() as followed:
            await scenario(followed)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [(None, None), ("192.0.2.1:51820", ("192.0.2.1", 51820)), ("[2001:db8::1]:7", ("2001:db8::1", 7))],
)
def test_an_address_is_there_at_once(text, endpoint):
    async def scenario(followed):
        followed.endpoints.use([text] if text else [])
        assert followed.endpoints.get(text) == endpoint

    run(scenario)


def test_a_name_is_there_when_it_is_found():
    async def scenario(followed):
        followed.endpoints.use(["beta.example:1", "gamma.example:2"])
        assert followed.endpoints.get("beta.example:1") is None
        await followed.next_change()
        while None in (followed.endpoints.get("beta.example:1"), followed.endpoints.get("gamma.example:2")):
            await followed.next_change()
        assert followed.endpoints.get("beta.example:1") == ("192.0.2.2", 1)
        assert followed.endpoints.get("gamma.example:2") == ("2001:db8::3", 2)

    run(scenario)


def test_a_name_that_is_not_found_is_tried_again_and_logged_once(monkeypatch, caplog):
    monkeypatch.setattr(endpoints, "FIRST_RETRY", 0.01)

    async def scenario(followed):
        followed.endpoints.use(["delta.example:1"])
        while "delta.example" not in caplog.text:
            await asyncio.sleep(0)
        monkeypatch.setitem(FOUND, "delta.example", "192.0.2.4")
        await followed.next_change()
        assert followed.endpoints.get("delta.example:1") == ("192.0.2.4", 1)

    run(scenario)
    assert caplog.text.count("trying again") == 1


def test_refresh_tells_only_of_another_address(monkeypatch):
    async def scenario(followed):
        followed.endpoints.use(["beta.example:1"])
        await followed.next_change()
        monkeypatch.setitem(FOUND, "beta.example", "192.0.2.22")
        followed.endpoints.refresh("beta.example:1")
        await followed.next_change()
        assert followed.endpoints.get("beta.example:1") == ("192.0.2.22", 1)
        followed.endpoints.refresh("192.0.2.1:51820")
        followed.endpoints.refresh(None)

    run(scenario)


def test_a_name_that_is_no_longer_used_is_forgotten():
    async def scenario(followed):
        followed.endpoints.use(["beta.example:1"])
        await followed.next_change()
        followed.endpoints.use(["192.0.2.1:1"])
        assert followed.endpoints.get("beta.example:1") is None

    run(scenario)
