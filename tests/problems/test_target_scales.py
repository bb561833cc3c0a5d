"""Targets that are scaled: the same losses, scores and predictions, in the units of the data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pdcode
from pdcode import problems
from pdcode.config.load import resolve
from pdcode.problems.problem import Problem
from pdcode.problems.scaling import moments, target_scales
from pdcode.util.errors import InputError

KEY = "standardise_targets"
CASES: dict[str, dict[str, Any]] = {
    "linear": {"kind": "least-squares", "l2": 0.3},
    "network": {"kind": "mlp", "hidden": [7]},
}


def data(outputs: int = 2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.standard_normal((90, 4)) * [1, 10, 0.1, 3] + 5
    y = np.tanh(x @ random.standard_normal((4, outputs)) / 10) * [30.0, 4.0][:outputs] + 150
    return x, y + random.standard_normal(y.shape)


def problem(path: Path, scaled: bool, **keys: Any) -> Problem:
    np.savez(path, **dict(zip("xy", data(), strict=True)))
    return problems.create({"data": str(path), "dtype": "float64", "standardise": True, KEY: scaled, **keys})


@pytest.mark.parametrize("keys", CASES.values(), ids=CASES)
def test_losses_and_scores_are_those_of_the_targets_as_they_are(tmp_path: Path, keys: dict[str, Any]) -> None:
    plain, scaled = (problem(tmp_path / "a.npz", flag, **keys) for flag in (False, True))
    facts = scaled.dataset.facts
    theta = scaled.initial(3)
    folded = theta.copy()
    last = scaled.layers[-1]
    last.weights(folded)[:] *= facts["target_scale"]
    last.weights(folded)[:, -1] += facts["target_mean"]
    ours, theirs = scaled.measure(theta), plain.measure(folded)
    assert ours.loss == pytest.approx(theirs.loss)
    assert ours.accuracy == pytest.approx(theirs.accuracy)
    assert scaled.loss(theta) == pytest.approx(plain.loss(folded))
    step = 1e-6 * scaled.gradient(theta)
    slope = scaled.loss(theta + step) - scaled.loss(theta - step)
    assert slope == pytest.approx(2e6 * (step @ step) * facts["target_scale"][0] ** 2, rel=1e-4)
    assert ours.grad_norm == pytest.approx(1e6 * np.linalg.norm(step) * facts["target_scale"][0] ** 2)


def test_the_optimum_is_the_same(tmp_path: Path) -> None:
    plain, scaled = (problem(tmp_path / "a.npz", flag, **CASES["linear"]) for flag in (False, True))
    assert plain.optimum is not None
    assert scaled.optimum is not None
    assert scaled.loss(scaled.optimum) == pytest.approx(plain.loss(plain.optimum))


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("keys", CASES.values(), ids=CASES)
def test_a_run_tells_and_returns_what_fits_the_data(
    tmp_path: Path, keys: dict[str, Any], outputs: int
) -> None:
    x, y = data(outputs)
    table = {**keys, "l2": 0.0, "batch": 0, "test_fraction": 0.0, "task": "regression", KEY: True}
    job = {"problem": table, "workers": {"count": 1}, "optimizer": {"rate": 0.01, "average": True}}
    job |= {"scheme": {"name": "uncoded"}, "stop": {"updates": 20}}
    targets = y[:, 0] if outputs == 1 else y
    trace = pdcode.simulate(job, data=(x, targets), output=tmp_path / "a.h5", progress=False)
    model = trace.model()
    predicted = model.predict(x)
    assert predicted.shape == targets.shape
    loss = 0.5 * np.square(predicted - targets).sum() / len(x)
    assert trace.progress["loss"][-1] == pytest.approx(loss, rel=1e-4)
    assert trace.arrivals["loss"][0] == pytest.approx(trace.progress["loss"][0], rel=1e-5)
    if outputs == 1:
        assert trace.progress["accuracy"][-1] == pytest.approx(model.score(x, targets), abs=1e-4)
    else:
        centred = np.square(predicted - y).mean(axis=0) / y.var(axis=0)
        assert model.score(x, targets) == pytest.approx(1 - centred.mean(), abs=1e-5)
    hidden, *weights = x, *trace.weights().values()
    for place in range(0, len(weights), 2):
        hidden = hidden if place == 0 else np.maximum(hidden, 0)
        hidden = hidden @ weights[place].T + weights[place + 1]
    np.testing.assert_allclose(hidden.reshape(predicted.shape), predicted, rtol=1e-4)
    trace.replay(progress=False)


def test_the_target_of_a_run_is_in_the_units_of_the_data(tmp_path: Path) -> None:
    x, y = data(1)
    level = float(np.var(y)) / 4
    job = {"problem": {"kind": "least-squares", KEY: True, "test_fraction": 0.0}, "stop": {"loss": level}}
    job["stop"] |= {"updates": 2000}
    trace = pdcode.simulate(job, data=(x, y[:, 0]), output=tmp_path / "a.h5", progress=False)
    assert trace.progress["loss"][-2] > level >= trace.progress["loss"][-1]
    assert 0.5 * np.square(trace.model().predict(x) - y[:, 0]).mean() == pytest.approx(
        trace.progress["loss"][-1], rel=1e-4
    )


@given(st.integers(0, 2**32), st.lists(st.sampled_from([0.0, 1e-3, 1.0, 1e4]), min_size=1, max_size=4))
def test_one_scale_is_the_root_of_the_mean_variance(seed: int, sizes: list[float]) -> None:
    y = np.random.default_rng(seed).standard_normal((30, len(sizes))) * sizes + 100
    mean, scale = target_scales(moments([y], len(sizes)))
    np.testing.assert_allclose(mean, y.mean(axis=0))
    found = np.sqrt(y.var(axis=0).mean()) if any(sizes) else 1.0
    np.testing.assert_allclose(scale, [found], rtol=1e-8)


def test_targets_that_cannot_be_scaled_stay_or_are_refused(tmp_path: Path) -> None:
    assert target_scales(moments([np.full((5, 1), 1e200)], 1))[1] == 1  # constant
    assert target_scales(moments([np.array([[1e200], [-1e200]])], 1))[1] == 1  # the variance overflows
    whole = problems.load(problems.as_table({"kind": "mlp", KEY: True}))  # digits: classes
    assert "target_scale" not in whole.facts
    for kind in ("softmax", "logistic", "poisson"):
        with pytest.raises(InputError, match=rf"^problem\.{KEY}: .*'least-squares' or 'mlp'"):
            resolve({"problem": {"kind": kind, KEY: True}, "stop": {"updates": 1}})
    np.savez(tmp_path / "a.npz", x=np.ones((3, 1)), y=[0.5, np.nan, 2.5])
    with pytest.raises(InputError, match="row 1"):
        problems.load(
            problems.as_table({"kind": "least-squares", "data": str(tmp_path / "a.npz"), KEY: True})
        )
