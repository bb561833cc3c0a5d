"""Sparse coding: codes and gaps against scikit-learn's lasso, gradients, schemes, replays and refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from outcomes import refused

import pdcode
from pdcode import problems
from pdcode.config import kinds
from pdcode.problems.sparse_coding import (
    Grid,
    SparseCoding,
    infer,
    inference,
    largest_eigenvalue,
    relative_gap,
)

TABLE: dict[str, Any] = {
    "kind": "sparse-coding", "data": "china-flower", "samples": 400, "atoms": 32, "iterations": 30,
    "batch": 8, "evaluate": 40,
}  # fmt: skip
CONVOLVED = {"thumbnail": 8, "patch": 4, "stride": 2, "atoms": 16}
HARD: dict[str, Any] = {"shrinkage": "hard", "algorithm": "lca"}
UNIT = {"proximal": {"kind": "unit-norm"}}


def natural() -> tuple[np.ndarray, np.ndarray]:
    """Patches (100, 64), and others of norm 1 as features (128, 64)."""
    dataset = problems.create({**TABLE, "dtype": "float64"}).dataset
    features = dataset.y[100:228] / np.linalg.norm(dataset.y[100:228], axis=1, keepdims=True)
    return dataset.y[:50], features


def least(rows: np.ndarray, features: np.ndarray, penalty: float, positive: bool) -> float:
    """The lasso's least energy."""
    from sklearn.linear_model import Lasso  # takes over a second

    options = {"fit_intercept": False, "max_iter": 100_000, "tol": 1e-10, "positive": positive}
    model = Lasso(alpha=penalty / rows.shape[1], **options).fit(features.T, rows.T)
    return energy(rows, features, penalty, model.coef_)


def energy(rows: np.ndarray, features: np.ndarray, penalty: float, codes: np.ndarray) -> float:
    return float(0.5 * np.square(rows - codes @ features).sum() + penalty * np.abs(codes).sum())


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("penalty", [0.5, 1.0])
def test_codes_come_to_the_lasso(penalty: float, positive: bool) -> None:
    (rows, features), bounds = natural(), {}
    goal = least(rows, features, penalty, positive)
    cases = ("lca", 200), ("lca", 1000), ("ista", 2000), ("fista", 200), ("fista", 1000)
    for algorithm, iterations in cases:
        table = SparseCoding(
            sparsity=penalty, nonnegative=positive, algorithm=algorithm, iterations=iterations
        )
        codes = infer(table, rows, features)
        bounds[algorithm, iterations] = energy(rows, features, penalty, codes) / goal - 1
    assert min(bounds.values()) >= -1e-9
    assert bounds["lca", 200] <= 2e-3
    assert bounds["lca", 1000] <= 1e-5
    assert bounds["ista", 2000] <= 1e-3
    assert bounds["fista", 200] <= 1e-3
    assert bounds["fista", 1000] <= 1e-6


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("algorithm", ["fista", "ista", "lca"])
def test_the_duality_gap_bounds_the_excess_and_ends_the_inference(algorithm: str, positive: bool) -> None:
    rows, features = natural()
    table = SparseCoding(sparsity=1.0, nonnegative=positive, algorithm=algorithm, gap=1e-2, iterations=5000)
    goal, grid = least(rows, features, 1.0, positive), table.grid(64)
    codes, taken = np.empty((50, 128)), []
    for gap in (0.3, 1e-2, 1e-3):
        table = structs.replace(table, gap=gap)
        taken.append(inference(table, rows, features, codes, grid)())
        rest = rows - codes @ features
        drive, energies = rest @ features.T, 0.5 * np.square(rest).sum(axis=1)
        found = relative_gap(energies, codes, drive, 1.0, positive)
        assert 0 <= energy(rows, features, 1.0, codes) / goal - 1 <= found / (1 - found)
        assert found <= gap * (1 + 1e-9)
    assert taken == sorted(taken)
    assert 0 < taken[0] < taken[-1] < 5000
    assert all(each % 10 == 0 for each in taken)


