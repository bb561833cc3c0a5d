"""The average of θ beside θ: what it is, that it changes no gradient, and that the better of both counts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interrupted import built, interrupted

import pdcode
from pdcode import problems
from pdcode.__main__ import main
from pdcode.coding import optimizers
from pdcode.coding.optimizers import Optimizer
from pdcode.config import load as configfile
from pdcode.config.load import resolve
from pdcode.schemes.lwpd import LWPD
from pdcode.session import checkpoint
from pdcode.session.monitor import Monitor
from pdcode.session.setup import prepare
from pdcode.trace.recorder import Recorder
from pdcode.util.errors import InputError
from pdcode.util.touches import flops_per_touch

FREE = {"flops_per_s": 1e18, "task_s": 0.005}  # averaging takes no time, so that tasks arrive as without it
JOB: dict[str, Any] = {
    "problem": {"kind": "mlp", "data": "digits", "hidden": [16], "batch": 16, "evaluate": 300},
    "workers": {"count": 4},
    "machine": FREE,
    "stragglers": {"kind": "shifted-exponential", "mean_s": 0.002, "shift_s": 0.002},
    "stop": {"updates": 60},
    "trace": {"progress_updates": 7},
}
KEY = "optimizer.average"
CODE = {"code.family": "net", "code.blocks": [8, 1], "code.weight": 4}
PLAIN = {"optimizer.kind": "sgd", "optimizer.rate": 0.7}
CASES: dict[str, dict[str, Any]] = {
    "asynchronous": {"update.mode": "async", "optimizer.rate": 0.3, **CODE},
    "relayed": {"downlink.kind": "codewords", "wire.dtype": "int8", "optimizer.momentum": 0.5, **CODE},
    "first": {"update.mode": "first", "update.count": 3, "optimizer.kind": "adam", "optimizer.rate": 0.01},
    "summed": {"scheme.preset": "ring", **PLAIN},
    "tree": {
        "scheme.preset": "sharded",
        "reduce.kind": "tree",
        "reduce.bits": 8,
        "wire.dtype": "float32",
        **PLAIN,
    },
    "owners": {"scheme.preset": "sharded", **PLAIN},
    "owners, first": {"scheme.preset": "sharded-first", "update.count": 3},
    "two rounds": {"scheme.name": "powersgd"},
    "parts": {"scheme.name": "streaming"},
    "local steps": {"scheme.name": "local"},
    "top-k": {"scheme.name": "topk"},
    "projected": {"optimizer.proximal": {"kind": "unit-norm"}, "optimizer.rate": 0.3, **CODE},
}


def table(**keys: Any) -> optimizers.SGDTable:
    return optimizers.SGDTable(average=True, **keys)


def followed(points: np.ndarray, updates: Sequence[int] = ()) -> np.ndarray:
    """The averages of successive θ, shape (t, size), from a first one on, by default after updates 1, 2, …"""
    made, average = table().make(points.shape[1], points.dtype), points[0].copy()
    averages = [average.copy()]
    for update, theta in zip(updates or range(1, len(points)), points[1:], strict=True):
        made.average(average, theta, update)
        averages.append(average.copy())
    return np.array(averages)


@given(st.floats(-1e6, 1e6), st.integers(1, 200))
def test_the_average_of_a_constant_is_that(value: float, updates: int) -> None:
    points = np.full((updates, 3), value, np.float32)
    np.testing.assert_array_equal(followed(points), points)


@given(st.integers(0, 99), st.integers(2, 60))
def test_weights_are_a_polynomial_of_the_update(seed: int, updates: int) -> None:
    """Of degree η: (i + η - 1)! / (i - 1)! of update i, whatever the start."""
    points = np.random.default_rng(seed).normal(size=(updates, 3))
    eta = optimizers.AVERAGING
    weights = np.array([np.prod(np.arange(i, i + eta), dtype=float) for i in range(1, updates)])
    expected = weights @ points[1:] / weights.sum()
    np.testing.assert_allclose(followed(points)[-1], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("curvature", [0.5, 1.0, 4.0])
def test_noise_of_the_gradients_averages_out(curvature: float) -> None:
    """Descent at a constant rate on ½ c θ² ends in a cloud around 0, whose mean is nearer to it."""
    random, theta, points = np.random.default_rng(1), np.full(2000, 3.0), []
    for _ in range(400):
        points.append(theta)
        theta = theta - 0.2 * (curvature * theta + random.normal(size=len(theta)))
    loss, of_average = (np.mean(each**2) for each in (points[-1], followed(np.array(points))[-1]))
    assert of_average < 0.4 * loss


class Spy:
    """What was averaged in runs: number of the update and θ of each call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.updates, self.thetas, average = list[int](), list[np.ndarray](), Optimizer.average

        def spied(optimizer: Optimizer, mean: np.ndarray, theta: np.ndarray, update: int) -> None:
            self.updates.append(update)
            self.thetas.append(theta.copy())
            average(optimizer, mean, theta, update)

        monkeypatch.setattr(Optimizer, "average", spied)


