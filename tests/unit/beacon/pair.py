"""Two ends of a stream, joined in memory, with a clock of the test's own."""

from sennit.beacon.exchange import Exchange
from sennit.beacon.messages import FROM_BEACONS, FROM_NODES
from sennit.beacon.registry import Registry


class Pair:
    """A node, left, and a beacon, right, each with the map that it keeps."""

    def __init__(self, left, right):
        self.now = 1000.0
        self.registry = Registry()
        self.left = Exchange(left, 15, self.now, FROM_BEACONS)
        self.right = Exchange(right, 60, self.now, FROM_NODES, self.registry)

    def run(self):
        """Carry everything over until nobody has any more to say. Returns what each end heard."""
        heard = {self.left: [], self.right: []}
        moved = True
        while moved:
            moved = False
            for sender, receiver in ((self.left, self.right), (self.right, self.left)):
                chunk = sender.next_chunk(self.now)
                while chunk is not None:
                    moved = True
                    heard[receiver] += receiver.receive(bytes(chunk), self.now)
                    chunk = sender.next_chunk(self.now)
        return heard[self.left], heard[self.right]
