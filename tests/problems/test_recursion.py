"""Errors that go through the blocks of codewords alone, against a backward pass with masks in numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_problems_derivatives import assert_close, dataset

from pdcode import codes, problems
from pdcode.config import load
from pdcode.schemes.common.assignments import Rotating
from pdcode.util.errors import InputError
from pdcode.virtual.simulation import simulate

ACTIVATIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
}


def build(table, data, blocks):
    return problems.Problem.from_dataset({"kind": "mlp", "recursive": True, **table}, data, blocks)


def masked(problem, theta, words):
    """Coded derivatives of squared losses of all rows, by a backward pass in which other blocks are zero."""
    act, slope = ACTIVATIONS[problem.table.activation]
    inputs, scores = [problem.dataset.x.astype(float)], []
    for layer in problem.layers:
        scores.append(inputs[-1] @ layer.weights(theta).astype(float).T)
        inputs.append(np.column_stack([act(scores[-1]), np.ones(len(scores[-1]))]))
    error = (scores[-1] - problem.dataset.y) / len(problem.dataset.y)
    payload = []
    for number in range(len(words) - 1, -1, -1):
        layer, word = problem.layers[number], words[number]
        gradient = np.zeros(problem.size)
        layer.weights(gradient)[...] = error.T @ inputs[number]
        payload.insert(0, np.einsum("rk,kbm->rbm", word, layer.split(gradient)))
        if layer.axis == "output" and not layer.uncoded:
            used = (word != 0).any(axis=0)
            units = np.repeat(used, layer.size)[: layer.rows]
            error = error * units * (layer.count / max(1, used.sum()))
        if number:
            error = (error @ layer.weights(theta)[:, :-1].astype(float)) * slope(scores[number - 1])
    return payload


@st.composite
def cases(draw):
    """A network with squared losses, θ, and sparse codewords for every layer."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    hidden = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    axes = draw(st.lists(st.sampled_from(["output", "input"]), min_size=len(hidden) + 1, max_size=4))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    table = {"hidden": hidden, "axis": axes[: len(hidden) + 1], "dtype": dtype}
    table["activation"] = draw(st.sampled_from(["relu", "tanh"]))
    blocks = draw(st.lists(st.integers(1, 7), min_size=len(hidden) + 1, max_size=len(hidden) + 1))
    problem = build(table, dataset(random, -3, dtype, False), blocks)
    words = []
    for layer in problem.layers:
        word = random.standard_normal((2, layer.count)) * (random.random((2, layer.count)) < 0.5)
        words.append(np.ones((1, 1)) if layer.uncoded else word)
    return problem, random.normal(0, 0.5, problem.size).astype(dtype), words


@given(cases())
def test_errors_of_other_blocks_are_left_out_above_a_layer(case):
    problem, theta, words = case
    payload = problem.coded_derivative(theta, None, words)
    for part, expected in zip(payload, masked(problem, theta, words), strict=True):
        assert_close(part, expected, problem.dtype, np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_codewords_of_all_blocks_give_the_coded_gradient_bit_for_bit(dtype):
    random = np.random.default_rng(1)
    data, table = dataset(random, 3, dtype, False), {"hidden": [8, 6], "axis": "output", "dtype": dtype}
    both = [build({**table, "recursive": recursive}, data, [4, 3, 3]) for recursive in (True, False)]
    theta = random.normal(0, 0.5, both[0].size).astype(dtype)
    words = [random.standard_normal((2, layer.count)) for layer in both[0].layers]
    for one, other in zip(*(each.coded_derivative(theta, None, words) for each in both), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(*(each.gradient(theta) for each in both))


def test_one_hidden_layer_below_an_uncoded_one_is_exact():
    random = np.random.default_rng(2)
    problem = build(
        {"hidden": [12], "axis": "output", "dtype": "float64"}, dataset(random, 3, "float64", False), [6, 1]
    )
    theta, word = random.normal(0, 0.5, problem.size), np.array([[0, 0.6, 0, 0, 0.8, 0]])
    gradient = problem.gradient(theta)
    first, last = problem.coded_derivative(theta, None, [word, np.ones((1, 1))])
    below, above = (layer.split(gradient) for layer in problem.layers)
    np.testing.assert_allclose(first[0], 0.6 * below[1] + 0.8 * below[4], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(last, above, rtol=1e-12, atol=1e-15)


def test_the_mean_over_independent_blocks_is_the_gradient():
    random = np.random.default_rng(3)
    problem = build(
        {"hidden": [6, 4], "axis": "output", "dtype": "float64"},
        dataset(random, -3, "float64", False),
        [3, 4, 3],
    )
    theta = random.normal(0, 0.5, problem.size)
    counts, total = [layer.count for layer in problem.layers], np.zeros(problem.size)
    for chosen in np.ndindex(*counts):
        words = [np.eye(k)[[j]] for k, j in zip(counts, chosen, strict=True)]
        parts = problem.coded_derivative(theta, None, words)
        for layer, word, part in zip(problem.layers, words, parts, strict=True):
            decoded = np.einsum("rk,rbm->kbm", word, part).reshape(-1, layer.width)[: layer.rows]
            layer.matrix(total)[...] += layer.count * decoded
    np.testing.assert_allclose(total / np.prod(counts), problem.gradient(theta), rtol=1e-9, atol=1e-12)


def test_layers_of_as_many_blocks_have_independent_codewords():
    data = dataset(np.random.default_rng(4), 3, "float32", False)
    problem = build({"hidden": [8, 8], "axis": "output"}, data, [8, 8, 1])
    rows = [1, 1, 1]
    code = {8: codes.design("uncoded", 8, 8)}

    def equal(apart):
        turns = Rotating(problem.layers, rows, problem.dtype, code, seed=1, apart=apart)
        words = [turns.codewords(turns.row(0)) for _ in range(4000)]
        return np.mean([first[0].item() == second[0].item() for first, second, _ in words])

    assert equal(False) == 1
    assert equal(True) == pytest.approx(1 / 8, abs=0.03)


@pytest.mark.parametrize("memory", ["none", "coordinator"])
def test_runs_end_on_the_virtual_clock_at_fewer_flops(memory):
    def run(recursive):
        tables = {
            "problem": {"kind": "mlp", "hidden": [256, 256], "axis": "output", "recursive": recursive},
            "scheme": {"name": "lwpd"},
            "code": {"family": "net", "blocks": [16, 16, 1], "weight": 2, "whiten": "none"},
            "memory": {"kind": memory},
            "optimizer": {"rate": 0.05},
            "stop": {"updates": 30},
        }
        return simulate(load.resolve(tables))

    fast, slow = run(True), run(False)
    assert np.isfinite(fast.loss)
    assert fast.updates == 30
    assert (fast.task_ns < slow.task_ns).all()


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ({"memory": {"kind": "worker"}}, "memory.kind"),
        ({"code": {"whiten": "norm"}}, "code.whiten"),
        ({"code": {"family": "matched"}}, "code.family"),
        ({"scheme": {"name": "uncoded"}}, "scheme.name"),
        ({"problem": {"kind": "softmax", "recursive": True}}, "problem.recursive"),
    ],
)
def test_keys_that_need_whole_errors_are_refused(tables, named):
    base = {"problem": {"recursive": True}, "memory": {"kind": "none"}, "scheme": {"name": "lwpd"}}
    with pytest.raises(InputError, match=named):
        load.resolve({**base, **tables})
