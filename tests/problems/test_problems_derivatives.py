"""Coded derivatives against blocks of the gradient, the gradient against central differences of the loss."""

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pdcode import problems
from pdcode.problems.dataset import Dataset
from pdcode.problems.matrix import Csr, with_ones
from pdcode.problems.samples import Statistics

ROWS, FEATURES = 12, 5


def csr(dense):
    row, column = np.nonzero(dense)
    indptr = np.searchsorted(row, np.arange(len(dense) + 1)).astype(np.int64)
    return Csr(indptr, column.astype(np.int32), dense[row, column], dense.shape[1])


def dataset(random, targets, dtype, sparse, rows=ROWS, counts=False):
    """Small random data: `targets` is a number of classes, or minus a number of real targets."""
    x = random.standard_normal((rows, FEATURES)) * (random.random((rows, FEATURES)) < (0.4 if sparse else 1))
    x = with_ones(csr(x.astype(dtype)) if sparse else x.astype(dtype))
    if targets > 0:
        y, labels = (np.arange(rows) % targets).astype(np.int32), np.arange(targets)
    else:
        y, labels = random.standard_normal((rows, -targets)).astype(dtype), None
        y = np.maximum(np.rint(2 * y), 0) if counts else y
    return Dataset((x, y), (x[:0], y[:0]), Statistics(labels))


