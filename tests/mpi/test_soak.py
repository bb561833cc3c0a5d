"""A short soak: the command that runs a long one, and what it calls growth."""

import sys
from pathlib import Path

import pytest
from outcomes import faults_of
from paths import ROOT

sys.path.insert(0, str(ROOT / "tests" / "soak"))

from soak import Held, Soak, soak, told

TIMES = [10.0 * number for number in range(40)]


@pytest.mark.system
def test_a_run_survives_faults_of_all_kinds(tmp_path: Path) -> None:
    done = soak(tmp_path, arrivals=6000, every=500, record="all")  # a death is noticed after a second
    assert done.exitcode == 0, done.output
    kinds = [kind for kind in done.trace.faults["kind"] if kind in ("dead", "joined")]
    assert kinds == ["dead", "joined"]  # whoever took the place has not died of the same fault again
    assert done.trace.arrivals.rows >= 6000
    assert done.faults == 11
    assert {0, 1, 2, 3, 4} <= done.held.keys()
    assert done.left == set()
    assert "in /faults: 1 dead" in told(done)


def test_spare_ranks_that_nobody_needs_are_let_go(tmp_path: Path) -> None:
    done = soak(tmp_path, arrivals=500, every=500)
    assert done.exitcode == 0, done.output
    assert (done.faults, faults_of(done.trace)) == (0, [])


def held(leak: float = 0.0, files: int = 20) -> Soak:
    most = {at_s: Held(60 + leak * at_s + 10 * (at_s > 30), files + (at_s > 300), 3) for at_s in TIMES}
    return Soak(0, 0, None, TIMES, {0: dict.fromkeys(TIMES, Held(90.0, 20, 3)), 1: most}, set(), "")  # type: ignore[arg-type]


def test_memory_that_is_not_given_back_is_growth() -> None:
    flat = held()._replace(held={1: {at_s: Held(60 + 10 * (at_s > 30), 20, 3) for at_s in TIMES}})
    assert flat.grown() == []
    assert held(leak=0.1).grown() == [1]
    assert held().grown() == [1]  # a file more
