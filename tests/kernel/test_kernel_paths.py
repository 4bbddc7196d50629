"""Two kernel datapaths with two paths between them, and a TCP stream each way all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from tests.interop.agents import run
from tests.interop.namespaces import inside
from tests.interop.streams import Stream, streams
from tests.kernel.test_kernel_datapath import INTERFACE, MARK, PORT, generate_private_key

from sennit.datapath.kernel import KernelDatapath
from sennit.wireguard.crypto import public_key_of
from sennit.wireguard.events import Endpoint, PeerConfig

FIRST, SECOND = "192.0.2", "198.51.100"
PATIENCE = 60.0


@dataclass
class End:
    """One of the two, in its namespace. Its addresses end in its number."""

    number: int
    namespace: str
    datapath: KernelDatapath
    public_key: bytes

    def at(self, net: str) -> Endpoint:
        return f"{net}.{self.number}", PORT

    @property
    def address(self) -> str:
        return f"100.64.0.{self.number}"

    def endpoint_of(self, other: End) -> Endpoint | None:
        return self.datapath.status().peers[other.public_key].endpoint

    def probes(self, other: End) -> bool:
        return other.public_key in self.datapath._probes._running

    def run(self, *command: str) -> str:
        return run("ip", "netns", "exec", self.namespace, *command)


async def until(condition: Callable[[], bool], what: str) -> None:
    for _look in range(int(PATIENCE / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE:g} s: {what}")


@pytest.fixture
def ends(namespace: str) -> Iterator[tuple[End, End]]:
    """Two cables between them; a session by the first, and none that knows of the second."""
    far = f"{namespace}-far"
    run("ip", "netns", "add", far)
    made: list[End] = []
    try:
        for device, net in (("eth0", FIRST), ("eth1", SECOND)):
            run("ip", "-n", namespace, "link", "add", device, "type", "veth", "peer", "name", device, "netns", far)
            for number, where in ((1, namespace), (2, far)):
                run("ip", "-n", where, "link", "set", device, "up")
                run("ip", "-n", where, "addr", "add", f"{net}.{number}/24", "dev", device)
        for number, where in ((1, namespace), (2, far)):
            key = generate_private_key()
            datapath = KernelDatapath(key, INTERFACE, PORT, 1280, MARK)
            with inside(where):
                datapath.start()
            made.append(End(number, where, datapath, public_key_of(key)))
            run("ip", "-n", where, "addr", "add", f"100.64.0.{number}/10", "dev", INTERFACE)
        one, two = made
        for end, other in ((one, two), (two, one)):
            config = PeerConfig(other.public_key, (f"{other.address}/32",), other.at(FIRST))
            end.datapath.configure({other.public_key: config})
        yield one, two
    finally:
        for end in made:
            end.datapath.close()
        run("ip", "netns", "del", far)


async def go_on(both: tuple[Stream, Stream]) -> None:
    for stream in both:
        await asyncio.to_thread(stream.goes_on)


@pytest.mark.parametrize("both_probe", [True, False], ids=["both probe", "one probes"])
def test_streams_move_to_another_path(ends: tuple[End, End], both_probe: bool) -> None:
    """Much is under way by the old one, which takes each end back to there."""
    one, two = ends

    async def move(both: tuple[Stream, Stream]) -> None:
        await go_on(both)
        assert one.endpoint_of(two) == two.at(FIRST)
        for net, other in ((SECOND, FIRST), (FIRST, SECOND)):

            def moved(net: str = net) -> bool:
                return one.endpoint_of(two) == two.at(net) and two.endpoint_of(one) == one.at(net)

            # As agents do: again and again, until it is the path.
            for _round in range(10):
                one.datapath.probe(two.public_key, [two.at(net)])
                if both_probe:
                    two.datapath.probe(one.public_key, [one.at(net)])
                # While it is tried, an endpoint is in place whether anybody is there or not.
                await until(lambda: not one.probes(two) and not two.probes(one), "the end of the probes")
                await go_on(both)
                if moved():
                    break
            await until(moved, f"a path by {net}")
            # It is in use: the other one is not needed any more.
            one.run("nft", f"add table ip cut; add chain ip cut out {{ type filter hook output priority 0; }}; "
                           f"add rule ip cut out ip daddr {other}.0/24 drop")  # fmt: skip
            await go_on(both)
            await until(moved, f"a path by {net}, still")
            one.run("nft", "delete table ip cut")

    with streams(one.namespace, one.address, two.namespace, two.address) as both:
        asyncio.run(move(both))


def test_an_address_where_nobody_is_costs_little(ends: tuple[End, End]) -> None:
    one, two = ends
    dead = [(f"{FIRST}.{number}", PORT) for number in range(20, 28)]

    async def probe(both: tuple[Stream, Stream]) -> None:
        await go_on(both)
        one.datapath.probe(two.public_key, dead)
        await go_on(both)
        await until(lambda: not one.probes(two), "the end of the probe")
        assert one.endpoint_of(two) == two.at(FIRST)
        await go_on(both)

    with streams(one.namespace, one.address, two.namespace, two.address) as both:
        asyncio.run(probe(both))


def test_a_silent_peer_keeps_its_endpoint(ends: tuple[End, End]) -> None:
    """Nothing comes from anywhere. What is asked for in the midst of a probe is done at once, and not undone."""
    one, two = ends

    async def probe() -> None:
        one.run("ping", "-n", "-c", "1", "-W", "10", two.address)
        one.datapath.probe(two.public_key, [(f"{FIRST}.20", PORT), (f"{FIRST}.21", PORT)])
        await until(lambda: one.endpoint_of(two) == (f"{FIRST}.20", PORT), "a probe")
        await until(lambda: one.endpoint_of(two) == two.at(FIRST), "the old endpoint")
        await until(lambda: one.endpoint_of(two) == (f"{FIRST}.21", PORT), "another probe")
        one.datapath.move(two.public_key, two.at(SECOND))
        await until(lambda: not one.probes(two), "the end of the probe")
        assert one.endpoint_of(two) == two.at(SECOND)
        one.datapath.probe(bytes(32), [two.at(SECOND)])
        one.datapath.move(bytes(32), two.at(SECOND))
        assert bytes(32) not in one.datapath.status().peers

    asyncio.run(probe())
    one.run("ping", "-n", "-c", "1", "-W", "10", two.address)
    assert two.endpoint_of(one) == one.at(SECOND)


def test_who_hears_us_there_answers_there(ends: tuple[End, End]) -> None:
    """A peer that does not probe itself, as a stock one does not, while it sends a little."""
    one, two = ends

    async def probe() -> None:
        one.run("ping", "-n", "-c", "1", "-W", "10", two.address)
        steady = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", two.namespace, "ping", "-n", "-q", "-i", "0.05", one.address,
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            one.datapath.probe(two.public_key, [(f"{SECOND}.9", PORT), two.at(SECOND)])
            await until(lambda: one.endpoint_of(two) == two.at(SECOND), "the other endpoint")
            await until(lambda: not one.probes(two), "the end of the probe")
            await until(lambda: one.endpoint_of(two) == two.at(SECOND), "the other endpoint, still")
            await until(lambda: two.endpoint_of(one) == one.at(SECOND), "the other way round")
        finally:
            steady.terminate()
            await steady.wait()

    asyncio.run(probe())
