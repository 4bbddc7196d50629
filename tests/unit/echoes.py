"""In place of sockets for ICMP echoes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sennit.diagnostics.echo import Answer


class Echoes:
    """What a Pinger is made by, and the Pinger: all answers are there at once. ``asked``: the addresses of each Pinger.

    ``rtt`` gives an address's round-trip time in seconds, or None when it does not answer.
    """

    def __init__(self, rtt: Callable[[str], float | None]) -> None:
        self._rtt = rtt
        self.asked: list[list[str]] = []

    def __call__(self, addresses: Sequence[str], mark: int = 0) -> Echoes:
        self.asked.append(list(addresses))
        return self

    def __enter__(self) -> Echoes:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def round(self, sequence: int, timeout: float) -> Iterator[Answer]:
        for address in self.asked[-1]:
            rtt = self._rtt(address)
            yield Answer(address, sequence, rtt, "" if rtt is not None else f"no answer within {timeout:g} s")
