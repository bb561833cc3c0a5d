"""What a Problem says about itself, its start, its accuracy and its optimum."""

from pathlib import Path

import numpy as np
import pytest
from outcomes import refused

import pdcode
from pdcode import problems


def test_default_problem_is_an_mlp_on_digits():
    problem = problems.create({}, blocks=[16, 1])
    assert problem.size == 64 * 65 + 10 * 65
    assert problem.dtype == np.float32
    assert problem.classes == 10
    assert problem.rows + len(problem.dataset.test_x) == 1797
    assert [layer.count for layer in problem.layers] == [16, 1]
    assert problem.blocks(1).uncoded
    assert problem.initial(3).dtype == np.float32
    assert problem.loss(problem.initial(3)) == pytest.approx(np.log(10), rel=0.5)


def test_gradient_descent_learns_digits():
    problem = problems.create({"hidden": [32], "l2": 1e-4})
    theta = problem.initial(0)
    plan, random = problem.plan(64), np.random.default_rng(0)
    for _ in range(600):
        plan.gradient(theta, random.integers(0, problem.rows, 64))
        theta -= 0.5 * plan.full_gradient
    assert problem.accuracy(theta) > 0.95
    assert problem.loss(theta) < 0.15


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_initial_is_keyed_scaled_and_independent_of_the_layout(activation):
    table = {"hidden": [200, 100], "activation": activation}
    one = problems.create(table | {"axis": "output"}, 4)
    two = problems.create(table | {"axis": "input"}, [1, 8, 2])
    start, other = one.initial(5), two.initial(5)
    for layer in range(3):
        weights = one.weights(start, layer)
        np.testing.assert_array_equal(weights, two.weights(other, layer))
        assert not weights[:, -1].any()
        outputs, inputs = weights.shape[0], weights.shape[1] - 1
        rectified = layer < 2 and activation != "tanh"
        expected = 2 / inputs if rectified else 2 / (inputs + outputs)
        assert weights[:, :-1].var() == pytest.approx(expected, rel=0.15)
    assert not np.array_equal(start, one.initial(6))
    np.testing.assert_array_equal(start, one.initial(5))


@pytest.mark.parametrize("density", [1.0, 0.3])
@pytest.mark.parametrize("l2", [0.0, 0.01])
@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("penalise_bias", [False, True])
def test_optimum_is_the_exact_minimiser(density, l2, axis, penalise_bias):
    table = {
        "kind": "least-squares", "data": "synthetic", "dtype": "float64", "outputs": 2, "samples": 300,
        "features": 15, "density": density, "l2": l2, "axis": axis, "condition": 1e4,
        "penalise_bias": penalise_bias,
    }  # fmt: skip
    problem = problems.create(table, 4)
    assert np.abs(problem.gradient(problem.optimum)).max() < 1e-13
    x = problem.dataset.x
    x = x if density == 1 else x.toarray()
    hessian = x.T @ x / len(x) + l2 * np.diag([1] * 15 + [penalise_bias])
    expected = np.linalg.solve(hessian, x.T @ problem.dataset.y / len(x)).T
    np.testing.assert_allclose(problem.weights(problem.optimum, 0), expected, rtol=1e-6, atol=1e-9)
    assert problem.loss(problem.optimum) < problem.loss(problem.optimum + 1e-3)


def test_optimum_of_fewer_rows_than_features_has_least_norm():
    table = {"kind": "least-squares", "data": "synthetic", "samples": 10, "features": 30, "dtype": "float64"}
    problem = problems.create(table)
    x, y = problem.dataset.x, problem.dataset.y
    expected = np.linalg.lstsq(x, y, rcond=None)[0].ravel()
    np.testing.assert_allclose(problem.optimum, expected, atol=1e-10)
    assert problems.create({"kind": "softmax"}).optimum is None


def test_accuracy_counts_right_classes_of_the_test_rows():
    for table in ({"kind": "softmax"}, {"kind": "logistic", "data": "breast-cancer", "standardise": True}):
        problem = problems.create(table)
        theta = problem.initial(2)
        data = problem.dataset
        scores = data.test_x @ problem.weights(theta, 0).T
        predicted = scores.argmax(axis=1) if table["kind"] == "softmax" else scores[:, 0] > 0
        assert problem.accuracy(theta) == pytest.approx(np.mean(predicted == data.test_y))


