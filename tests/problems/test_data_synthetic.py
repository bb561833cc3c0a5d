"""Synthetic data."""

import numpy as np
import pytest

from pdcode import problems
from pdcode.problems.matrix import Csr
from pdcode.util.errors import InputError

BASE = {"data": "synthetic", "samples": 500, "features": 12, "dtype": "float64"}


@pytest.mark.parametrize("condition", [1.0, 10.0, 1e6])
def test_least_squares_has_the_given_condition(condition):
    problem = problems.create(BASE | {"kind": "least-squares", "condition": condition})
    x = problem.dataset.x
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
    assert eigenvalues[-1] == pytest.approx(1)
    assert eigenvalues[-1] / eigenvalues[0] == pytest.approx(condition, rel=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_noise_is_the_deviation_of_the_residual(noise):
    problem = problems.create(BASE | {"kind": "least-squares", "noise": noise, "samples": 5000, "outputs": 2})
    data = problem.dataset
    residual = data.x @ problem.weights(problem.optimum, 0).T - data.y
    assert residual.std() == pytest.approx(noise, rel=0.03, abs=1e-12)
    assert problem.accuracy(problem.optimum) > 0.6
    assert 0.3 < data.y.var() < 10


@pytest.mark.parametrize("density", [0.05, 0.5])
def test_low_density_gives_csr(density):
    data = problems.load(
        problems.as_table(BASE | {"kind": "least-squares", "density": density, "features": 100})
    )
    x = data.x
    assert isinstance(x, Csr)
    assert (x.indptr.dtype, x.columns.dtype, x.data.dtype) == (np.int64, np.int32, np.float64)
    assert x.shape == (400, 101)
    assert x.indptr[-1] == len(x.data) == len(x.columns)
    assert len(x.data) / 400 == pytest.approx(1 + 100 * density, rel=0.1)
    dense = x.toarray()
    assert (dense[:, 100] == 1).all()
    assert np.count_nonzero(dense) == len(x.data)
    assert (x.columns[x.indptr[1:] - 1] == 100).all()


@pytest.mark.parametrize(
    ("kind", "outputs", "density", "classes"),
    [
        ("logistic", 1, 1, 2), ("softmax", 5, 1, 5), ("softmax", 3, 0.3, 3), ("mlp", 4, 1, 4),
        ("mlp", 1, 1, None), ("poisson", 2, 1, None),
    ],
)  # fmt: skip
def test_a_teacher_gives_labels_that_can_be_learnt(kind, outputs, density, classes):
    table = BASE | {"kind": kind, "outputs": outputs, "density": density, "condition": 1, "samples": 1000}
    problem = problems.create(table)
    assert problem.classes == classes
    sizes = {"parameters": problem.size, "rows": problem.rows}
    assert problems.synthetic_sizes(problem.table, 1) == sizes
    theta = problem.initial(0)
    plan = problem.plan(0)
    for _ in range(400):
        plan.gradient(theta, None)
        theta -= (0.5 if classes else 0.05) * plan.full_gradient
    assert problem.accuracy(theta) > 0.75


def test_data_are_keyed():
    one, two = (problems.load(problems.as_table(BASE | {"split_seed": seed})) for seed in (1, 1))
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.y, two.y)
    assert not np.array_equal(one.x, problems.load(problems.as_table(BASE | {"split_seed": 2})).x)


@pytest.mark.parametrize(
    ("kind", "outputs", "message"),
    [("softmax", 1, "problem.outputs: 1, but"), ("logistic", 3, "problem.outputs: 3, but")],
)
def test_outputs_must_fit_the_kind(kind, outputs, message):
    with pytest.raises(InputError, match=message):
        problems.create(BASE | {"kind": kind, "outputs": outputs})
