"""The pauses between two attempts."""

from sennit.beacon.client import FIRST_RETRY, LAST_RETRY, SPREAD, Backoff


def test_it_doubles_up_to_a_limit_and_is_spread():
    many = [Backoff() for _ in range(1000)]
    expected = FIRST_RETRY
    for _ in range(12):
        pauses = [backoff.pause() for backoff in many]
        assert all(expected * (1 - SPREAD) <= pause <= expected * (1 + SPREAD) for pause in pauses)
        # No more than a few of a thousand in any hundredth of the time.
        hundredths = [int(100 * (pause / expected - 1 + SPREAD) / (2 * SPREAD)) for pause in pauses]
        assert max(hundredths.count(each) for each in set(hundredths)) < 40
        expected = min(2 * expected, LAST_RETRY)
    many[0].reset()
    assert many[0].pause() <= FIRST_RETRY * (1 + SPREAD)
