"""Patterns of Jacobians: given, found, and wrong, with fewer evaluations than parameters."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import assert_replays, error_line, refused
from scipy import sparse
from scipy.optimize._numdiff import approx_derivative

import pdcode
from pdcode.__main__ import main
from pdcode.differences.columns import Columns
from pdcode.differences.patterns import Found, Pattern

FREE = np.full(30, -np.inf), np.full(30, np.inf)
BAND = np.abs(np.subtract.outer(np.arange(30), np.arange(30))) <= 2
DENSE = np.ones((30, 30), bool)


def scattered(seed: int = 0, each: int = 5) -> np.ndarray:
    """Pattern of 60 rows with some entries each at random."""
    rng, entries = np.random.default_rng(seed), np.zeros((60, 30), bool)
    for row in entries:
        row[rng.choice(30, each, replace=False)] = True
    return entries


class Model:
    """Values of a smooth function with a pattern, and the number of evaluations."""

    def __init__(self, entries: np.ndarray, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.weights = np.where(entries, rng.normal(size=entries.shape), 0.0)
        self.truth, self.evaluations = rng.normal(size=entries.shape[1]), 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.evaluations += 1
        inner, best = self.weights @ x, self.weights @ self.truth
        return np.tanh(inner / 3) + 0.1 * inner - np.tanh(best / 3) - 0.1 * best


def evaluated(columns: Columns, model: Model, missing: int = 0) -> np.ndarray:
    """Jacobian from all columns but some, in whose place there are combinations."""
    for column in range(missing, columns.number):
        direction = columns.coordinate(column)
        columns.add(direction, model(columns.point(direction)))
    base = model(columns.x)
    while (jacobian := columns.jacobian(base, 4.0)) is None:
        direction = columns.combination([], (1, 2))
        columns.add(direction, model(columns.point(direction)))
    return jacobian


def test_colours_give_scipys_jacobian_from_five_evaluations() -> None:
    model, x = Model(BAND), np.random.default_rng(1).normal(size=30)
    columns = Columns(30, 30, *FREE, Pattern(BAND))
    columns.begin(x, None)
    jacobian = evaluated(columns, model)
    assert model.evaluations == 5 + 1
    groups = np.arange(30) % 5
    expected = approx_derivative(model, x, method="2-point", sparsity=(sparse.csr_matrix(BAND), groups))
    np.testing.assert_array_equal(jacobian, expected.toarray())


def test_codewords_take_fewer_evaluations_than_colours() -> None:
    entries, x = scattered(), np.random.default_rng(1).normal(size=30)
    model, pattern = Model(entries), Pattern(entries)
    colours = pattern.seed(np.zeros(30, bool)).shape[1]
    columns = Columns(30, 60, *FREE, pattern)
    columns.begin(x, None)
    assert columns.number <= 7 < 15 < colours
    expected = approx_derivative(model, x, method="2-point")
    np.testing.assert_allclose(evaluated(columns, model), np.where(entries, expected, 0), atol=1e-6)


@settings(max_examples=8)
@given(
    seed=st.integers(0, 99), missing=st.integers(0, 3), band=st.booleans(), held=st.integers(0, 2),
    checked=st.booleans(),
)  # fmt: skip
def test_combinations_of_groups_stand_in_within_bounds(
    seed: int, missing: int, band: bool, held: int, checked: bool
) -> None:
    entries = BAND if band else scattered(seed)
    model, x = Model(entries, seed), np.random.default_rng(seed).normal(size=30)
    lower, upper = x - 1e-7, x + 1e-7
    upper[:held] = x[:held]
    m = len(entries)
    pattern = Found(m, 30) if checked else Pattern(entries)
    columns = Columns(30, m, lower, upper, pattern)

    def within(point: np.ndarray) -> np.ndarray:
        assert ((point >= lower) & (point <= upper)).all()
        return model(point)

    columns.begin(x, None)
    if checked:
        evaluated(columns, within)
        columns.begin(x, None)
        assert columns.number < 30
    jacobian = evaluated(columns, within, missing)
    expected = approx_derivative(model, x, method="2-point", bounds=(lower, upper))
    np.testing.assert_allclose(jacobian, expected, atol=1e-5)


def test_an_entry_that_was_zero_by_accident_is_found_and_no_other_columns_are_taken() -> None:
    def values(x: np.ndarray) -> np.ndarray:
        return np.append(x**2 + x, x[0] * x[1])

    x, columns = np.zeros(30), Columns(30, 31, *FREE, Found(31, 30))
    numbers = []
    for step in range(4):
        columns.begin(x + step, None)
        numbers.append(columns.number)
        for column in range(columns.number):
            direction = columns.coordinate(column)
            columns.add(direction, values(columns.point(direction)))
        jacobian = columns.jacobian(values(columns.x), 4.0)
        if step == 1:
            assert jacobian is None
            assert columns.wrong
            columns.begin(columns.x, None, again=True)
            numbers.append(columns.number)
            jacobian = evaluated(columns, values)
        np.testing.assert_allclose(
            jacobian, approx_derivative(values, columns.x, method="2-point"), atol=1e-6
        )
    assert numbers == [30, 2, 30, 3, 3]


def counted(entries: np.ndarray, **options) -> tuple[int, float]:
    """Evaluations of a fit, and its largest error."""
    model = Model(entries)
    found = pdcode.calibrate(
        model, model.truth + 0.3, workers=6, residuals=len(entries), progress=False, **options
    )
    assert found.success
    return found.nfev, float(np.abs(found.x - model.truth).max())


@pytest.mark.parametrize("entries", [BAND, scattered()], ids=["band", "scattered"])
def test_a_fit_with_a_pattern_comes_to_the_same_with_fewer_evaluations(
    entries: np.ndarray, tmp_path: Path
) -> None:
    out = tmp_path / "a.h5"
    whole, *same = counted(entries, output=out)
    for pattern in (entries, sparse.csr_array(entries)):
        fewer, error = counted(entries, output=out, pattern=pattern)
        assert fewer < 0.45 * whole
        assert error < 1e-6
    found, error = counted(entries, output=out, pattern="auto")
    assert found < 0.7 * whole
    assert max(error, *same) < 1e-6


PROGRAM = """
import numpy as np

