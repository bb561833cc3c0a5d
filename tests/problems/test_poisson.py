"""Poisson regression against scikit-learn's, and what is no count."""

import h5py
import numpy as np
import pytest

import pdcode
from pdcode import problems
from pdcode.util.errors import InputError

TABLE = {"kind": "poisson", "data": "synthetic", "samples": 200, "features": 5, "dtype": "float64"}


def test_loss_and_accuracy_are_those_of_scikit_learn():
    from sklearn.metrics import d2_tweedie_score, mean_poisson_deviance  # takes over a second

    problem = problems.create(TABLE)
    data, theta = problem.dataset, 0.5 * problem.initial(3)
    rates, test_rates = (np.exp(x @ problem.weights(theta, 0).T)[:, 0] for x in (data.x, data.test_x))
    assert problem.loss(theta) == pytest.approx(0.5 * mean_poisson_deviance(data.y[:, 0], rates))
    expected = d2_tweedie_score(data.test_y[:, 0], test_rates, power=1)
    assert problem.accuracy(theta) == pytest.approx(expected)


def test_a_run_ends_at_the_optimum_of_scikit_learn(tmp_path):
    from sklearn.linear_model import PoissonRegressor

    path = tmp_path / "p.h5"
    done = pdcode.simulate(
        {
            "problem": {**TABLE, "condition": 1.0, "batch": 0, "l2": 0.1},
            "code": {"blocks": 4, "weight": 2, "rows_per_task": 4},
            "update": {"mode": "all"},
            "memory": {"kind": "none"},
            "decoder": {"kind": "least_squares"},
            "optimizer": {"rate": 0.3},
            "workers": {"count": 4},
            "stop": {"updates": 400},
            "trace": {"path": str(path)},
        }
    )
    problem = problems.create(done.config["problem"])
    data, weights = problem.dataset, problem.weights(done.theta, 0)[0]
    model = PoissonRegressor(alpha=0.1, tol=1e-12, max_iter=1000).fit(data.x[:, :-1], data.y[:, 0])
    np.testing.assert_allclose(weights[:-1], model.coef_, atol=1e-6)
    assert weights[-1] == pytest.approx(model.intercept_, abs=1e-6)


@pytest.mark.parametrize(
    ("y", "expected"), [([0.0, 0.0, 0.0], 0), ([2.0, 2.0, 2.0], 1), ([1.0, 2.0, 3.0], 0)]
)
def test_accuracy_of_constant_targets_and_of_the_mean(y, expected):
    kind = problems.as_table({"kind": "poisson"})
    outputs = np.full((3, 1), np.log(2.0))
    assert kind.accuracy(outputs, np.array(y)[:, None]) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
@pytest.mark.parametrize("shards", ["shuffled", "contiguous"])
def test_negative_targets_are_refused_and_integers_are_no_classes(tmp_path, name, shards):
    x, y, path = np.random.default_rng(0).random((9, 2)), np.arange(9) % 4, str(tmp_path / name)

    def load():
        if name == "a.npz":
            np.savez(path, x=x, y=y)
        else:
            with h5py.File(path, "w") as file:
                file["x"], file["y"] = x, y
        return problems.load_source(
            problems.as_table({"kind": "poisson", "data": path, "shards": shards, "test_fraction": 0.0})
        )

    dataset = load().dataset
    assert dataset.classes is None
    assert dataset.y.dtype == np.float32
    y = y - 1
    with pytest.raises(InputError, match=r"problem.targets: 'y' in '.*' has a negative value, -1; kind 'poi"):
        load()
