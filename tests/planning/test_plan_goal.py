"""What a plan is to reach, and when a curve would get there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import traces
from hypothesis import given
from hypothesis import strategies as st

from pdcode.analysis.statistics import crossing
from pdcode.config import load as configfile
from pdcode.config.tables import Config
from pdcode.planning import goal
from pdcode.planning.goal import Goal, extrapolate
from pdcode.planning.plan import recorded
from pdcode.trace import Trace
from pdcode.util.errors import InputError


def config(*overrides: str) -> Config:
    return configfile.resolve({}, overrides)


@pytest.fixture
def trace(tmp_path):
    """A run to loss 0.07, of which the last loss is 0.09."""
    writer = traces.writer(tmp_path / "run.h5")
    for number, loss in enumerate((2.0, 0.5, 0.09)):
        writer.progress(number, 10**9 * number, loss, 0.5 + number / 10, 1.0)
    writer.close(np.zeros(3), {}, traces.members(8), {})
    return Trace(tmp_path / "run.h5")


def test_who_says_what_is_to_be_reached(trace):
    given_loss = config("stop.loss=0.3", "stop.seconds=5.0")
    assert goal.choose(given_loss, trace, 0.2) == Goal("loss", 0.2, "--target")
    assert goal.choose(given_loss, trace, None) == Goal("loss", 0.3, "[stop]")
    accuracy = goal.choose(config("stop.accuracy=0.9"), None, None)
    assert (accuracy.kind, accuracy.level, accuracy.bound) == ("accuracy", 0.9, pytest.approx(0.1))
    timed = config("stop.seconds=5.0")
    of_trace = goal.choose(timed, trace, None)
    assert (of_trace.kind, of_trace.level) == ("loss", 0.07)
    assert str(trace.path) in of_trace.source
    trace.config.pop("stop")
    assert goal.choose(timed, trace, None).level == 0.09
    with pytest.raises(InputError, match=r"^stop\.loss: .*--target"):
        goal.choose(timed, None, None)


def test_when_a_recorded_run_was_there(trace):
    assert recorded(trace, Goal("loss", 0.5)) == 1.0
    assert recorded(trace, Goal("accuracy", 0.65)) == pytest.approx(1.464, abs=1e-3)  # between 1 s and 2 s
    assert math.isinf(recorded(trace, Goal("loss", 0.01)))


def test_the_goal_in_words_and_as_a_stop():
    loss, accuracy = Goal("loss", 0.25), Goal("accuracy", 0.9)
    assert str(loss) == "training loss 0.25"
    assert str(accuracy) == "accuracy 0.9"
    assert accuracy.shown(accuracy.value(7.0, 0.85)) == "accuracy 0.85"
    assert loss.shown(loss.value(7.0, 0.85)) == "loss 7"
    stop = accuracy.stop(2.0, 50)
    assert (stop.seconds, stop.updates, stop.loss, stop.accuracy) == (2.0, 50, None, 0.9)
    assert loss.stop(2.0, 50).loss == 0.25


@given(
    start=st.floats(0.1, 10), power=st.floats(0.1, 3), end=st.floats(0.01, 100), share=st.floats(0.05, 0.95)
)
def test_a_power_of_time_is_continued_exactly(start, power, end, share):
    times = np.linspace(0, end, 40)
    values = start * np.maximum(times, end / 100) ** -power
    bound = share * values[-1]
    expected = (start / bound) ** (1 / power)
    found = extrapolate(times, values, bound)
    if math.log(expected) > goal.FAR:
        assert math.isinf(found)
    else:
        assert found == pytest.approx(expected, rel=1e-6)


def test_a_curve_that_was_steep_and_is_flat_loses_to_one_that_goes_on():
    times = np.linspace(0, 1, 101)
    flat = 0.3 + 2 * np.exp(-20 * times)
    steady = 2 / (1 + 2 * times)
    assert flat[-1] < steady[-1]
    assert extrapolate(times, steady, 0.1) < extrapolate(times, flat, 0.1)
    assert 9.5 < extrapolate(times, steady, 0.1) < 60  # it is there at 9.5: the law of time is cautious


def test_what_is_not_extrapolated():
    assert math.isinf(extrapolate([], [], 0.1))
    assert math.isinf(extrapolate([0.0, 1.0], [2.0, 1.0], 0.1))  # too little is known
    assert math.isinf(extrapolate([0, 1, 2, 3], [1, 1, 1, 1], 0.1))
    assert math.isinf(extrapolate([0, 1, 2, 3], [1, 2, 3, math.nan], 0.1))
    assert math.isinf(extrapolate([0, 1, 2, 3], [1, 2, 3, 4], 0.1))
    # below zero it goes by ln t: from 0 at 1 to -1 at e, so to -2 at e²
    times = np.exp(np.linspace(0, 1, 9))
    assert extrapolate(times, -np.log(times), -2.0) == pytest.approx(math.exp(2))


def test_between_two_measurements():
    assert crossing([0.0, 1.0, 3.0], [4.0, 2.0, 0.5], 1.0) == pytest.approx(2.0)  # half-way in ln v
    assert crossing([0.0, 1.0, 3.0], [4.0, 2.0, -2.0], 0.0) == pytest.approx(2.0)  # half-way
    assert crossing([0.0, 2.0], [1.0, 0.5], 0.5) == 2.0
    assert crossing([1.0], [0.5], 0.5) == 1.0
    assert crossing([0.0, 1.0, 3.0, 4.0], [4.0, 2.0, 0.5, 3.0], 1.0) == pytest.approx(2.0)  # the first time
    assert math.isinf(crossing([0.0, 1.0], [1.0, 0.6], 0.5))
    assert math.isinf(crossing([], [], 0.5))
    assert math.isinf(crossing([0.0, 1.0], [1.0, math.nan], 0.5))