def misfit(x):
    y = np.append(x, 0.0)
    return np.concatenate([y[:-1] ** 2 + 0.5 * y[1:] - 1, (x - 0.5) * x[::-1]])
"""
JOB = """
[problem]
kind = "simulation"
function = "mine.py:misfit"
start = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
residuals = 20
pattern = "auto"
[scheme]
name = "differences"
[workers]
count = 2
[stragglers]
kind = "shifted-exponential"
shift_s = 0.001
mean_s = 0.001
[stop]
updates = 100
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(PROGRAM, encoding="utf-8")
    path = tmp_path / "job.toml"
    path.write_text(JOB, encoding="utf-8")
    return path


@pytest.mark.parametrize("command", ["simulate", "run"])
def test_zeros_of_the_start_are_not_taken_for_the_pattern(command: str, job: Path, capsys) -> None:
    out = job.parent / "a.h5"
    assert main([command, str(job), "-o", str(out)]) == 0
    whole = job.parent / "whole.h5"
    job.write_text(JOB.replace('pattern = "auto"', ""), encoding="utf-8")
    assert main(["simulate", str(job), "-o", str(whole)]) == 0
    losses = [pdcode.Trace(each).progress["loss"][-1] for each in (out, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert_replays(out, capsys)


def test_a_pattern_in_a_file(job: Path, capsys) -> None:
    entries = np.vstack([np.eye(10) + np.eye(10, k=1), np.eye(10) + np.eye(10)[::-1]])
    place = job.parent / "pattern"
    np.savetxt(f"{place}.txt", entries)
    np.save(f"{place}.npy", entries != 0)
    np.savez(f"{place}.npz", any=entries)
    sparse.save_npz(f"{place}-sparse.npz", sparse.csc_matrix(entries))
    counts = set()
    for name in ("pattern.txt", "pattern.npy", "pattern.npz", "pattern-sparse.npz"):
        text = job.read_text(encoding="utf-8").replace('"auto"', f'"{name}"')
        (job.parent / "given.toml").write_text(text, encoding="utf-8")
        out = job.parent / "a.h5"
        assert main(["simulate", str(job.parent / "given.toml"), "-o", str(out)]) == 0
        assert_replays(out, capsys)
        counts.add(pdcode.Trace(out).arrivals.rows)
    assert len(counts) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [("1 0\n0 1\n", "has shape (2, 2): expected (20, 10)"), ("1 a\n", "is no table of numbers"),
     (None, "pattern.txt")],
)  # fmt: skip
def test_bad_patterns_are_one_line(text: str | None, words: str, job: Path, capsys) -> None:
    path = job.parent / "pattern.txt"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert (
        main(["simulate", str(job), "-o", str(job.parent / "a.h5"), "--set", f"problem.pattern={path}"]) == 2
    )
    line = error_line(capsys)
    assert "problem.pattern: " in line
    assert words in line


def test_bad_patterns_of_a_call() -> None:
    with refused("problem.pattern: needs residuals"):
        pdcode.calibrate(lambda x: float(x @ x), [1.0, 2.0], pattern="auto", progress=False)
    with refused("pattern: no matrix of numbers"):
        pdcode.calibrate(lambda x: x, [1.0, 2.0], pattern=[["a"]], progress=False)


def test_a_prior_goes_with_a_pattern(tmp_path: Path) -> None:
    found = [
        pdcode.calibrate(
            Model(BAND), np.zeros(30), pattern=pattern, prior_sd=np.where(np.arange(30) % 3, np.inf, 2.0),
            workers=2, output=tmp_path / "fit.h5", progress=False,
        )
        for pattern in (None, BAND)
    ]  # fmt: skip
    whole, few = found
    assert few.success
    np.testing.assert_allclose(few.x, whole.x, atol=1e-5)
    assert few.nfev < whole.nfev / 2
    assert len(few.fit.residuals) == 30
