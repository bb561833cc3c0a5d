"""The benchmark of detectors: what it puts in, and what it counts as right."""

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import detectors


def test_one_kind_of_cause_is_found_and_priced(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.main(["detectors", "--seeds", "1", "--kinds", "regularly,equal"]) == 0
    lines = {
        line.split("  ")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "%" in line
    }
    assert "100.0 %" in lines["regularly"]
    assert "points" in lines["regularly"]
    assert "points" not in lines["equal"]


def test_bad_options_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.main(["detectors", "--kinds", "sometime"]) == 2
    assert "--kinds: expected one of " in (error := capsys.readouterr().err)
    assert "did you mean 'sometimes'?" in error
    assert benchmarks.main(["detectors", "--seeds", "0"]) == 2
    assert "--seeds: expected an integer >= 1 (got 0)" in capsys.readouterr().err


def test_cases_of_a_seed_are_the_same_and_have_a_cause_each() -> None:
    drawn = [[*detectors.cases(np.random.default_rng(3))] for _ in range(2)]
    for one, other in zip(*drawn, strict=True):
        assert (one.kind, one.truth) == (other.kind, other.truth)
        assert np.array_equal(one.delays_s, other.delays_s)
        assert bool(one.truth) == (not one.kind.startswith(("equal", "spread")))
