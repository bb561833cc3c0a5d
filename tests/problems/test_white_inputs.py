"""White inputs: what they are, when inputs stay correlated, and that models take inputs as they come."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import Trace, problems
from pdcode.__main__ import main
from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.config.write import to_toml
from pdcode.problems.scaling import of_inputs


def table(**keys):
    return Config.of({"problem": {"kind": "least-squares", "standardise": "white", **keys}}).problem


def rows(seed, count, width):
    """Correlated rows of unequal scales, in chunks."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((count, width)) @ random.standard_normal((width, width)) + 9.0
    return x * 10.0 ** random.integers(-3, 4, width)


@given(st.integers(0, 2**32), st.integers(1, 8))
def test_products_of_white_inputs_are_those_of_the_identity(seed, width):
    x = rows(seed, 400, width)
    mean, scale, matrix = of_inputs("white", lambda: np.split(x, 4), width)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-6, atol=1e-9 * np.abs(matrix).max())
    white = (x - mean) / scale @ matrix
    values = np.linalg.eigvalsh(white.T @ white / len(x))
    before = np.linalg.eigvalsh(np.corrcoef(x.T).reshape(width, width))
    np.testing.assert_allclose(values, np.sort(before / (before + 1e-3)), rtol=1e-5, atol=1e-8)


def test_constant_inputs_and_copies_stay_finite():
    x = np.random.default_rng(1).standard_normal((50, 1)) * [1.0, 1.0, 0.0] + 2
    mean, scale, matrix = of_inputs("white", lambda: [x], 3)
    assert np.isfinite(matrix).all()
    assert np.abs((x - mean) / scale @ matrix).max() < 5
    assert np.isfinite(of_inputs("white", lambda: [np.ones((4, 2))], 2)[2]).all()


@pytest.mark.parametrize(
    ("keys", "facts"),
    [
        ({"data": "diabetes"}, {"mean", "deviation", "decorrelation"}),
        ({"data": "diabetes", "l2": 0.1}, {"mean", "deviation"}),  # the penalty is of weights of inputs
        ({"data": "synthetic", "features": 1025, "samples": 40}, {"mean", "deviation"}),
        ({"data": "synthetic", "density": 0.2}, {"mean", "deviation"}),
    ],
)
def test_inputs_stay_correlated_where_that_is_dear_or_means_something(keys, facts):
    found = problems.load(table(**keys)).facts
    assert {name for name in found if name in ("mean", "deviation", "decorrelation")} == facts


def test_a_penalty_of_the_optimizer_keeps_inputs_apart():
    keys = {"problem": {"kind": "least-squares", "data": "diabetes"}, "stop": {"updates": 1}}
    preset = {"scheme": {"preset": "small-regression"}}
    assert configfile.resolve(keys | preset).problem.standardise == "white"
    lasso = configfile.resolve(keys | preset | {"optimizer": {"proximal": {"kind": "l1", "weight": 0.1}}})
    assert (lasso.problem.standardise, lasso.optimizer.average) == (True, False)


def test_slices_of_a_file_are_as_white_as_the_array(tmp_path):
    plain = problems.load(table(data="diabetes", standardise=False, test_fraction=0))
    white = problems.load(table(data="diabetes", test_fraction=0))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = plain.x[:, :-1], plain.y
    sliced = problems.load_source(table(data=str(tmp_path / "a.h5"), shards="contiguous", test_fraction=0))
    assert sliced.sliced
    np.testing.assert_allclose(sliced.dataset.facts["decorrelation"], white.facts["decorrelation"], rtol=1e-3)
    assert {"mean", "deviation", "decorrelation"} <= {*sliced.shard(0, 4)}


def test_models_predict_from_inputs_as_they_are(tmp_path):
    path, job = tmp_path / "t.h5", tmp_path / "job.toml"
    keys = {"problem": {"kind": "least-squares", "data": "diabetes"}, "stop": {"updates": 60}}
    job.write_text(to_toml(keys | {"scheme": {"preset": "ring-regression"}, "workers": {"count": 4}}))
    assert main(["simulate", str(job), "-o", str(path)]) == 0
    trace, random = Trace(path), np.random.default_rng(2)
    assert trace.config["problem"]["standardise"] == "white"
    x = random.standard_normal((7, 10)) * 0.05
    weights, bias = trace.weights().values()
    np.testing.assert_allclose(trace.model().predict(x), x @ weights[0] + bias[0], rtol=1e-3)
    data = problems.load(table(data="diabetes", standardise=False))
    assert trace.model().score(data.test_x[:, :-1], data.test_y[:, 0]) == pytest.approx(
        trace.progress["accuracy"][-1], abs=0.02
    )
