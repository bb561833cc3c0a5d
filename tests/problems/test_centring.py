"""Gradients of hidden layers by centred inputs: the definition, in every form, and what it is for."""

import numpy as np
import pytest
import reference
from test_problems_whitening import BASE, factors

from pdcode import problems
from pdcode.problems import sparse_codewords
from pdcode.problems.layers import LEAST_SHARE


def centred(inputs, errors, mean, kind, weight, steps):
    """The gradient by (a - μ, 1), whitened, and its bias as a step of the parameters themselves."""
    middle = np.concatenate([inputs[:, :-1] - mean, inputs[:, -1:]], axis=1)
    found = (
        weight * errors.T @ middle
        if kind == "none"
        else reference.whiten(middle, errors, kind, weight, steps)
    )
    found[:, -1] -= found[:, :-1] @ mean
    return found


@pytest.mark.parametrize("kind", ["none", "norm", "gram"])
@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize(("density", "batch"), [(1.0, 6), (0.2, 25), (1.0, 64)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_and_coded_derivative_are_those_of_the_definition(kind, axis, density, batch, dtype):
    problem = problems.create(BASE | {"axis": axis, "density": density, "dtype": dtype}, [8, 4, 1])
    theta, random = problem.initial(3), np.random.default_rng(1)
    dense = [random.standard_normal((2, layer.count)) for layer in problem.layers]
    dense[2] = np.ones((1, 1))
    words = [sparse_codewords(each, problem.dtype) for each in dense]
    plan = problem.plan(batch, [2, 2, 1], weight=1.5, whiten=[kind, 1, "auto", True])
    means, tolerance = (
        [np.zeros(layer.inputs) for layer in problem.layers],
        3e-10 if dtype == "float64" else 4e-4,
    )
    for count in range(3):
        rows = random.integers(0, problem.rows, batch)
        if count % 2:
            plan.gradient(theta, rows)
        else:
            plan.coded_derivative(theta, rows, words)
        parts = zip(problem.layers, *factors(problem, theta, rows), strict=True)
        for number, (layer, inputs, errors) in enumerate(parts):
            if number:
                means[number] += (inputs[:, :-1].mean(axis=0) - means[number]) / (count + 1)
                np.testing.assert_allclose(problem.state[f"mean {number}"], means[number], atol=tolerance)
            expected = centred(inputs, errors, means[number], kind, 1.5, 1)
            if count % 2:
                np.testing.assert_allclose(layer.weights(plan.full_gradient), expected, atol=tolerance)
                continue
            flat = np.zeros(problem.size)
            layer.weights(flat)[:] = expected
            combined = np.tensordot(dense[number], layer.split(flat), 1)
            view = plan.views[number].reshape(combined.shape)
            np.testing.assert_allclose(view, combined, atol=8 * tolerance)


def test_a_mean_forgets_old_batches():
    problem = problems.create(BASE | {"dtype": "float64"})
    plan, theta = problem.plan(32, whiten=["none", 1, "auto", True]), problem.initial(0)
    rows = np.arange(32)
    for _ in range(400):
        plan.gradient(theta, rows)
    old = problem.state["mean 1"].copy()
    assert problem.state["batches 1"] == [400]
    plan.gradient(2 * theta, rows)
    inputs, _ = factors(problem, 2 * theta, rows)
    new = old + LEAST_SHARE * (inputs[1][:, :-1].mean(axis=0) - old)
    np.testing.assert_allclose(problem.state["mean 1"], new, atol=1e-12)


def test_a_step_is_that_of_a_network_whose_hidden_inputs_are_centred():
    """A small step lowers the loss as the plain gradient does at weights W and bias b + Wμ."""
    problem = problems.create(BASE | {"dtype": "float64", "hidden": [12]})
    theta, rows = problem.initial(1), np.arange(64)
    plan = problem.plan(64, whiten=["none", 1, "auto", True])
    plan.gradient(theta, rows)
    step = plan.full_gradient.copy()
    plain = problem.plan(64)
    plain.gradient(theta, rows)
    mean, layer = problem.state["mean 1"], problem.layers[1]
    gradient = layer.weights(plain.full_gradient)
    inner = np.concatenate([gradient[:, :-1] - np.outer(gradient[:, -1], mean), gradient[:, -1:]], axis=1)
    slope = float(plain.full_gradient @ step)
    first = problem.layers[0].weights(plain.full_gradient)
    np.testing.assert_allclose(slope, np.square(inner).sum() + np.square(first).sum(), rtol=1e-10)
