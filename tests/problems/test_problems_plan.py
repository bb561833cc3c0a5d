"""Plans: no allocation in the steady state, no full gradient, payloads in place."""

import tracemalloc

import numpy as np
import pytest
from allocations import allocated

from pdcode import problems
from pdcode.problems import payload_layout, sparse_codewords

BASE = {"data": "synthetic", "samples": 400, "features": 60, "outputs": 5, "l2": 0.1, "kind": "mlp"}


def codewords_of(problem, r, weight=3, seed=0):
    random = np.random.default_rng(seed)
    words = []
    for layer in problem.layers:
        dense = np.zeros((r, layer.count))
        for row in dense:
            support = random.choice(layer.count, min(weight, layer.count), replace=False)
            row[support] = random.standard_normal(len(support))
        words.append(np.ones((1, 1)) if layer.uncoded else dense)
    return words, [None if len(w) == 1 == w.size else sparse_codewords(w, problem.dtype) for w in words]


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("density", [1.0, 0.2])
@pytest.mark.parametrize("batch", [0, 64])
@pytest.mark.parametrize("r", [1, 3])
def test_steady_state_allocates_no_arrays(axis, density, batch, r):
    table = BASE | {"axis": axis, "density": density, "hidden": [50, 40]}
    problem = problems.create(table, [8, 8, 1])
    plan = problem.plan(batch, r)
    theta = problem.initial(0)
    indices = np.random.default_rng(0).integers(0, problem.rows, batch or 1)
    _, words = codewords_of(problem, r)
    for _ in range(3):
        plan.coded_derivative(theta, indices, words)
    left, peak = allocated(lambda: plan.coded_derivative(theta, indices, words), 50)
    assert left < 1024  # no growth
    assert peak < 4096  # views and floats only: most buffers are of 8 KB and more
    assert "full_gradient" not in vars(plan)


@pytest.mark.parametrize("density", [1.0, 0.1])
def test_no_full_gradient_of_a_coded_layer_is_formed(density):
    table = {
        "kind": "least-squares",
        "data": "synthetic",
        "samples": 50,
        "features": 3000,
        "density": density,
    }
    problem = problems.create(table | {"outputs": 300, "axis": "output", "l2": 1e-3}, 30)
    theta = problem.initial(0)
    _, words = codewords_of(problem, 1)
    tracemalloc.start()
    try:
        plan = problem.plan(16, 1)
        plan.coded_derivative(theta, np.arange(16), words)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < problem.size * problem.dtype.itemsize / 5


def test_plan_writes_into_the_buffer_that_it_is_given():
    problem = problems.create(BASE | {"hidden": [17]}, [4, 1])
    offsets, size = payload_layout(problem.layers, [3, 1], problem.dtype)
    message = np.full(size + 8, np.nan, np.float32)
    plan = problem.plan(32, 3, payload=message[8:])
    assert (plan.offsets, plan.payload_size) == (offsets, size)
    dense, words = codewords_of(problem, 3)
    theta, indices = problem.initial(1), np.arange(32)
    loss = plan.coded_derivative(theta, indices, words)
    expected = problem.coded_derivative(theta, indices, dense)
    for layer, view, part, start in zip(problem.layers, plan.views, expected, offsets, strict=True):
        rows = 1 if layer.uncoded else 3
        assert view.shape == (rows, layer.elements)
        np.testing.assert_array_equal(view.reshape(part.shape), part)
        np.testing.assert_array_equal(message[8 + start :][: view.size], view.ravel())
    assert np.isfinite(message[8:]).all()  # the gaps too
    assert loss == plan.gradient(theta, indices)


def test_layers_may_send_different_numbers_of_codewords():
    problem = problems.create(BASE | {"hidden": [17, 9]}, [4, 3, 1])
    counts = [3, 2, 1]
    plan = problem.plan(32, counts)
    dense = [words[:r] for words, r in zip(codewords_of(problem, 3)[0], counts, strict=True)]
    theta, indices = problem.initial(1), np.arange(32)
    plan.coded_derivative(theta, indices, [sparse_codewords(words, problem.dtype) for words in dense])
    expected = problem.coded_derivative(theta, indices, dense)
    for r, view, part in zip(counts, plan.views, expected, strict=True):
        assert len(view) == r
        np.testing.assert_array_equal(view.reshape(part.shape), part)


def test_theta_may_change_in_place_or_be_another_array():
    problem = problems.create(BASE | {"hidden": [8]}, [4, 1])
    plan, theta, rows = problem.plan(0), problem.initial(0), None
    first = plan.gradient(theta, rows)
    theta *= 2
    changed = plan.gradient(theta, rows)
    assert changed != first
    assert plan.gradient(problem.initial(0), rows) == first
    assert plan.gradient(theta, rows) == changed


def test_wrong_arguments_are_refused():
    problem = problems.create(BASE | {"hidden": [8]}, [4, 1])
    theta, (_, words) = problem.initial(0), codewords_of(problem, 2)
    plan = problem.plan(8, 2)
    with pytest.raises(ValueError, match="θ must be a contiguous float32"):
        plan.coded_derivative(theta.astype(np.float64), np.arange(8), words)
    with pytest.raises(ValueError, match="a batch of 8 rows"):
        plan.coded_derivative(theta, np.arange(7), words)
    with pytest.raises(ValueError, match="layer 0 needs 2 codewords"):
        plan.coded_derivative(theta, np.arange(8), [(words[0][0][:1], words[0][1][:1]), None])
    with pytest.raises(ValueError, match="the payload must be"):
        problem.plan(8, 2, payload=np.empty(3, np.float32))
    dense, _ = codewords_of(problem, 2)
    for bad, message in [
        ((theta[:-1], None, dense), "θ has shape"),
        ((theta, [problem.rows], dense), "indices run from"),
        ((theta, [-1], dense), "indices run from"),
        ((theta, [0.5], dense), "whole numbers"),
        ((theta, [], dense), "whole numbers"),
        ((theta, None, dense[:1]), "1 given, but there are 2 layers"),
        ((theta, None, [np.ones((1, 5)), None]), "codewords of layer 0 have shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            problem.coded_derivative(*bad)