def test_accuracy_of_real_targets_is_r_squared():
    problem = problems.create({"kind": "least-squares", "data": "diabetes", "dtype": "float64"})
    data = problem.dataset
    residual = data.test_x @ problem.optimum[:, None] - data.test_y
    expected = 1 - np.square(residual).sum() / np.square(data.test_y - data.test_y.mean()).sum()
    assert problem.accuracy(problem.optimum) == pytest.approx(expected)
    assert 0.3 < expected < 0.7


def test_evaluation_uses_no_more_rows_than_asked_for():
    few = problems.create({"evaluate": 50, "kind": "softmax", "dtype": "float64"})
    theta = few.initial(0)
    few.loss(theta), few.accuracy(theta)
    assert few._training._parts[0][0].count == few._testing._parts[0][0].count == 50
    full = problems.create({"kind": "softmax", "dtype": "float64"})
    assert few.loss(theta) == pytest.approx(full.loss(theta), rel=0.2)
    rows = np.arange(50) * few.rows // 50
    assert few.loss(theta) == pytest.approx(few.plan(50).gradient(theta, rows))


def test_without_test_rows_accuracy_is_that_of_the_training_rows():
    problem = problems.create({"kind": "softmax", "test_fraction": 0})
    assert problem.rows == 1797
    theta = problem.initial(0)
    scores = problem.dataset.x @ problem.weights(theta, 0).T
    assert problem.accuracy(theta) == pytest.approx(np.mean(scores.argmax(axis=1) == problem.dataset.y))


def test_hidden_is_ignored_by_linear_models():
    assert len(problems.create({"kind": "softmax", "hidden": [3, 3]}).layers) == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kinds": "mlp"}, "problem.kinds: unknown key (value 'mlp'); known: kind (mlp), data"),
        ({"kind": "lasso"}, "problem.kind: expected one of least-squares, logistic, softmax"),
        ({"batch": -1}, "problem.batch: expected integer >= 0 (got -1)"),
        ({"hidden": [0]}, "problem.hidden: expected integer >= 1 (got [0])"),
        ({"kind": "logistic"}, "problem.kind: 'logistic' needs two classes, but 'digits' has 10"),
    ],
)
def test_bad_tables_are_refused(table, message):
    with refused(message):
        problems.create(table)


def test_a_run_starts_from_the_theta_of_another(tmp_path: Path) -> None:
    """Also at the replicas of θ that workers have."""
    config = {"problem": {"hidden": [8]}, "stop": {"updates": 20}, "scheme": {"preset": "default"}}
    first = pdcode.simulate(config, output=tmp_path / "a.h5", progress=False)
    init = {"problem.init": str(tmp_path / "a.h5")}
    second = pdcode.simulate(config, output=tmp_path / "b.h5", set=init, progress=False)
    assert second.progress["loss"][0] == first.progress["loss"][-1]
    assert np.array_equal(second.replay(progress=False), second.theta)
    np.savez(tmp_path / "a.npz", **first.model().weights)
    for path in ("a.h5", "a.npz"):
        other = {"problem.init": str(tmp_path / path), "problem.axis": ["input", "output"]}
        third = pdcode.simulate(config, output=tmp_path / "b.h5", set=other, progress=False)
        assert third.progress["loss"][0] == pytest.approx(first.progress["loss"][-1], rel=1e-5)
    np.save(tmp_path / "c.npy", first.theta[:-1])
    np.savez(tmp_path / "c.npz", **first.model().weights | {"0.bias": np.zeros(7)})
    for path, message in (("c.npy", "θ has shape"), ("c.npz", r"not .*10,"), ("none.h5", "no such file")):
        init = {"problem.init": str(tmp_path / path)}
        with pytest.raises(pdcode.InputError, match=rf"problem\.init: .*{message}"):
            pdcode.simulate(config, output=tmp_path / "d.h5", set=init, progress=False)
