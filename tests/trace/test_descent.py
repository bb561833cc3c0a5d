"""What is wrong with a descent, by its measured losses alone."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traces
from hypothesis import given
from hypothesis import strategies as st

from pdcode.trace.descent import Descent, judge
from pdcode.trace.reader import TraceReader

NETWORK = {"kind": "mlp", "hidden": [64], "init": None}
OWN = {"kind": "function", "start": "a.py:x0"}
RATE = {"rate": 0.5}


def judged(loss: Any, *, ended: bool = True, accuracy: Any = None, text: str = "", **tables: Any) -> Descent:
    """Judge losses that are measured every 100 ms and every 10 updates."""
    config = {"problem": NETWORK, "optimizer": RATE, **tables}
    count = np.arange(len(loss))
    accuracy = np.full(len(loss), math.nan) if accuracy is None else accuracy
    rows = {"version": 10 * count, "t_ns": 100_000_000 * count, "loss": loss, "accuracy": accuracy}
    return judge(rows, config, ended=ended, text=text)


@pytest.mark.parametrize(
    "loss",
    [
        [],
        [2.3],
        [2.3, 2.3],
        [2.3, 2.31],  # within noise
        [2.3, 0.1, 2.2, 0.2],
        [2.3, 2.9, 1.8, 0.9],  # momentum overshoots at first
        [0.0, 0.0],
        [2.3, *(0.1 * math.sin(i) ** 2 for i in range(100))],
        [-1.0, -3.0, -2.9],
    ],
)
def test_healthy_descents(loss: list[float]) -> None:
    for ended in False, True:
        assert not judged(loss, ended=ended)
        assert judged(loss, ended=ended).text == ""


@pytest.mark.parametrize("last", [math.nan, math.inf, 4.7, 7.6e5])
def test_a_run_that_diverged(last: float) -> None:
    found = judged([2.3, 0.5, 3.1, last])
    assert found.diverged
    assert found.text.startswith("diverged: ")
    assert "at update 30" in found.text
    assert found.text.endswith("optimizer.rate is 0.5; try --set optimizer.rate=0.05")


def test_since_when_and_by_how_much() -> None:
    assert judged([2.0, 0.5, 3.1, 20.0]).what == (
        "diverged: the loss ended above its first: 20 at update 30, 10 times the first, 2; above since "
        "update 20 (200 ms)"
    )
    assert judged([2.0, 20.0], ended=False).what == (
        "diverging: the loss is above its first: 20 at update 10, 10 times the first, 2"
    )
    assert judged([2.3, math.nan]).what == "diverged: loss is nan at update 10, after 2.3 at update 0"


@pytest.mark.parametrize(("size", "moderate"), [(0.3, True), (1e19, False), (math.inf, False)])
def test_a_loss_that_is_no_number_at_moderate_parameters_is_the_models(size: float, moderate: bool) -> None:
    rows = {"version": [0, 9], "t_ns": [0, 9], "loss": [2.3, math.nan], "accuracy": [math.nan] * 2}
    config = {"problem": NETWORK, "optimizer": RATE}
    found = judge(rows, config, ended=True, theta=lambda: np.array([0.1, -size]))
    assert found.diverged
    assert ("; all parameters are finite, at most 0.3" in found.what) == moderate
    assert ("probably the model" in found.cause) == moderate


def test_a_loss_above_its_first_is_a_warning_unless_it_is_far_above() -> None:
    found = judged([2.3, 2.5])
    assert found.what == "the loss ended above its first: 2.5 at update 10, 1.09 times the first, 2.3"
    assert not found.diverged


@pytest.mark.parametrize("problem", [OWN, {**NETWORK, "init": "a.h5"}])
def test_a_start_of_the_users_may_be_near_the_best(problem: dict[str, Any]) -> None:
    assert not judged([0.02, 0.05], problem=problem).diverged
    assert judged([0.02, 0.05], problem=problem)
    assert judged([0.02, 5.0], problem=problem).diverged


def test_an_objective_of_both_signs_has_no_natural_scale() -> None:
    assert not judged([-0.1, 0.2]).diverged
    assert judged([-0.1, 200.0]).diverged
    assert judged([-0.1, 0.2]).what == "the loss ended above its first: 0.2 at update 10, the first was -0.1"


def test_a_loss_that_rises_for_long() -> None:
    fall, rise = np.geomspace(2.3, 0.1, 10), np.linspace(0.2, 1.5, 10)
    found = judged([*fall, *rise], ended=False)
    assert found.what == "the loss rose: 1.5 at update 190, after 0.1 at update 90 (900 ms)"
    assert not found.diverged
    assert not judged([*fall, *rise, *fall])
    slowly = judged([1e4, *np.geomspace(1e3, 1e-3, 30), *np.geomspace(2e-3, 1.0, 30)])
    assert "the loss rose: 1 at" in slowly.what


def test_a_target_that_is_missed() -> None:
    fallen, flat = [2.3, 1.0, 0.5], [2.3, 0.5, *[0.6] * 8]
    assert not judged(fallen, ended=False, stop={"loss": 0.1})
    assert not judged(fallen, stop={"loss": 0.5})
    assert judged(fallen, stop={"loss": 0.1}).text == (
        "target missed: loss 0.5 at best in 20 updates, and stop.loss is 0.1; it was still improving: give "
        "the run longer (stop.updates, stop.seconds)"
    )
    assert judged(flat, stop={"loss": 0.1}).text == (
        "target missed: loss 0.5 at best in 90 updates, and stop.loss is 0.1"
    )
    assert judged(fallen, stop={"loss": 0.1}).missed
    assert not judged([2.0, 9.0, 8.0], stop={"loss": 0.1}).missed
    found = judged(fallen, accuracy=[0.1, 0.7, 0.6], stop={"accuracy": 0.9})
    assert found.what == "target missed: accuracy 0.7 at best in 20 updates, and stop.accuracy is 0.9"
    assert not judged([1.0, 5.0], accuracy=[0.1, 0.9], stop={"accuracy": 0.9})  # what was asked for


def test_the_cause_says_where_the_rate_comes_from() -> None:
    preset = {"name": "lwpd", "preset": "regression"}
    assert "0.5, with preset 'regression';" in judged([1.0, 5.0], scheme=preset).cause
    assert "0.5, as the file says;" in judged([1.0, 5.0], text="[optimizer]\nrate = 0.5", scheme=preset).cause
    liars = judged([1.0, 5.0], faults={"events": [{"kind": "flip"}]})
    assert "(or injected faults: flip): optimizer.rate" in liars.cause


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.booleans())
def test_a_run_has_diverged_only_above_its_first(loss: list[float], ended: bool) -> None:
    found = judged(loss, ended=ended)
    assert not found.diverged or loss[-1] > loss[0]
    assert loss[-1] <= 2 * loss[0] or not loss[0] or found.diverged
    assert bool(found) == bool(found.text)


def test_a_trace_knows_its_descent(tmp_path: Path) -> None:
    healthy = traces.simulate(tmp_path / "a.h5")
    assert not healthy.descent
    writer = traces.writer(tmp_path / "b.h5")
    for version, loss in enumerate((2.3, 1.0, 9.0)):
        writer.progress(version, version * 10**9, loss, 0.1, 1.0, 0, float("nan"))
    writer.flush(2 * 10**9)
    running = TraceReader(tmp_path / "b.h5").descent
    assert running.what.startswith("diverging: the loss is above its first: 9 at update 2")
    writer.close()
    assert TraceReader(tmp_path / "b.h5").descent.what.startswith("diverged: the loss ended above its first")


def test_a_run_that_is_stuck_has_diverged(tmp_path: Path) -> None:
    writer = traces.writer(tmp_path / "a.h5")
    writer.progress(0, 0, 2.3, 0.1, 1.0, 0, float("nan"))
    writer.fault(1, -1, -1, "stop", "diverged: every payload of update 0 was refused")
    writer.close()
    found = TraceReader(tmp_path / "a.h5").descent
    assert found.diverged
    assert found.what == "diverged: every payload of update 0 was refused"
    writer = traces.writer(tmp_path / "b.h5")
    for version, loss in enumerate((2.3, math.nan)):
        writer.progress(version, version, loss, 0.1, 1.0, 0, float("nan"))
    writer.fault(1, -1, -1, "stop", "diverged: every payload of update 1 was refused")
    writer.close()
    assert TraceReader(tmp_path / "b.h5").descent.what == (
        "diverged: every payload of update 1 was refused; loss is nan at update 1, after 2.3 at update 0"
    )


def test_an_interrupted_run_misses_no_target(tmp_path: Path) -> None:
    for name, message in (("a", "interrupted"), ("b", "")):
        writer = traces.writer(tmp_path / f"{name}.h5")
        writer.progress(0, 0, 2.3, 0.1, 1.0, 0, float("nan"))
        writer.progress(9, 9, 1.0, 0.1, 1.0, 0, float("nan"))
        if message:
            writer.fault(9, -1, -1, "stop", message)
        writer.close()
    assert not TraceReader(tmp_path / "a.h5").descent
    assert TraceReader(tmp_path / "b.h5").descent.what.startswith("target missed: loss 1 at best")
