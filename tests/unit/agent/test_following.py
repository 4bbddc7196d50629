"""A map that comes by itself: for good, on trial, or refused; and what becomes of one under which no beacon answers."""

import asyncio
from types import SimpleNamespace

import pytest

from sennit import following
from sennit.beacon.beacons import NO_BEACON, PostponedError
from sennit.beacon.registry import Registry
from sennit.config import Config
from sennit.following import FIRST_RETRY, TRIAL_SECONDS, Following
from sennit.in_force import InForce
from sennit.netmap.model import KIND_NODE, Netmap, NetmapError, Network, Node
from sennit.netmap.signing import generate_signing_key, sign, verify_key_of

NETWORK = Network("demo", "demo.internal", ("100.64.0.0/10",))
KEY = generate_signing_key()
OWN = bytes([1] * 32)


def signed(version, *, own_beacon=None, beacon=21472, key=KEY):
    nodes = (
        Node("alpha", KIND_NODE, OWN, ("100.64.0.1",), "192.0.2.1:1", beacon=own_beacon),
        Node("beta", KIND_NODE, bytes([2] * 32), ("100.64.0.2",), "192.0.2.2:1", beacon=beacon),
    )
    return sign(Netmap(NETWORK, version, nodes).to_bytes(), key)


class Streams:
    """The beacons: connected or not, and whether one answers under the map that is in force."""

    def __init__(self):
        self.connected = True
        self.answers = True
        self.asked = []
        self.kept = None
        self.whereabouts = SimpleNamespace(registry=Registry())

    async def use(self, view, kept, version, _former):
        self.kept = kept

    async def answer_within(self, seconds):
        self.asked.append(seconds)
        return self.answers

    async def close(self):
        pass


class Host:
    """A node that follows version 1, as the daemon would have it, with a clock of the test's own."""

    def __init__(self, directory, monkeypatch, **config):
        self.changing = asyncio.Lock()
        self.in_force = InForce(
            Config("demo", verify_key_of(KEY), state_dir=str(directory), **config),
            OWN,
        )
        self.in_force.adopt(self.in_force.propose_netmap(signed(1), "ansible"), None, 0)
        self.trials = []
        self.streams = Streams()
        monkeypatch.setattr(following, "Beacons", lambda *_arguments: self.streams)
        self.following = Following(self.in_force._config, self.in_force._public_key, self.in_force, self.changing, self)
        self.slept = []
        self.wake = asyncio.Event()

        async def sleep(seconds):
            self.slept.append(seconds)
            await self.wake.wait()
            self.wake.clear()

        monkeypatch.setattr(following.asyncio, "sleep", sleep)

    async def adopt_by_itself(self, proposal, seconds):
        assert self.changing.locked()
        self.trials.append(seconds)
        self.in_force.adopt(proposal, seconds, 0, must_save=False)

    async def confirm_by_itself(self, identity):
        assert not self.changing.locked()
        self.in_force.confirm(identity, must_save=False)

    @property
    def version(self):
        return self.in_force.state.netmap.version


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """Runs a coroutine function with a host."""

    def run(play, **config):
        async def main():
            host = Host(tmp_path, monkeypatch, **config)
            await play(host)
            await host.following.close()

        asyncio.run(main())

    return run


def test_a_map_is_kept_when_a_beacon_answers_under_it(scene):
    async def play(host):
        await host.following.take(signed(2), "beacon beta")
        assert (host.version, host.trials, host.streams.asked) == (2, [TRIAL_SECONDS], [TRIAL_SECONDS])
        assert host.in_force.trial is None and host.in_force.kept.version == 2
        assert host.in_force.state.origin == "beacon beta"
        # A second beacon brings the same.
        await host.following.take(signed(2), "beacon gamma")
        assert host.trials == [TRIAL_SECONDS]

    scene(play)


def test_a_map_under_which_no_beacon_answers_is_tried_again_later_and_later(scene):
    async def play(host):
        host.streams.answers = False
        for attempt in range(3):
            with pytest.raises(PostponedError) as caught:
                await host.following.take(signed(2), "beacon beta")
            assert caught.value.seconds == FIRST_RETRY * 2**attempt
            host.in_force.fall_back()
            assert host.version == host.in_force.kept.version == 1

    scene(play)


@pytest.mark.parametrize("connected", [False, True])
def test_without_any_beacon_it_is_tried_again_by_itself(scene, connected):
    async def play(host):
        host.streams.answers = False
        with pytest.raises(PostponedError):
            await host.following.take(signed(2), "beacon beta")
        host.in_force.fall_back()
        # With a stream, the beacon offers it again.
        host.streams.connected, host.streams.answers = connected, True
        await asyncio.wait_for(until(lambda: host.slept), 5)
        host.wake.set()
        trying = host.following._trying_again
        await trying
        assert host.slept == [FIRST_RETRY]
        assert host.version == (1 if connected else 2)
        # Also now it is kept only if a beacon answers.
        assert host.trials == [TRIAL_SECONDS] * (1 if connected else 2)

    scene(play)


async def until(condition):
    while not condition():
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)


def test_a_beacon_keeps_what_it_gets(scene):
    async def play(host):
        await host.following.take(signed(2, own_beacon=21472, beacon=None), "beacon beta")
        assert (host.version, host.trials, host.in_force.kept.version) == (2, [None], 2)

    scene(play)


def test_without_a_stream_there_is_nothing_to_lose(scene):
    async def play(host):
        host.streams.connected = False
        await host.following.take(signed(2, beacon=None), "the netmap's URL")
        assert (host.version, host.trials) == (2, [None])

    scene(play)


def test_a_map_without_any_beacon_is_refused_unless_there_is_a_url(scene):
    async def play(host):
        with pytest.raises(NetmapError, match="version 2 from beacon beta names no beacon") as caught:
            await host.following.take(signed(2, beacon=None), "beacon beta")
        assert caught.value.reason == NO_BEACON
        assert (host.version, host.trials) == (1, [])

    scene(play)

    async def play_with_url(host):
        await host.following.take(signed(2, beacon=None), "beacon beta")
        assert (host.version, host.trials) == (2, [None])

    scene(play_with_url, netmap_url="https://store.example/netmap")


@pytest.mark.parametrize(
    "bad",
    [
        signed(2, key=generate_signing_key()),
        signed(2)[:-1],
        b"",
    ],
)
def test_what_does_not_verify_changes_nothing(scene, bad):
    async def play(host):
        with pytest.raises(NetmapError):
            await host.following.take(bad, "beacon beta")
        assert (host.version, host.trials, host.in_force.kept.version) == (1, [], 1)

    scene(play)


def test_what_is_on_trial_by_the_control_node_is_not_touched(scene):
    async def play(host):
        host.in_force.adopt(host.in_force.propose_netmap(signed(2), "the control node"), 60, 0)
        with pytest.raises(PostponedError, match="on trial here"):
            await host.following.take(signed(3), "beacon beta")
        assert host.version == 2 and host.in_force.kept.version == 1

    scene(play)


def test_a_trial_that_ends_just_before_the_answer_has_ended(scene):
    async def play(host):
        async def too_late(_seconds):
            host.in_force.fall_back()
            return True

        host.streams.answer_within = too_late
        with pytest.raises(PostponedError, match="no beacon answered"):
            await host.following.take(signed(2), "beacon beta")
        assert host.version == 1

    scene(play)