def test_the_gap_of_a_convolution_ends_its_inference_near_the_least_energy() -> None:
    random, grid = np.random.default_rng(0), Grid(12, 12, 4, 4, 2)
    features = random.normal(size=(8, 16))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    images, energies = random.normal(size=(3, 144)), []
    for gap in (1e-2, 1e-9):
        table = SparseCoding(patch=4, stride=2, sparsity=0.5, gap=gap, iterations=20_000)
        codes = np.empty((3 * grid.places, 8))
        assert inference(table, images, features, codes, grid)() < 20_000
        patches = codes @ features
        energies.append(grid.leave(images, patches) + 0.5 * np.abs(codes).sum())
    assert energies[1] <= energies[0] <= energies[1] / (1 - 1e-2)


@pytest.mark.parametrize("grid", [Grid(1, 9, 1, 9), Grid(7, 9, 3, 3, 2), Grid(6, 6, 4, 4, 1)])
def test_the_step_is_below_the_inverse_of_the_largest_eigenvalue(grid: Grid) -> None:
    """Of the Gram matrix of all features at all places."""
    random = np.random.default_rng(0)
    features = random.normal(size=(5, grid.rows * grid.columns))
    codes = np.eye(grid.places * 5).reshape(grid.places * 5, grid.places, 5)
    images = []
    for each in codes:
        rest = np.empty(grid.height * grid.width)
        grid.leave(np.zeros((1, rest.size)), each @ features, 1.0, rest)
        images.append(-rest)
    largest = np.linalg.eigvalsh(np.array(images) @ np.array(images).T)[-1]
    bound = largest_eigenvalue(features, grid)
    assert largest <= bound * (1 + 1e-12)
    assert bound <= 1.2 * grid.overlap * np.linalg.norm(features, 2) ** 2


def test_hard_thresholds_leave_least_squares_on_the_active_features() -> None:
    rows, features = natural()
    codes = infer(SparseCoding(**HARD, sparsity=1.0, iterations=3000, speed=0.05), rows, features)
    drive = (rows - codes @ features) @ features.T
    assert np.abs(drive[codes != 0]).max() < 1e-3
    assert np.abs(drive).max() <= 1 + 1e-3
    assert np.abs(codes[codes != 0]).min() > 1


def test_a_convolution_is_what_scipy_computes() -> None:
    from scipy.signal import correlate2d

    random, grid = np.random.default_rng(0), Grid(7, 9, 3, 2)
    image, features, codes = random.random((7, 9)), random.random((4, 6)), random.random((5, 8, 4))
    sums = sum(
        np.pad(codes[i, j] @ features, 0).reshape(3, 2)[a, b] * np.eye(1, 63, (i + a) * 9 + j + b)
        for i in range(5) for j in range(8) for a in range(3) for b in range(2)
    )  # fmt: skip
    rest = image - sums.reshape(7, 9)
    patches = codes.reshape(40, 4) @ features
    assert grid.places == 40
    assert grid.leave(image.reshape(1, -1), patches) == pytest.approx(0.5 * np.square(rest).sum())
    for feature in features:
        found = (patches @ feature).reshape(5, 8)
        np.testing.assert_allclose(found, correlate2d(rest, feature.reshape(3, 2), "valid"))


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("keys", [{}, CONVOLVED, HARD, {"nonnegative": True}, {"algorithm": "lca"}])
def test_gradients_are_slopes_of_the_energy(keys: dict[str, Any], axis: str) -> None:
    """At converged codes; coded derivatives are combinations of the gradient's blocks, exactly."""
    table = {**TABLE, "dtype": "float64", "axis": axis, "iterations": 6000, **keys}
    table |= {"samples": 30, "evaluate": 100, "atoms": 8, "test_fraction": 0.5}
    problem, random = problems.create(table, blocks=4), np.random.default_rng(0)
    theta = problem.initial(1)
    problem.weights(theta, 0)[:, :-1] /= np.linalg.norm(problem.weights(theta, 0)[:, :-1], axis=0)
    gradient, direction = problem.gradient(theta), random.standard_normal(theta.size)
    h = 1e-5
    slope = (problem.loss(theta + h * direction) - problem.loss(theta - h * direction)) / (2 * h)
    assert gradient @ direction == pytest.approx(slope, rel=1e-6)
    assert not problem.layers[0].biases(gradient).any()
    words, layer = random.standard_normal((3, 4)), problem.blocks(0)
    coded = problem.coded_derivative(theta, None, [words])[0]
    np.testing.assert_allclose(coded, np.tensordot(words, layer.split(gradient), 1), rtol=0, atol=1e-12)
    assert problem.measure(theta).loss == pytest.approx(problem.loss(theta), rel=1e-12)