def simulated(path: Path, **settings: Any) -> pdcode.Trace:
    return pdcode.simulate(JOB, output=path, set=settings, progress=False)


@pytest.mark.every(3)
@pytest.mark.parametrize("case", CASES)
def test_the_better_of_both_counts_and_gradients_are_as_without(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy, settings = Spy(monkeypatch), CASES[case]
    trace = simulated(tmp_path / "a.h5", **settings, **{KEY: True})
    updates, plain = spy.updates.copy(), simulated(tmp_path / "plain.h5", **settings, **{KEY: False})
    every = trace.worker_count if trace.config["update"]["mode"] == "async" else 1
    assert updates == list(range(1, 60 // every + 1)) == spy.updates
    assert not plain.progress["averaged"].any()
    assert np.isnan(plain.progress["other_loss"]).all()
    assert "other_theta" not in plain.checkpoint

    progress, last = trace.progress, trace.progress["averaged"][-1]
    assert (progress["loss"] <= progress["other_loss"]).all()
    np.testing.assert_array_equal(np.where(progress["averaged"], progress["other_loss"], progress["loss"]),
                                  plain.progress["loss"])  # fmt: skip
    assert trace.counters["averaged"] == last
    both = trace.checkpoint["theta"], trace.checkpoint["other_theta"]
    theta, average = both[::-1] if last else both
    np.testing.assert_array_equal(theta, plain.theta)
    np.testing.assert_array_equal(theta, spy.thetas[-1])
    if case != "projected":
        first = configfile.resolve(JOB)
        first = problems.create(first.problem).initial(first.seed)
        expected = followed(np.array([first, *spy.thetas]))[-1]
        np.testing.assert_array_equal(average, expected)
    assert (trace.replay(progress=False) == trace.theta).all()


def test_the_one_of_lower_loss_is_what_the_run_returns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In noise that is the average."""
    trace = simulated(tmp_path / "a.h5", **{KEY: True, "optimizer.rate": 1.0, "problem.batch": 2, **CODE})
    assert trace.progress["averaged"][-1] == 1
    problem = prepare(configfile.resolve(trace.config)).problem
    for name, column in (("theta", "loss"), ("other_theta", "other_loss")):
        assert problem.loss(trace.checkpoint[name]) == pytest.approx(trace.progress[column][-1], rel=1e-6)
    assert trace.theta is trace.checkpoint["theta"]
    last = trace.progress["accuracy"][-1]
    assert problem.accuracy(trace.theta) == pytest.approx(last)
    np.testing.assert_array_equal(trace.model().theta, trace.theta)
    assert main(["show", str(trace.path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "The last loss is of the average of θ; the loss of θ is " in shown


@pytest.mark.parametrize(
    ("losses", "best", "other"),
    [
        ((2.0, 1.0), 1, 2.0),
        ((1.0, 2.0), 0, 2.0),
        ((1.0, 1.0), 0, 1.0),
        ((np.nan, 5.0), 1, np.nan),
        ((5.0, np.nan), 0, np.nan),
        ((np.inf, np.nan), 0, np.nan),
        ((3.0,), 0, np.nan),
    ],
)
def test_a_loss_that_is_no_number_is_never_the_lower(
    losses: tuple[float, ...], best: int, other: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, config = problems.create({"kind": "softmax", "data": "digits"}), resolve({})
    monitor = Monitor(problem, config, Recorder(), lambda line: None)
    monkeypatch.setattr(monitor, "_measured", lambda theta: (float(theta[0]), 0.5, 0.1))
    found = monitor._values([np.array([loss]) for loss in losses])
    np.testing.assert_equal(found, (losses[best], 0.5, 0.1, best, other))


def test_a_resumed_simulation_has_the_average_of_one_run_through(tmp_path: Path) -> None:
    job = {**JOB, "trace": {"path": str(tmp_path / "a.h5")}, "optimizer": {"average": True, "rate": 0.3}}
    whole = interrupted(resolve(job), arrivals=30)
    found = checkpoint.find(resolve(job))
    assert found is not None
    run = built(found.resumed_config(resolve(job)))
    found.restore(run.stateful, run.components.config)
    assert not np.array_equal(run.coordinator.average, whole.coordinator.average)
    run.coordinator.resumed = True
    run.coordinator.run(run.monitor)
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(run.arrays[name], array)
    assert {*whole.arrays} >= {"theta", "other_theta"}
    assert run.monitor.averaged == whole.monitor.averaged


def test_another_preset_goes_on_with_the_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LWPD, "candidates", {"first": 1.0, "default": 8.0})
    monkeypatch.setattr("pdcode.choice.preset.HELD", -np.inf)  # begin with what waits for nobody
    spy = Spy(monkeypatch)
    job = {**JOB, "stragglers": {"kind": "none"}}
    settings = {KEY: True, "scheme.preset": "auto", "trace.progress_s": 0.01}
    trace = pdcode.simulate(job, output=tmp_path / "a.h5", set=settings, progress=False)
    presets = [each["config"]["scheme"]["preset"] for each in trace.earlier_presets]
    assert presets == ["default"]
    _, begun = trace.segments["version"].tolist()
    assert begun == 4
    assert spy.updates == [1, *range(begun + 1, 61)]
    config = configfile.resolve(job, ["scheme.preset=first"])
    first = problems.create(config.problem).initial(config.seed)
    last = followed(np.array([first, *spy.thetas]), [*spy.updates])[-1]
    assert any(np.array_equal(each, last) for each in trace.checkpoint.values())
    trace.replay(progress=False)


def test_weights_on_a_sphere_stay_there(tmp_path: Path) -> None:
    """A mean of vectors of norm 1 is shorter."""
    trace = simulated(tmp_path / "a.h5", **CASES["projected"], **{KEY: True})
    layer = problems.create(configfile.resolve(JOB).problem).layers[0]
    for theta in (trace.checkpoint["theta"], trace.checkpoint["other_theta"]):
        norms = np.linalg.norm(layer.unbiased(theta), axis=0)
        np.testing.assert_allclose(norms[norms > 0], 1.0, rtol=1e-5)


@pytest.mark.parametrize(("case", "charged"), [("asynchronous", 1 / 4), ("first", 1), ("summed", 0)])
def test_rank_0_is_charged_a_pass_over_theta(case: str, charged: float) -> None:
    sets = [f"{key}={value!r}" for key, value in CASES[case].items()]
    sets = [each.replace("='", "=").rstrip("'") for each in sets]
    plain, averaging = (prepare(resolve(JOB, [*sets, f"{KEY}={value}"])) for value in ("false", "true"))
    assert averaging.flops() == plain.flops()  # of workers, and their replicas
    touches = 2 * flops_per_touch(plain.problem.size) * plain.problem.size
    assert averaging.step_flops - plain.step_flops == pytest.approx(touches * charged)


@pytest.mark.parametrize("value", ["2", '"yes"', "[true]"])
def test_a_value_that_is_neither_true_nor_false_is_refused_by_key(value: str) -> None:
    with pytest.raises(InputError, match=r"^optimizer\.average: .*") as raised:
        resolve({}, [f"{KEY}={value}"])
    assert "\n" not in str(raised.value)
