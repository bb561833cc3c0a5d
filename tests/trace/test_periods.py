"""The shortest sequence of calls that repeats."""

import numpy as np
import pytest

from pdcode.trace import periods

BOTH = 40 * [1, 2]
TENTH = 4 * [*10 * [1, 2], 3]
ENDED = [7, 8, 7, 9, *BOTH, 6, 6]


@pytest.mark.parametrize(
    ("codes", "sequence", "begin", "steps"),
    [
        (BOTH, (1, 2), 0, 40),
        (TENTH, (1, 2), 0, 40),
        (ENDED, (1, 2), 4, 40),
        ([1, *BOTH], (1, 2), 1, 40),
        (10 * [1, 1, 2], (1, 1, 2), 0, 10),
        (10 * [1, 2, 2, 1, 3], (1, 2, 2, 1, 3), 0, 10),
        ([*BOTH[:40], 2, *BOTH[40:]], (1, 2), 0, 40),
        ([*BOTH[:40], *BOTH[41:]], (1, 2), 0, 39),
        (40 * [5], (5,), 0, 40),
        (50 * [9] + 40 * [1, 2], (1, 2), 50, 40),
    ],
    ids=[
        "plain",
        "residual",
        "start-and-end",
        "start-alike",
        "two",
        "five",
        "one-more",
        "one-less",
        "one",
        "long-start",
    ],
)
def test_the_shortest_sequence_is_found(
    codes: list[int], sequence: tuple[int, ...], begin: int, steps: int
) -> None:
    calls = np.array(codes)
    found = periods.sequences(calls)[0]
    assert found == (sequence, begin)
    places = periods.occurrences(calls[begin:], sequence)
    assert len(places) == steps
    assert (calls[begin:][places] == sequence).all()


def test_the_longer_sequence_with_seldom_calls_comes_later() -> None:
    assert [len(each.codes) for each in periods.sequences(np.array(2 * TENTH))] == [2, 21]


def test_calls_without_order_have_no_sequence() -> None:
    almost = np.tile(np.arange(20), 8)
    almost[::16] = 50 + np.arange(10)
    assert periods.sequences(almost) == []
    assert periods.sequences(np.random.default_rng(1).integers(0, 5, 400)) == []
    assert periods.sequences(np.empty(0, np.int64)) == []


def test_a_call_that_comes_several_times_a_step_is_told_by_the_times() -> None:
    noise = np.random.default_rng(2).random((3, 90))
    thrice = np.tile([50.0, 0.0, 0.0], 30)
    assert periods.turns([thrice + noise[0], 2 * thrice + noise[1], noise[2] / 100]) == 3
    assert periods.turns([9 + noise[0], 9 + noise[1]]) == 1
    assert periods.turns([thrice + noise[0], 50 + noise[1]]) == 1  # one rank has more to do now and then
