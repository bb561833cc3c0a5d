"""The penalty is scikit-learn's: its optima are ours, for any axis, blocks and codewords."""

import numpy as np
import pytest

from pdcode import problems

L2 = 0.05


def scikit_learn(problem):
    """scikit-learn's optimum of the same loss and penalty, as (d_out, d_in + 1) weights."""
    from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge  # takes over a second

    data = problem.dataset
    x = data.x if isinstance(data.x, np.ndarray) else data.x.toarray()
    if problem.table.kind == "poisson":
        model = PoissonRegressor(alpha=L2, tol=1e-12, max_iter=5000).fit(x[:, :-1], data.y[:, 0])
    elif problem.classes is None:
        model = Ridge(alpha=L2 * len(x), tol=1e-12).fit(x[:, :-1], data.y)
    else:
        model = LogisticRegression(C=1 / (L2 * len(x)), tol=1e-10, max_iter=5000).fit(x[:, :-1], data.y)
    return np.hstack([np.atleast_2d(model.coef_), np.atleast_2d(model.intercept_).reshape(-1, 1)])


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("density", [1.0, 0.3])
@pytest.mark.parametrize(
    ("kind", "outputs"), [("least-squares", 3), ("poisson", 1), ("logistic", 1), ("softmax", 3)]
)
def test_the_optimum_is_scikit_learns(kind, outputs, density, axis):
    table = {
        "kind": kind, "data": "synthetic", "samples": 300, "features": 7, "outputs": outputs,
        "density": density, "l2": L2, "dtype": "float64", "axis": axis, "noise": 1.0,
    }  # fmt: skip
    problem = problems.create(table, 3)
    theta = np.empty(problem.size)
    problem.weights(theta, 0)[:] = scikit_learn(problem)
    assert np.abs(problem.gradient(theta)).max() < 1e-6
    codewords = np.random.default_rng(0).standard_normal((2, 3))
    assert np.abs(problem.coded_derivative(theta, None, [codewords])[0]).max() < 1e-5
    with_bias = problems.create({**table, "penalise_bias": True}, 3)
    assert np.abs(with_bias.gradient(theta)).max() > 1e-4
