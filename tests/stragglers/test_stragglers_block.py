"""draw = "block": blocks of recorded delays for all workers together, against single ones and their order."""

from pathlib import Path

import numpy as np
import pytest
import traces

from pdcode.config import load as configfile
from pdcode.stragglers import DelayModel
from pdcode.stragglers.trace import block_length, load_records
from pdcode.util.errors import InputError

WORKERS, ROUNDS, TASKS = 6, 900, 6000


def recorded() -> np.ndarray:
    """Delays as of a shared cluster: spells that half of the workers have together, and noise."""
    random = np.random.default_rng(4)
    walks = np.zeros((3, ROUNDS))
    for t in range(1, ROUNDS):
        walks[:, t] = 0.95 * walks[:, t - 1] + random.normal(size=3)
    shared = walks[[0, 0, 0, 1, 1, 2]]
    return 0.05 * np.exp(0.3 * shared + 0.1 * random.normal(size=(WORKERS, ROUNDS)))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("delays") / "delays.csv"
    np.savetxt(path, recorded(), delimiter=",", fmt="%.9g")
    return path


def model(path: Path, draw: str, seed: int = 1, workers: int = WORKERS, **keys: object) -> DelayModel:
    table = {"kind": "trace", "path": str(path), "draw": draw, **keys}
    config = configfile.resolve({"stragglers": table, "stop": {"updates": 1}, "workers": {"count": workers}})
    made: DelayModel = config.stragglers.make(seed, workers)
    return made


def delays(made: DelayModel, workers: int = WORKERS, tasks: int = TASKS) -> np.ndarray:
    return made.delays_s(np.arange(workers), np.zeros(workers, int), tasks)


def lag_1(values: np.ndarray) -> float:
    centred = values - values.mean()
    return float(centred[1:] @ centred[:-1] / (centred @ centred))


def test_blocks_preserve_correlation_and_single_draws_do_not(file: Path) -> None:
    """The time of a round that waits for all, and the autocorrelation of each worker's delays."""
    matrix = recorded()
    all_wait = matrix.max(axis=0).mean()
    found = {
        draw: np.concatenate([delays(model(file, draw, seed)) for seed in range(5)], axis=1)
        for draw in ("block", "bootstrap")
    }
    assert found["block"].max(axis=0).mean() == pytest.approx(all_wait, rel=0.05)
    assert found["bootstrap"].max(axis=0).mean() > 1.15 * all_wait
    for worker in range(WORKERS):
        before = lag_1(matrix[worker])
        assert before > 0.8
        assert lag_1(found["block"][worker]) == pytest.approx(before, abs=0.05)
        assert abs(lag_1(found["bootstrap"][worker])) < 0.05
        assert found["block"][worker].mean() == pytest.approx(matrix[worker].mean(), rel=0.1)


def test_a_block_is_consecutive_rounds_of_all_workers(file: Path) -> None:
    matrix, drawn = recorded(), delays(model(file, "block", block=7))
    places = [int(np.abs(matrix[0] - value).argmin()) for value in drawn[0]]
    np.testing.assert_allclose(drawn, matrix[:, places], rtol=1e-8)
    steps = np.diff(places) % ROUNDS
    assert (np.delete(steps, np.arange(6, TASKS - 1, 7)) == 1).all()
    assert len({places[i] for i in range(0, TASKS, 7)}) > 400  # anywhere, ends included
    assert any(places[i] > ROUNDS - 7 for i in range(0, TASKS, 7))


def test_delays_depend_on_seed_worker_and_task_alone(file: Path) -> None:
    made = model(file, "block")
    whole = delays(made, tasks=400)
    for first, count in ((0, 1), (3, 10), (100, 299), (399, 1)):
        part = made.delays_s([4, 1], [first, first], count)
        np.testing.assert_array_equal(part, whole[[4, 1], first : first + count])
    np.testing.assert_array_equal(delays(model(file, "block", workers=3), 3, 400), whole[:3])
    assert (delays(model(file, "block", seed=2), tasks=400) != whole).mean() > 0.9


def test_more_workers_than_recorded_take_columns_again_with_blocks_of_their_own(file: Path) -> None:
    drawn = delays(model(file, "block", workers=2 * WORKERS), 2 * WORKERS)
    np.testing.assert_array_equal(drawn[:WORKERS], delays(model(file, "block")))
    matrix = np.loadtxt(file, delimiter=",")
    assert all(np.isin(drawn[WORKERS + i], matrix[i]).all() for i in range(WORKERS))
    assert (drawn[WORKERS:] == drawn[:WORKERS]).mean() < 0.05
    further = np.corrcoef(drawn[WORKERS:])  # they keep the dependence among themselves
    np.testing.assert_allclose(further, np.corrcoef(matrix), atol=0.15)


@pytest.mark.parametrize(("rho", "length"), [(0.0, 1), (0.5, 17), (0.7, 29), (0.99, 140)])
def test_the_length_follows_from_the_autocorrelation(tmp_path: Path, rho: float, length: int) -> None:
    """(6 ρ² N)^⅓ / (1 - ρ²)^⅔, at most 3 √N."""
    random, values = np.random.default_rng(1), np.zeros(2183)
    for t in range(1, len(values)):
        values[t] = rho * values[t - 1] + random.normal()
    np.savetxt(tmp_path / "a.csv", [values - values.min(), np.ones(len(values))], delimiter=",")
    table = model(tmp_path / "a.csv", "block", workers=2).table
    assert block_length(load_records(table)) == pytest.approx(length, abs=3)


def test_workers_of_few_records_start_at_the_same_fraction_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2,3,4,5,6\n10,20,30,,,\n,,,,,\n")
    drawn = model(tmp_path / "a.csv", "block", workers=3, block=1).delays_s([0, 1, 2], [0, 0, 0], 500)
    np.testing.assert_array_equal(np.ceil(drawn[0] / 2) * 10, drawn[1])
    assert np.isinf(drawn[2]).all()


def test_delays_of_a_run_are_drawn_in_blocks(tmp_path: Path) -> None:
    run = traces.simulate(tmp_path / "run.h5", seconds=0.1)
    made = model(run.path, "block", workers=8)
    assert np.isfinite(made.delays_s(range(7), [0] * 7, 50)).all()


def test_a_length_without_blocks_is_refused(file: Path) -> None:
    with pytest.raises(
        InputError, match=r"stragglers\.block: 9 has no effect with stragglers\.draw 'replay'"
    ):
        model(file, "replay", block=9)
    with pytest.raises(InputError, match=r"stragglers\.block: expected integer >= 1"):
        model(file, "block", block=0)
