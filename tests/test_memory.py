"""Error feedback: nothing of a gradient is lost."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdcode import codes, memory, problems


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(rows=st.sampled_from([1, 2, 3]), axis=st.sampled_from(["output", "input"]), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_what_is_sent_and_what_is_kept_add_up_to_all_gradients(
    dtype: str, rows: int, axis: str, seed: int
) -> None:
    table = {
        "kind": "mlp",
        "data": "digits",
        "hidden": [13],
        "axis": axis,
        "batch": 7,
        "dtype": dtype,
        "l2": 0.01,
    }
    problem = problems.create(table, blocks=[4, 1])
    plan = problem.plan(7, rows)
    respond = memory.create("worker", plan)
    code = codes.design("random", workers=12, blocks=4, weight=2, seed=seed)
    theta, rng = problem.initial(seed), np.random.default_rng(seed)
    gradients, sent = np.zeros(problem.size), np.zeros(problem.size)
    for task in range(4):
        batch = rng.integers(0, problem.rows, 7)
        indices, values = code.rows(task * rows, rows)
        loss = respond(
            theta, batch, [(np.ascontiguousarray(indices), np.ascontiguousarray(values, dtype)), (None, None)]
        )
        assert loss == pytest.approx(problem.plan(7, rows).gradient(theta, batch), rel=1e-5)
        gradients += problem.gradient(theta, batch)
        for layer, view in zip(problem.layers, plan.views, strict=True):
            dense = (
                code.matrix[np.arange(task * rows, (task + 1) * rows) % len(code)]
                if layer.count > 1
                else np.ones((1, 1))
            )
            blocks = np.einsum("rk,re->ke", dense, view.astype(np.float64))
            sent[layer.offset : layer.offset + layer.length] += blocks.reshape(-1)[: layer.length]
    tolerance = 1e-10 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(sent + respond.residual, gradients, atol=tolerance)
    assert np.linalg.norm(respond.residual) <= np.linalg.norm(gradients) * 4 + tolerance


def test_the_steady_state_allocates_no_arrays() -> None:
    problem = problems.create({"kind": "mlp", "data": "digits", "hidden": [256], "batch": 8}, blocks=[16, 1])
    plan = problem.plan(8, 2)
    respond = memory.create("worker", plan)
    words, theta = codes.design("net", workers=16, blocks=16, weight=4), problem.initial(1)
    pair = np.ascontiguousarray(words.indices[:2]), np.ascontiguousarray(words.values[:2], np.float32)
    batch = np.arange(8)
    respond(theta, batch, [pair, pair])
    tracemalloc.start()
    for _ in range(20):
        respond(theta, batch, [pair, pair])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16_384 < theta.nbytes


def test_without_memory_no_full_gradient_is_made() -> None:
    problem = problems.create({"data": "digits", "hidden": [16]}, blocks=8)
    plan = problem.plan(8, 1)
    assert memory.create("none", plan) == plan.coded_derivative
    assert "full_gradient" not in vars(plan)
