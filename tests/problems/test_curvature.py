"""Bounds on the curvature of linear models."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.problems import create, curvature
from pdcode.problems.files import as_csr


@given(st.integers(1, 40), st.integers(1, 30), st.integers(-3, 3), st.integers(0, 2**32 - 1), st.booleans())
def test_it_is_a_bound_close_to_the_largest_eigenvalue(rows, width, scale, seed, sparse):
    from scipy.sparse import csr_matrix

    random = np.random.default_rng(seed)
    dense = random.standard_normal((rows, width)) * 10.0 ** random.uniform(-abs(scale), scale + 1, width)
    dense *= random.random((rows, width)) < 0.7
    found = curvature.of_linear(as_csr(csr_matrix(dense)) if sparse else dense, 0.25, 0.1)
    largest = 0.25 * float(np.linalg.norm(dense, 2)) ** 2 / rows + 0.1
    assert 0.95 * largest <= found.mean <= 1.1 * largest  # the shortfall is added in the mean
    assert found.row == pytest.approx(0.25 * np.square(dense).sum(axis=1).max() + 0.1)


@pytest.mark.parametrize("kind", ["least-squares", "logistic"])
def test_gradients_do_not_change_faster(kind: str) -> None:
    data = {"least-squares": "diabetes", "logistic": "breast-cancer"}[kind]
    problem = create({"kind": kind, "data": data, "standardise": True, "l2": 0.01, "dtype": "float64"})
    random, bound = np.random.default_rng(0), problem.curvature
    assert bound is not None
    for size in (1e-3, 1.0):
        theta, step = random.standard_normal(problem.size), size * random.standard_normal(problem.size)
        change = problem.gradient(theta + step) - problem.gradient(theta)
        assert np.linalg.norm(change) <= bound.mean * np.linalg.norm(step)


def test_networks_and_counts_have_none() -> None:
    assert create({"kind": "mlp", "data": "digits"}).curvature is None
    assert create({"kind": "poisson", "data": "digits"}).curvature is None


@pytest.mark.parametrize(
    ("table", "near"),
    [
        ({"kind": "softmax", "data": "digits"}, True),
        ({"kind": "mlp", "data": "digits"}, True),
        ({"kind": "logistic", "data": "breast-cancer", "standardise": False}, False),
        ({"kind": "logistic", "data": "breast-cancer"}, True),
        ({"kind": "logistic", "data": "breast-cancer", "standardise": True}, True),
        ({"kind": "least-squares", "data": "diabetes"}, False),
    ],
)
def test_the_loss_of_linear_classifiers_is_near_zero_if_a_descent_gets_there(table, near):
    assert create(table).near_zero is near


def test_a_loss_that_is_small_as_a_class_is_rare_is_not_near_zero(tmp_path) -> None:
    random = np.random.default_rng(4)
    y = (random.random(2000) < 0.04).astype(np.int64)  # their entropy is .17, a fourth of ln 2
    x = random.standard_normal((2000, 10)) + 0.8 * y[:, None]
    for name, labels in (("rare", y), ("told", (x.sum(axis=1) > 6).astype(np.int64))):
        np.savez(tmp_path / f"{name}.npz", x=x, y=labels)
        problem = create({"kind": "logistic", "data": str(tmp_path / f"{name}.npz")})
        assert problem.near_zero is (name == "told")
