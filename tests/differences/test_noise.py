"""Steps of differences from measured noise."""

from pathlib import Path

import numpy as np
import pytest
from outcomes import assert_replays

import pdcode
from pdcode.__main__ import main
from pdcode.differences.noise import Noise, noise_of

RNG = np.random.default_rng(5)
WEIGHTS, TRUTH = RNG.normal(size=(60, 8)), RNG.normal(size=8)


def smooth(x: np.ndarray) -> np.ndarray:
    return np.tanh(WEIGHTS @ x / 4) - np.tanh(WEIGHTS @ TRUTH / 4)


@pytest.mark.parametrize("level", [1e-10, 1e-7, 1e-3])
def test_the_noise_of_values_is_found(level: float) -> None:
    rng, t = np.random.default_rng(0), 1 + 1e-8 * np.arange(7)
    many = np.sin(np.outer(t, np.arange(1, 50))) + level * rng.normal(size=(7, 49))
    found, change = noise_of(many)
    assert change == 0
    assert 0.5 < found / level < 2


def test_points_too_near_or_too_far_are_told() -> None:
    assert noise_of(np.ones((7, 3))) == (0.0, 1)
    assert noise_of(np.arange(7.0)[:, None]) == (0.0, -1)


def measured(level: float, lower: np.ndarray, upper: np.ndarray) -> Noise:
    """Measure the noise of a function at the truth, within bounds."""
    rng, noise = np.random.default_rng(1), Noise(8, 60, lower, upper)
    base = smooth(TRUTH) + level * rng.normal(size=60)
    while not noise.done:
        x = noise.point(noise.missing[0], TRUTH)
        assert ((x >= lower) & (x <= upper)).all()
        noise.add(noise.missing[0], smooth(x) + level * rng.normal(size=60), base)
    return noise


@pytest.mark.parametrize("level", [1e-9, 1e-6, 1e-4])
@pytest.mark.parametrize("room", [1.0, 1e-3, 0.0])
def test_steps_follow_the_noise_within_bounds(level: float, room: float) -> None:
    noise = measured(level, TRUTH - 1, TRUTH + room)
    assert noise.level == pytest.approx(level, rel=0.5)
    assert 0.2 * level**0.5 < noise.step < 20 * level**0.5


def test_values_without_noise_have_the_usual_step() -> None:
    free = np.full(8, np.inf)
    assert measured(0.0, -free, free).step < 1e-6


def test_a_point_that_fails_ends_the_measurement() -> None:
    free = np.full(8, np.inf)
    noise = Noise(8, 60, -free, free)
    usual = noise.step
    noise.add(noise.missing[0], None, smooth(TRUTH))
    assert (noise.done, noise.step, noise.missing) == (True, usual, [])


PROGRAM = """
import zlib
import numpy as np

t = np.linspace(0, 4, 50)

def misfit(x):
    noise = np.random.default_rng(zlib.crc32(x.tobytes())).normal(size=50)
    return x[0] * np.exp(-x[1] * t) - 3.0 * np.exp(-0.7 * t) + 1e-5 * noise
"""
JOB = """
[problem]
kind = "simulation"
function = "mine.py:misfit"
start = [1.0, 0.2]
residuals = 50
bounds = [[0, 9], [0, 9]]
relative_step = "auto"
[scheme]
name = "differences"
[workers]
count = 3
[stragglers]
kind = "shifted-exponential"
shift_s = 0.002
mean_s = 0.003
[stop]
updates = 100
"""


@pytest.mark.parametrize("command", ["simulate", "run"])
def test_noisy_residuals_are_fitted_and_replay(command: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.py").write_text(PROGRAM, encoding="utf-8")
    job, out = tmp_path / "job.toml", tmp_path / "a.h5"
    job.write_text(JOB, encoding="utf-8")
    assert main([command, str(job), "-o", str(out)]) == 0
    np.testing.assert_allclose(pdcode.Trace(out).theta, [3.0, 0.7], atol=1e-4)
    assert_replays(out, capsys)


def test_the_usual_step_does_not_fit_them(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PROGRAM, encoding="utf-8")
    job, out = tmp_path / "job.toml", tmp_path / "a.h5"
    job.write_text(JOB.replace('relative_step = "auto"', ""), encoding="utf-8")
    assert main(["simulate", str(job), "-o", str(out)]) == 0
    assert np.abs(pdcode.Trace(out).theta - [3.0, 0.7]).max() > 0.1
