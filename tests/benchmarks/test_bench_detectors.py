"""The benchmark of detectors: what it puts in, and what it counts as right."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import detectors, rules


def test_one_kind_of_cause_is_found_and_priced(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--seeds", "1", "--first-seed", "1", "--kinds", "regularly; equal"
    assert benchmarks.main(["detectors", *options]) == 0
    rows = [re.split(r"\s\s+", line.strip()) for line in capsys.readouterr().out.splitlines()[1:] if line]
    header, lines = rows[0], {kind: found for kind, *found in rows[1:]}
    assert header == ["cases", "number", "pdcode", *rules.RULES, "cost off by, points", "covered, %"]
    assert lines["regularly"][:2] == ["3", "100.0"]
    assert len(lines["regularly"]) == len(header) - 1
    assert len(lines["equal"]) == len(header) - 3  # equal workers cost nothing


def test_bad_options_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.main(["detectors", "--kinds", "sometime"]) == 2
    assert "--kinds: expected one of " in (error := capsys.readouterr().err)
    assert "did you mean 'sometimes'?" in error
    assert benchmarks.main(["detectors", "--seeds", "0"]) == 2
    assert "--seeds: expected an integer >= 1 (got 0)" in capsys.readouterr().err
    assert benchmarks.main(["detectors", "--first-seed", "-1"]) == 2
    assert "--first-seed: expected an integer >= 0 (got -1)" in capsys.readouterr().err


def test_policy_with_which_a_verdict_begins_is_no_alarm(tmp_path: Path) -> None:
    delays_s = detectors.noise("exponential", np.random.default_rng(0))
    trace = detectors.simulate(tmp_path, delays_s, "all", {})
    assert trace.diagnose().causes[0].name == "the policy"
    assert detectors.named(trace) == (set(), None)
    slow = detectors.simulate(tmp_path, delays_s, "all", {"faults.events": detectors.slow(3, 1.5)})
    said, cause = detectors.named(slow)
    assert said == {3}
    assert cause is not None
    assert cause.name == "workers"


def test_rules_name_what_their_descriptions_say() -> None:
    """Of 8 workers and 120 tasks worker 2 is slow, by a factor, in a part of the run, or none is."""

    def by(factor: float, part: slice = slice(None)) -> set[str]:
        times = np.random.default_rng(0).normal(1.0, 0.01, (8, 120))
        times[2, part] *= factor
        found = {name: rule([*times]) for name, rule in rules.RULES.items()}
        assert {*map(frozenset, found.values())} <= {frozenset(), frozenset({2})}
        return {name for name, named in found.items() if named}

    assert by(1.0) == set()
    assert by(1.08) == set()
    assert by(1.2) == {"TraceML", "ByteDance"}
    assert by(1.4) == {"TraceML", "ByteDance", "NVRx, relative"}
    assert by(1.6) == {*rules.RULES} - {"NVRx, individual", "Greyhound"}
    assert by(1.2, slice(60, None)) == {"Greyhound"}
    assert by(1.5, slice(60, None)) == {"Greyhound", "NVRx, individual", "TraceML", "ByteDance"}
    assert by(1.08, slice(60, None)) == set()


def test_cases_of_a_seed_are_the_same_and_have_a_cause_each() -> None:
    drawn = [[*detectors.cases(np.random.default_rng(3))] for _ in range(2)]
    for one, other in zip(*drawn, strict=True):
        assert (one.kind, one.truth) == (other.kind, other.truth)
        assert np.array_equal(one.delays_s, other.delays_s)
        assert bool(one.truth) == (not one.kind.startswith(("equal", "spread")))
