"""Whitened gradients equal the definition on full matrices, in every form, and cost no allocation."""

import numpy as np
import pytest
import reference
from allocations import allocated

from pdcode import problems
from pdcode.problems import sparse_codewords, whitening
from pdcode.problems.whitening import Whitening
from pdcode.transport.units import Blocks

BASE = {"kind": "mlp", "data": "synthetic", "samples": 300, "features": 40, "outputs": 5}
BASE |= {"hidden": [30, 20], "task": "regression"}


def factors(problem, theta, batch):
    """The inputs (B, d + 1) and errors (B, k) of each layer, from the definitions."""
    x, y = problem.dataset.x, problem.dataset.y
    dense = (x if isinstance(x, np.ndarray) else x.toarray())[batch].astype(float)
    inputs, scores = [dense], []
    for layer in range(len(problem.layers)):
        scores.append(inputs[-1] @ problem.weights(theta.astype(float), layer).T)
        hidden = np.maximum(scores[-1], 0)
        inputs.append(np.concatenate([hidden, np.ones((len(batch), 1))], axis=1))
    delta = (scores[-1] - y[batch]) / len(batch)
    errors = [delta]
    for layer in range(len(problem.layers) - 1, 0, -1):
        delta = (delta @ problem.weights(theta.astype(float), layer)[:, :-1]) * (scores[layer - 1] > 0)
        errors.insert(0, delta)
    return inputs[:-1], errors