def test_a_feature_as_large_as_the_image_is_a_patch() -> None:
    whole, placed = (problems.create({**TABLE, **keys}) for keys in ({}, {"patch": 8}))
    theta = whole.initial(3)
    np.testing.assert_array_equal(whole.gradient(theta), placed.gradient(theta))
    assert whole.accuracy(theta) == placed.accuracy(theta)


def run(path: Path, problem: dict[str, Any] | None = None, updates: int = 30, **tables: Any) -> pdcode.Trace:
    config = {"problem": TABLE | (problem or {}), "stop": {"updates": updates}, "workers": {"count": 4}}
    config |= {"optimizer": {"rate": 0.2} | UNIT}
    return pdcode.simulate({**config, **tables}, output=path / "s.h5", progress=False)


CODED = {"memory": {"kind": "worker"}, "wire": {"dtype": "int8"}, "code": {"blocks": 8, "weight": 4}}
CASES: dict[str, dict[str, Any]] = {
    "coded": {**CODED, "problem": {"axis": "input"}},
    "convolution": {**CODED, "problem": CONVOLVED, "downlink": {"kind": "codewords"}},
    "without a memory": {"problem": {"sampling": "epochs"}},
    "difference": {"memory": {"kind": "difference"}, "wire": {"dtype": "int2"}},
    "whitened": {"code": {"whiten": "gram", "blocks": 1}, "optimizer": {"rate": 0.02} | UNIT},
    "hard": {"problem": {**HARD, "nonnegative": True}},
    "as a gap says": {**CODED, "problem": {"gap": 1e-2, "iterations": 500}},
    "LCA": {"problem": {"algorithm": "lca"}},
    "digits": {"problem": {"data": "digits", "samples": 1000, "sparsity": 0.3}},
}


@pytest.mark.every(6)
@pytest.mark.parametrize("case", CASES)
def test_a_replay_has_the_same_bits(case: str, tmp_path: Path) -> None:
    trace = run(tmp_path, updates=60, **CASES[case])
    assert np.array_equal(trace.replay(progress=False), trace.theta)
    assert trace.progress["loss"][-1] < trace.progress["loss"][0]
    features = problems.create(trace.config["problem"]).weights(trace.theta, 0)[:, :-1]
    np.testing.assert_allclose(np.linalg.norm(features, axis=0), 1, rtol=1e-5)
    with refused("predicts nothing"):
        trace.model()


REFUSED = {
    **dict.fromkeys(("lagrange", "mds", "byzantine"), "which codes the data of linear models"),
    **dict.fromkeys(("delayed-nesterov", "dion"), "optimizer.proximal: 'unit-norm' does not go with scheme"),
    **dict.fromkeys(("ringmaster-muon", "ef21-muon", "demo"), "optimizer.kind: 'sgd' does not go with"),
    "heloco": "optimizer.momentum: 0.0 does not go with",
    "differences": "optimizer",
}


