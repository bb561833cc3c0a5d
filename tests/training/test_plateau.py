"""The factor of `optimizer.plateau`: when it falls, how far, and that steps and replays have it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interrupted import built, interrupted

import pdcode
from pdcode.config.load import resolve
from pdcode.session import checkpoint
from pdcode.training.plateau import Plateau
from pdcode.util.errors import InputError

KEY = "optimizer.plateau"
JOB: dict[str, Any] = {
    "problem": {"kind": "mlp", "data": "diabetes", "task": "regression", "hidden": [16], "batch": 16},
    "workers": {"count": 4},
    "stragglers": {"kind": "shifted-exponential", "mean_s": 0.002, "shift_s": 0.002},
    "stop": {"updates": 120},
}
CASES: dict[str, dict[str, Any]] = {
    "replicas": {"scheme.preset": "whitened-regression", "optimizer.rate": 2.0},
    "rounds": {
        "scheme.preset": "deep-regression",
        "optimizer": {"kind": "sgd", "rate": 0.05, "momentum": 0.6, "nesterov": True},
        "problem.standardise_targets": True,
    },
    "of the first": {
        "scheme.preset": "sharded-first",
        "update.count": 3,
        "problem.standardise_targets": True,
    },
    "scheduled": {
        "update.mode": "async",
        "optimizer.schedule": "cosine",
        "optimizer.warmup": 5,
        "optimizer.rate": 0.3,
        "problem.standardise_targets": True,
    },
}


def factors(losses: np.ndarray, workers: int) -> list[float]:
    """The factor after each loss, by windows of rounds from the first one on."""
    found, factor, begin, before = list[float](), 1.0, 0, np.inf
    while begin < len(losses):
        length = workers * max(3, begin // workers // 3)
        window = losses[begin : begin + length]
        found += [factor] * (len(window) - 1)
        if len(window) == length and not window.mean() < before:
            factor = max(0.7 * factor, min(1.0, np.sqrt(4 * workers / (begin + length))))
        before, begin = window.mean(), begin + length
        found.append(factor)
    return found


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(0, 400), st.floats(0.9, 1.1))
def test_it_falls_after_windows_that_grow(seed: int, workers: int, count: int, trend: float) -> None:
    losses = np.random.default_rng(seed).random(count) + trend ** np.arange(count)
    made, found = Plateau(workers), list[float]()
    for loss in losses.tolist():
        made.add(loss)
        found.append(made.factor)
    np.testing.assert_allclose(found, factors(losses, workers))


def test_it_stays_while_the_loss_falls_and_never_vanishes() -> None:
    falling, constant, lost = Plateau(2), Plateau(2), Plateau(2)
    for number in range(1000):
        falling.add(1 / (1 + number))
        constant.add(1.0)
        lost.add(np.nan)
    assert falling.factor == 1
    assert constant.factor == lost.factor == pytest.approx(np.sqrt(4 / 500), rel=0.3)


class Spy:
    """Factors of the steps of runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.factors, add = list[float](), Plateau.add

        def spied(made: Plateau, loss: float) -> None:
            add(made, loss)
            self.factors.append(made.factor)

        monkeypatch.setattr(Plateau, "add", spied)


@pytest.mark.parametrize("case", CASES)
def test_a_run_and_its_replay_take_the_same_shorter_steps(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    settings = {**CASES[case], KEY: True}
    trace = pdcode.simulate(JOB, output=tmp_path / "a.h5", set=settings, progress=False)
    used = trace.arrivals["loss"][trace.arrivals["applied_version"] >= 0]
    assert spy.factors == pytest.approx(factors(used, 4))
    assert spy.factors[-1] < 1
    assert trace.counters["plateau"] == spy.factors[-1]
    assert (trace.replay(progress=False) == trace.theta).all()


@pytest.mark.parametrize("case", ["replicas", "rounds"])
def test_a_factor_is_one_of_the_rate(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**CASES[case], "memory.lookahead": 0.0, "optimizer.rate": 0.02}
    slower = pdcode.simulate(JOB, output=tmp_path / "a.h5", set=settings | {KEY: False}, progress=False)
    monkeypatch.setattr(Plateau, "add", lambda made, loss: setattr(made, "factor", 0.5))
    settings |= {"optimizer.rate": 0.04, KEY: True}
    trace = pdcode.simulate(JOB, output=tmp_path / "b.h5", set=settings, progress=False)
    np.testing.assert_array_equal(trace.theta, slower.theta)


def test_a_resumed_simulation_has_the_factor_of_one_run_through(tmp_path: Path) -> None:
    job = {**JOB, "trace": {"path": str(tmp_path / "a.h5")}}
    settings = [f"{key}={value}" for key, value in {**CASES["replicas"], KEY: "true"}.items()]
    whole = interrupted(resolve(job, settings), arrivals=40)
    found = checkpoint.find(resolve(job, settings))
    assert found is not None
    run = built(found.resumed_config(resolve(job, settings)))
    found.restore(run.stateful, run.components.config)
    run.coordinator.resumed = True
    run.coordinator.run(run.monitor)
    assert run.coordinator.plateau.factor == whole.coordinator.plateau.factor < 1
    np.testing.assert_array_equal(run.coordinator.theta, whole.coordinator.theta)


@pytest.mark.parametrize("preset", ["ring", "sharded"])
def test_workers_that_step_by_themselves_do_not_know_it(preset: str) -> None:
    with pytest.raises(InputError, match=r"^reduce\.kind: 'allreduce' .*optimizer\.plateau"):
        resolve(JOB, [f"scheme.preset={preset}", f"{KEY}=true"])