@st.composite
def cases(draw):
    """A problem on random data, θ, a batch, and codewords for every layer."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["least-squares", "poisson", "logistic", "softmax", "mlp"]))
    targets = {"least-squares": -2, "poisson": -2, "logistic": 2, "softmax": 3}.get(kind) or draw(
        st.sampled_from([3, -1, -2])
    )
    hidden = draw(st.lists(st.integers(1, 6), max_size=3)) if kind == "mlp" else [7]
    layers = len(hidden) + 1 if kind == "mlp" else 1
    table = {
        "kind": kind,
        "hidden": hidden,
        "activation": draw(st.sampled_from(["relu", "tanh", "gelu"])),
        "axis": draw(
            st.lists(st.sampled_from(["auto", "output", "input"]), min_size=layers, max_size=layers)
        ),
        "l2": draw(st.sampled_from([0.0, 0.3])),
        "penalise_bias": draw(st.booleans()),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
    }
    blocks = draw(st.lists(st.integers(1, 9), min_size=layers, max_size=layers))
    data = dataset(random, targets, table["dtype"], draw(st.booleans()), counts=kind == "poisson")
    problem = problems.Problem.from_dataset(table, data, blocks)
    theta = random.normal(0, 0.5, problem.size).astype(problem.dtype)
    indices = draw(st.none() | st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=2 * ROWS))
    words = []
    for layer in problem.layers:
        r = draw(st.sampled_from([1, 2, 3]))
        word = random.standard_normal((r, layer.count)) * (random.random((r, layer.count)) < 0.6)
        words.append(np.ones((1, 1)) if layer.uncoded else word)
    return problem, theta, indices, words


def assert_close(actual, expected, dtype, scale):
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * max(scale, 1))


@given(cases())
def test_coded_derivative_is_the_combination_of_blocks_of_the_gradient(case):
    problem, theta, indices, words = case
    gradient = problem.gradient(theta, indices)
    payload = problem.coded_derivative(theta, indices, words)
    assert len(payload) == len(problem.layers)
    for layer, word, part in zip(problem.layers, words, payload, strict=True):
        blocks = layer.split(gradient)
        assert part.dtype == problem.dtype
        assert part.shape == (len(word), *layer.shape)
        assert_close(part, np.einsum("rk,kbm->rbm", word, blocks), problem.dtype, np.abs(gradient).max())


@given(cases())
def test_gradient_equals_central_differences_of_the_loss(case):
    problem, theta, indices, _ = case
    gradient = problem.gradient(theta, indices)
    rows = np.arange(ROWS) if indices is None else np.array(indices)
    # the same loss in float64, as a full batch over the rows of the batch
    data = problem.dataset
    y = data.y if problem.classes else data.y.astype(np.float64)
    x = data.x.astype(np.float64)
    batch = Dataset((x[rows], y[rows]), (x[:0], y[:0]), data.common)
    table = msgspec.to_builtins(problem.table) | {"dtype": "float64"}
    blocks = [layer.count for layer in problem.layers]
    double = problems.Problem.from_dataset(table, batch, blocks)
    step, theta = 1e-6, theta.astype(np.float64)
    if problem.table.activation == "relu":  # has no derivative at 0
        double.loss(theta)
        assume(all(np.abs(scores).min() > 1e-4 for scores in double._training._parts[0][0].scores[:-1]))
    differences = np.empty(problem.size)
    for i in range(problem.size):
        moved = theta.copy()
        moved[i] = theta[i] + step
        upper = double.loss(moved)
        moved[i] = theta[i] - step
        differences[i] = (upper - double.loss(moved)) / (2 * step)
    tolerance = 3e-5 if problem.dtype == np.float32 else 1e-7
    np.testing.assert_allclose(gradient, differences, rtol=tolerance, atol=tolerance)
    plan = problem.plan(0 if indices is None else len(rows))
    loss = plan.gradient(theta.astype(problem.dtype), rows)
    np.testing.assert_allclose(loss, double.loss(theta), rtol=tolerance, atol=tolerance)


@given(cases())
def test_axes_and_blocks_change_the_layout_of_theta_but_not_the_model(case):
    problem, theta, indices, _ = case
    table = msgspec.to_builtins(problem.table) | {"axis": "output"}
    other = problems.Problem.from_dataset(table, problem.dataset, 1)
    moved = np.empty_like(theta)
    for layer in range(len(problem.layers)):
        other.weights(moved, layer)[:] = problem.weights(theta, layer)
    tolerance = 1e-5 if problem.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(other.loss(moved), problem.loss(theta), rtol=tolerance, atol=tolerance)
    one, two = problem.gradient(theta, indices), other.gradient(moved, indices)
    for layer in range(len(problem.layers)):
        expected = other.weights(two, layer)
        assert_close(problem.weights(one, layer), expected, problem.dtype, np.abs(two).max())


def reference_loss(problem, theta):
    """The loss by its formula."""
    x = problem.dataset.x
    a = (x.toarray() if isinstance(x, Csr) else x).astype(np.float64)
    y = problem.dataset.y
    for number in range(len(problem.layers)):
        z = a @ problem.weights(theta, number).T.astype(np.float64)
        a = np.hstack([np.maximum(z, 0), np.ones((len(z), 1))])
    if problem.table.kind == "poisson":
        loss = (np.exp(z) - y * z + y * np.log(np.maximum(y, 1)) - y).sum(axis=1).mean()
    elif problem.classes is None:
        loss = 0.5 * np.square(z - y).sum(axis=1).mean()
    elif z.shape[1] == 1:
        loss = np.logaddexp(0, np.where(y == 1, -z[:, 0], z[:, 0])).mean()
    else:
        loss = (np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), y]).mean()
    penalised = theta.astype(np.float64)
    for number in range(0 if problem.table.penalise_bias else len(problem.layers)):
        problem.weights(penalised, number)[:, -1] = 0
    return loss + 0.5 * problem.table.l2 * np.square(penalised).sum()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("penalise_bias", [False, True])
@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("least-squares", -2), ("poisson", -2), ("logistic", 2), ("softmax", 4), ("mlp", 3), ("mlp", -1),
        ("mlp", 2),
    ],
)  # fmt: skip
def test_losses_equal_their_formulas(kind, targets, penalise_bias, sparse):
    random = np.random.default_rng(11)
    data = dataset(random, targets, "float64", sparse, counts=kind == "poisson")
    problem = problems.Problem.from_dataset(
        {"kind": kind, "dtype": "float64", "l2": 0.1, "penalise_bias": penalise_bias, "hidden": [4, 3]}, data
    )
    theta = random.standard_normal(problem.size)
    assert problem.loss(theta) == pytest.approx(reference_loss(problem, theta), rel=1e-12)


def test_an_uncoded_layer_takes_any_scalar_codewords():
    data = dataset(np.random.default_rng(0), 3, "float64", False)
    problem = problems.Problem.from_dataset({"kind": "softmax", "dtype": "float64"}, data)
    theta = problem.initial(0)
    (payload,) = problem.coded_derivative(theta, None, [[[2.0], [-1.0]]])
    gradient = problem.blocks(0).split(problem.gradient(theta))
    np.testing.assert_allclose(payload, np.array([2, -1])[:, None, None] * gradient)
    (payload,) = problem.coded_derivative(theta, None, [None])
    np.testing.assert_allclose(payload, gradient)