@pytest.mark.every(3)
@pytest.mark.parametrize("name", kinds.names("schemes"))
def test_schemes_learn_a_dictionary_or_refuse_it(name: str, tmp_path: Path) -> None:
    if name in REFUSED:
        with refused(REFUSED[name]):
            run(tmp_path, scheme={"name": name})
        return
    trace = run(tmp_path, updates=12, scheme={"name": name})
    assert trace.progress["loss"][-1] < trace.progress["loss"][0]


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "another projection": (
        {"optimizer": {"proximal": {"kind": "box", "low": 0}}},
        "needs optimizer.proximal",
    ),
    "Nesterov": (
        {"optimizer": {"momentum": 0.5, "nesterov": True}},
        "optimizer.nesterov: true does not go with optimizer.proximal.kind 'unit-norm'",
    ),
    "places": ({"problem": {"patch": 5, "stride": 2}}, "problem.patch: features of 5 × 5 pixels, 2 apart"),
    "no image": ({"problem": {"data": "diabetes", "samples": 1000, "patch": 2}}, "do not fill rows of 10"),
    "stride": ({"problem": {"stride": 2}}, "problem.stride: 2 has no effect"),
    "thumbnail": (
        {"problem": {"data": "digits", "samples": 1000, "thumbnail": 9}},
        "problem.thumbnail: 9 has no",
    ),
    "size": ({"problem": {"thumbnail": 900}}, "problem.thumbnail: 900"),
    "hidden": ({"problem": {"hidden": [3]}}, "problem.hidden: [3] has no effect"),
    "standardise": ({"problem": {"standardise": True}}, "problem.standardise: true has no effect"),
    "shrinkage": ({"problem": {"shrinkage": "firm"}}, "problem.shrinkage: expected"),
    "speed": ({"problem": {"speed": 0}}, "problem.speed: expected"),
    "speed of FISTA": ({"problem": {"speed": 0.2}}, "problem.speed: 0.2 has no effect with"),
    "gap": ({"problem": {"gap": -1}}, "problem.gap: expected"),
    "gap of counted codes": ({"problem": {**HARD, "gap": 0.1}}, "problem.gap: 0.1 has no effect"),
    "algorithm": ({"problem": {"algorithm": "omp"}}, "problem.algorithm: expected"),
    "hard": (
        {"problem": {"shrinkage": "hard", "algorithm": "ista"}},
        "problem.algorithm: 'ista' does not go with problem.shrinkage",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_keys_are_refused_by_name(case: str, tmp_path: Path) -> None:
    tables, text = REFUSALS[case]
    with refused(text):
        run(tmp_path, **tables)


def test_rows_may_be_an_array(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((60, 4, 4))
    few = {key: each for key, each in TABLE.items() if key not in ("data", "samples")} | {"patch": 2}
    config = {"problem": few, "optimizer": UNIT, "stop": {"updates": 3}}
    trace = pdcode.simulate(config, data=rows, output=tmp_path / "a.h5", progress=False)
    assert trace.data["outputs"] == 16
    with refused("data: tuple: expected an array of rows, which are coded"):
        pdcode.simulate(config, data=(rows, rows), progress=False)


def test_photographs_have_no_targets() -> None:
    with refused("problem.data: 'china-flower' has no targets, which kind 'softmax' needs"):
        problems.create({"kind": "softmax", "data": "china-flower"})


READER = """
import numpy as np
from pdcode.problems import Reader, Samples

def waves(table, required):
    phases = np.random.default_rng(table.split_seed).random((60, 1))
    return Samples(np.sin(2 * np.pi * (np.arange(16) / 8 + phases)), None)

def lines(table, required):
    return Samples(np.array([[float(each) for each in line.split()] for line in open(table.data)]), None)

WAVES = Reader("waves", waves)
LINES = Reader("lines", lines, pattern=r"\\.txt$")
"""


def test_a_plug_in_adds_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.KINDS, "readers", {**kinds.KINDS["readers"]})
    (tmp_path / "readers.py").write_text(READER, encoding="utf-8")
    plugins = [str(tmp_path / "readers.py")]
    (tmp_path / "x.txt").write_text("\n".join("1 2 4" if row % 3 else "3 1 5" for row in range(40)))
    few = {key: each for key, each in TABLE.items() if key != "samples"} | {"atoms": 4}
    for data in ("waves", str(tmp_path / "x.txt")):
        config = {"problem": {**few, "data": data}, "optimizer": UNIT, "stop": {"updates": 5}}
        trace = pdcode.simulate({**config, "plugins": plugins}, output=tmp_path / "r.h5", progress=False)
        assert np.array_equal(trace.replay(progress=False), trace.theta)
    (tmp_path / "x.txt").write_text("1 2 x")
    with refused("problem.data: ", "x.txt': ValueError: could not convert"):
        pdcode.simulate({**config, "plugins": plugins}, progress=False)


@pytest.mark.system
def test_a_comparison_keeps_the_projection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also with presets that set the learning rate, without their Nesterov momentum."""
    config = {"problem": TABLE, "optimizer": {"rate": 0.5} | UNIT, "workers": {"count": 4}}
    config |= {"stop": {"loss": 19.0, "seconds": 0.2}}
    options: dict[str, Any] = {"seeds": 1, "processes": 1, "progress": False}
    names = ["uncoded", "uncoded:first", "lwpd:default", "lwpd:first", "lwpd"]
    found = pdcode.compare(config, names, output=tmp_path / "c.h5", **options)
    assert all(run.reached for runs in found.measured for run in runs)
    with refused("--schemes lwpd:first/optimizer.nesterov=true: optimizer.nesterov: true does not go with"):
        pdcode.compare(config, "lwpd:first/optimizer.nesterov=true", **options)
