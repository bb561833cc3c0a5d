"""The bench of memories in small: its driver, and the laws that it shows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pdcode.bench import convergence, descents, memory, minibatches, shards
from pdcode.bench.descents import Outcome, Tables, Trial, merged, perform
from pdcode.config import load as configfile
from pdcode.training import setup as parts

WORKERS, INPUTS = 8, 7

DIGITS: Tables = {
    "problem": {"data": "digits", "hidden": [16], "batch": 8, "axis": "output"},
    "workers": {"count": 4},
    "update": {"mode": "first", "count": 3},
    "stop": {"updates": 60},
}


def net(memory: str, **code: object) -> Tables:
    return minibatches.coded(memory, family="net", **{"blocks": [16, 1], "rows_per_task": 4, **code})


def digits(rate: float, seed: int, *tables: Tables, target: float = 1.0) -> Trial:
    return Trial(merged(DIGITS, *tables, {"seed": seed, "optimizer": {"rate": rate}}), target, 3)


@pytest.fixture(scope="module")
def shard_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "1.npz"
    shards.write(path, 1, WORKERS, 40, INPUTS)
    return path


def optimum(path: Path, rate: float, *tables: Tables) -> Outcome:
    code: Tables = {"code": {"blocks": INPUTS + 1}} if "code" in merged(*tables) else {}
    keyed = {"optimizer": {"rate": rate}, "update": {"mode": "first", "count": 6}}
    trial = merged(shards.base(path, WORKERS, 500), *tables, code, keyed)
    return perform(Trial(trial, 1e-5, distance=True))


def matched(memory: str) -> Tables:
    return minibatches.coded(memory, "float64", family="matched", blocks=8, weight=8, rows_per_task=1)


@pytest.mark.parametrize("late", ["waste", "use"])
def test_memories_of_differences_reach_the_optimum(shard_file: Path, late: str) -> None:
    update: Tables = {"update": {"late": late}}
    assert optimum(shard_file, 0.8, matched("difference"), update).updates < 500
    given = minibatches.coded(
        "difference", "float64", family="net", blocks=8, weight=2, rows_per_task=4, rotate=True
    )
    assert optimum(shard_file, 0.8, given, update).updates < 500


def test_error_feedback_and_dropping_do_not_reach_it(shard_file: Path) -> None:
    dropping: Tables = {"scheme": {"name": "uncoded"}, "update": {"late": "waste"}}
    for tables in (matched("worker"), dropping):
        assert 1e-4 < optimum(shard_file, 0.3, tables).value < 0.5


def test_shards_differ_but_their_hessian_is_as_asked(shard_file: Path) -> None:
    with np.load(shard_file) as file:
        x = np.hstack([file["x"], np.ones((len(file["x"]), 1))])
    eigenvalues = np.linalg.eigvalsh(x.T @ x / len(x))
    assert eigenvalues[-1] == pytest.approx(1, rel=1e-9)
    assert eigenvalues[-1] / eigenvalues[0] == pytest.approx(shards.CONDITION, rel=1e-9)
    means = [part[:, :-1].mean(axis=0) for part in np.split(x, WORKERS)]
    assert min(np.linalg.norm(a - means[0]) for a in means[1:]) > 0.1


@pytest.mark.parametrize(
    "code", [net("worker"), minibatches.coded("worker", family="matched", blocks=[16, 10], rows_per_task=2)]
)
def test_relayed_codewords_lead_to_the_same_parameters(code: Tables) -> None:
    full = perform(digits(0.5, 1, code))
    relayed = perform(digits(0.5, 1, code, {"downlink": {"kind": "codewords", "check": 2}}))
    assert full.digest == relayed.digest
    assert full.curve == relayed.curve
    assert full.updates == relayed.updates < 60
    assert full.bytes_up == relayed.bytes_up
    assert full.bytes_down != relayed.bytes_down


def test_outcomes_are_the_same_over_processes_and_in_order() -> None:
    trials = [digits(rate, 2, net("worker")) for rate in (0.3, 0.6, 1.2)]
    here = list(descents.spread(perform, trials, 1))
    assert here == list(descents.spread(perform, trials, 2))
    assert len({outcome.digest for outcome in here}) == 3


def test_tuning_takes_the_rate_of_fewest_updates(capsys: pytest.CaptureFixture[str]) -> None:
    best = descents.tune({"net": lambda rate, seed: digits(rate, seed, net("worker"))},
                         {"net": (0.01, 0.4, 1.0)}, (3, 4), 1)  # fmt: skip
    updates = {
        rate: np.median([perform(digits(rate, seed, net("worker"))).updates for seed in (3, 4)])
        for rate in (0.01, 0.4, 1.0)
    }
    assert math.isinf(updates[0.01])
    assert best["net"] == min(updates, key=updates.__getitem__)
    assert "0.01: (" in capsys.readouterr().out


def test_hopeless_trials_are_given_up() -> None:
    outcome = perform(digits(1e6, 1, {"scheme": {"name": "uncoded"}}))
    assert math.isinf(outcome.updates)
    assert outcome.steps < 60


def test_whole_messages_are_as_short_as_claimed(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", x=random.random((50, 784), np.float32), y=np.arange(50) % 10)
    data = {"problem": {"data": str(tmp_path / "images.npz")}}
    size = {}
    for name, scheme in minibatches.SCHEMES.items():
        config = configfile.resolve(merged(minibatches.BASE, data, scheme.tables))
        size[name] = parts.prepare(config).layout.reply_bytes
    full = size[minibatches.FULL]
    assert full == 64 + 4 * (256 * 785 + 10 * 257) + 24  # the header, and layers rounded up to 64 bytes
    for name, scheme in minibatches.SCHEMES.items():
        assert size[name] <= full * min(1, scheme.share)


def test_tables_show_ratios_to_full_gradients(capsys: pytest.CaptureFixture[str]) -> None:
    full = [Outcome(u, int(u), 0.1, int(u) * 1000, int(u) * 10) for u in (90.0, 100.0, 120.0)]
    coded = [Outcome(u, 150, 0.2, 150 * 10, 150 * 10) for u in (110.0, 125.0, math.inf)]
    found = minibatches.table("Title", {"full": (0.5, full), "coded": (1.0, coded)}, full)
    assert found == {"full": (1.0, 1.0), "coded": (1.25, 0.01)}
    out = capsys.readouterr().out
    assert "100 (90-120)" in out
    assert "125 (110-…)" in out


@pytest.mark.parametrize("case", list(convergence.CASES))
def test_memories_stay_bounded_beside_a_slow_worker(case: str) -> None:
    course = convergence.follow((convergence.CASES[case], 1500, 10))
    assert course.samples.shape == (11, 4)
    assert np.isfinite(course.samples).all()
    assert course.samples[-1, 0] < 0.6 * course.samples[0, 0]
    assert course.staleness > 100
    kept = course.samples[-1, 1:] > 0
    memory = case.split(", ")[1]
    assert (
        list(kept)
        == {
            "none": [False, False, False],
            "worker": [True, True, False],
            "difference": [True, True, True],
            "coordinator": [False, False, True],
        }[memory]
    )


def test_growing_memories_are_not_bounded() -> None:
    samples = np.ones((10, 4))
    samples[0, 0] = 3
    assert convergence.Course(samples, 0).bounded()
    samples[-1, 2] = 2
    assert not convergence.Course(samples, 0).bounded()
    samples[-1, 2] = np.nan
    assert not convergence.Course(samples, 0).bounded()


@pytest.mark.parametrize("sound", [True, False])
def test_the_exit_code_says_whether_all_holds(sound: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in (minibatches, shards, convergence):
        monkeypatch.setattr(part, "run", lambda part=part: sound or part is not shards)
    assert memory.run() == (0 if sound else 1)