@pytest.mark.parametrize(
    "whitening", [["norm"], ["gram"], ["gram", 1, "factors"], ["gram", 4], ["gram", 2, "factors"]]
)
@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("density", [1.0, 0.2])
@pytest.mark.parametrize("batch", [6, 25, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_and_coded_derivative_are_those_of_the_definition(whitening, axis, density, batch, dtype):
    """By 6 samples in all layers but the last; by outputs of 64, or where it is formed by the gradient."""
    kind, steps = whitening[0], (*whitening, 1)[1]
    problem = problems.create(
        BASE | {"axis": axis, "density": density, "dtype": dtype, "l2": 0.01}, [8, 4, 1]
    )
    theta, rows = problem.initial(3), np.random.default_rng(1).integers(0, problem.rows, batch)
    random = np.random.default_rng(2)
    dense = [random.standard_normal((2, layer.count)) for layer in problem.layers]
    dense[2] = np.ones((1, 1))
    plan = problem.plan(batch, [2, 2, 1], weight=1.5, whiten=whitening)
    plain = problem.plan(batch, [2, 2, 1], weight=1.5)
    assert plan.gradient(theta, rows) == plain.gradient(theta, rows)
    plan.coded_derivative(theta, rows, [sparse_codewords(each, problem.dtype) for each in dense])
    tolerance = 2e-10 if dtype == "float64" else 2e-4
    for number, (layer, inputs, errors) in enumerate(
        zip(problem.layers, *factors(problem, theta, rows), strict=True)
    ):
        expected = reference.whiten(inputs, errors, kind, 1.5, steps)
        expected[:, :-1] += 1.5 * 0.01 * problem.weights(theta, number)[:, :-1]
        np.testing.assert_allclose(layer.weights(plan.full_gradient), expected, atol=tolerance)
        flat = np.zeros(problem.size)
        layer.weights(flat)[:] = expected
        combined = np.tensordot(dense[number], layer.split(flat), 1)
        np.testing.assert_allclose(plan.views[number].reshape(combined.shape), combined, atol=8 * tolerance)


@pytest.mark.parametrize("kind", ["norm", "gram"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_steps_shrink_with_a_small_loss_if_the_least_is_near_zero(kind, task):
    """Scores in the direction of the targets, longer and longer, have all losses down to none."""
    problem = problems.create(BASE | {"task": task, "hidden": []})
    (layer,), x, y = problem.layers, problem.dataset.x, problem.dataset.y
    theta = problem.initial(0)
    scores = x @ layer.weights(theta).T
    y[:] = scores if task == "regression" else scores.argmax(axis=1)
    zero = np.square(y).sum(axis=1).mean() / 2 if task == "regression" else np.log(5)
    plan, plain, rows, shares = (
        problem.plan(64, whiten=[kind]),
        problem.plan(64, whiten=[kind]),
        np.arange(64),
        [],
    )
    plain._whitened.clear()  # steps of one length
    for scale in (0.0, 0.3, 0.9, 0.97, 10.0, 1000.0)[: 4 if task == "regression" else 6]:
        point = np.float32(scale) * theta
        shares.append(50 * plan.gradient(point, rows) / zero)
        plain.gradient(point, rows)
        expected = (min(1, shares[-1]) if problem.model.near_zero else 1) * plain.full_gradient
        np.testing.assert_allclose(plan.full_gradient, expected, rtol=1e-5, atol=1e-9)
    assert shares[0] > 1 > shares[-1]


def test_the_form_with_fewer_flops_is_taken():
    wide, narrow = Blocks(0, "output", 8, 256, 785, 0), Blocks(0, "output", 1, 10, 257, 0)
    assert whitening.form_of(wide, 32, 785) == "samples"
    assert whitening.form_of(narrow, 32, 257) == "outputs"
    assert whitening.form_of(wide, 1000, 785) == "outputs"
    tall = Blocks(0, "input", 1, 785, 10, 0)
    for blocks, batch in ((wide, 320), (narrow, 32), (tall, 32)):
        assert whitening.form_of(blocks, batch, blocks.inputs + 1, formed=True) == "gradient"
    assert whitening.form_of(wide, 64, 785, formed=True) == "samples"
    assert whitening.form_of(tall, 32, 785, Whitening(form="factors"), formed=True) == "outputs"


@pytest.mark.parametrize("batch", [6, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_values_come_together(batch, dtype):
    """One step from X multiplies the small ones by almost 3.44, and takes 1 to 0.70."""
    problem = problems.create(BASE | {"dtype": dtype})
    theta, rows = problem.initial(3), np.arange(batch)
    spread = {}
    for kind in ("norm", "gram"):
        plan = problem.plan(batch, whiten=[kind])
        plan.gradient(theta, rows)
        matrix = problem.layers[0].weights(plan.full_gradient)
        spread[kind] = np.linalg.svd(matrix, compute_uv=False)[: min(batch, 30)]
    assert np.linalg.norm(spread["norm"]) == pytest.approx(1, rel=1e-4)
    a, b, c = whitening.COEFFICIENTS
    norm = spread["norm"]
    expected = np.sort(a * norm + b * norm**3 + c * norm**5)[::-1]
    np.testing.assert_allclose(np.sort(spread["gram"])[::-1], expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["norm", "gram"])
@pytest.mark.parametrize("batch", [6, 64])
def test_a_gradient_of_zero_stays_zero_and_one_out_of_range_is_not_hidden(kind, batch):
    problem = problems.create(BASE | {"noise": 0.0, "hidden": []})
    plan = problem.plan(batch, [1], whiten=[kind])
    rows, words = np.arange(batch), [None]
    theta = problem.initial(0)
    problem.dataset.y[:] = 0
    for turn in (
        lambda: plan.gradient(0 * theta, rows),
        lambda: plan.coded_derivative(0 * theta, rows, words),
    ):
        turn()
        assert not plan.full_gradient.any()
        assert not plan.payload.any()
    for broken in (np.full_like(theta, np.nan), np.full_like(theta, 1e30)):
        with np.errstate(all="ignore"):
            plan.gradient(broken, rows)
            plan.coded_derivative(broken, rows, words)
        assert not np.isfinite(plan.full_gradient).all()
        assert not np.isfinite(plan.payload).all()


def test_a_direction_lost_in_rounding_is_not_chosen():
    """Samples whose gradients cancel to the last bits: their sum is not made a step of full length."""
    problem = problems.create(BASE | {"hidden": []})
    problem.dataset.x[:] = np.float32(1 / 3)
    problem.dataset.y[:6] = np.array([1, -1, 1, -1, 1 + 1e-7, -1], np.float32)[:, None]
    plan = problem.plan(6, whiten=["gram"])
    plan._layers[0]._form = plan._layers[0]._form_if_formed = "samples"  # the layer is narrow
    plan._layers[0].attach(plan._deltas[0], 1, np.empty((plan._layers[0].blocks.size, 7), np.float32))
    plan.gradient(np.zeros(problem.size, np.float32), np.arange(6))
    assert not plan.full_gradient.any()


@pytest.mark.parametrize("whitening", [["norm"], ["gram"], ["gram", 3]])
@pytest.mark.parametrize("density", [1.0, 0.2])
@pytest.mark.parametrize("batch", [0, 32])
def test_steady_state_allocates_no_arrays(whitening, density, batch):
    problem = problems.create(BASE | {"density": density, "hidden": [50, 40]}, [8, 8, 1])
    plan = problem.plan(batch, 1, whiten=whitening)
    theta, indices = problem.initial(0), np.arange(batch or 1)
    words = [sparse_codewords(np.eye(1, layer.count), problem.dtype) for layer in problem.layers]

    def turn():
        plan.coded_derivative(theta, indices, words)
        plan.gradient(theta, indices)

    for _ in range(3):
        turn()
    left, peak = allocated(turn, 20)
    assert left < 1024
    assert peak < 4096 <= 32 * 32 * 4


@pytest.mark.parametrize("kind", ["norm", "gram"])
def test_steps_are_as_long_as_the_errors_of_scaled_targets(kind):
    problem = problems.create(BASE | {"standardise_targets": True, "dtype": "float64"})
    plan, plain = (problem.plan(64, whiten=[kind]) for _ in range(2))
    plain._factor = lambda loss: 1.0
    zero, rows, shares = problem.dataset.common.loss_unit * 5 / 2, np.arange(64), []
    for scale in (3.0, 1.0, 0.3, 0.0):
        theta = scale * problem.initial(1)
        for layer in problem.layers:
            layer.biases(theta)[:] = 0.01  # no gradient is zero
        shares.append(plan.gradient(theta, rows) / zero)
        plain.gradient(theta, rows)
        expected = np.sqrt(min(1, shares[-1])) * plain.full_gradient
        np.testing.assert_allclose(plan.full_gradient, expected, rtol=1e-5, atol=1e-9)
    assert max(shares) > 1 > min(shares)
