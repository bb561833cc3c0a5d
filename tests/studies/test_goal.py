"""The target of a plan."""

import math

import numpy as np
import pytest
import traces

from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.studies.goal import Goal, choose_goal
from pdcode.trace.reader import TraceReader
from pdcode.util.errors import InputError


def config(*overrides: str) -> Config:
    return configfile.resolve({}, overrides)


@pytest.fixture
def trace(tmp_path):
    """A run to loss 0.07, of which the last loss is 0.09."""
    writer = traces.writer(tmp_path / "run.h5")
    for number, loss in enumerate((2.0, 0.5, 0.09)):
        writer.progress(number, 10**9 * number, loss, 0.5 + number / 10, 1.0, 0, float("nan"))
    writer.close(np.zeros(3), {}, traces.members(8), {})
    return TraceReader(tmp_path / "run.h5")


def test_the_target_is_the_option_or_the_configurations_or_the_traces(trace):
    with_loss = config("stop.loss=0.3", "stop.seconds=5.0")
    assert choose_goal(with_loss, trace, 0.2) == Goal("loss", 0.2, "--target")
    assert choose_goal(with_loss, trace, None) == Goal("loss", 0.3, "[stop]")
    assert choose_goal(config("stop.accuracy=0.9"), None, None) == Goal("accuracy", 0.9, "[stop]")
    timed = config("stop.seconds=5.0")
    assert choose_goal(timed, trace, None) == Goal("loss", 0.07, f"[stop] of {trace.path}")
    trace.config.pop("stop")
    assert choose_goal(timed, trace, None).level == 0.09
    with pytest.raises(InputError, match=r"^stop\.loss: .*--target"):
        choose_goal(timed, None, None)


def test_when_a_recorded_run_reached_the_target(trace):
    assert Goal("loss", 0.5).seconds(trace) == 1.0
    assert Goal("accuracy", 0.65).seconds(trace) == 2.0  # by the update that was measured at 2 s
    assert math.isinf(Goal("loss", 0.01).seconds(trace))


def test_values_of_the_target_and_its_stop():
    loss, accuracy = Goal("loss", 0.25), Goal("accuracy", 0.9)
    assert (str(loss), str(accuracy)) == ("training loss 0.25", "accuracy 0.9")
    assert accuracy.bound == pytest.approx(0.1)
    assert accuracy.format_value(accuracy.value(7.0, 0.85)) == "accuracy 0.85"
    assert loss.format_value(loss.value(7.0, 0.85)) == "loss 7"
    stop = accuracy.stop(2.0, 50)
    assert (stop.seconds, stop.updates, stop.loss, stop.accuracy) == (2.0, 50, None, 0.9)
    assert loss.stop(2.0, 50).loss == 0.25
