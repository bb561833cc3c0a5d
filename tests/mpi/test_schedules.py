"""Schedules of simulated ranks: all end and replay; a seed gives the same run; what seeds have found."""

import os
import subprocess
import sys

import pytest
from paths import ROOT

SOAK = ROOT / "tests" / "soak"
TIMEOUT_S = 300

ALL = "default first 'first auto' quorum all async relayed topk ringmaster sharded-first"
FOUND = {
    "a run whose workers all die before a reply ended, replayed, before the deaths": (624, ALL),
    "a run that more workers resumed before its first event replayed as one of its own": (2159, ALL),
    "a run that fewer workers resumed had rows of the workers that were gone": (20059, "first async"),
    "after a resumption the replay's tasks began at the last reply": (3028, "quorum"),
    "a step by time before a death came after it": (3019, "quorum"),
    "a step by time after the last reply was missing": (5032, ALL),
    "the delay of a task with a number beyond that of replies was another task's": (10594, ALL),
}
"""What was wrong with a schedule: its seed, and the cases that it was drawn from."""


def schedules(*words: str, hashes: str = "0") -> str:
    """Run schedules in a process of their own; return what they print."""
    command = [sys.executable, str(SOAK / "schedules.py"), *words]
    environment = {**os.environ, "PYTHONHASHSEED": hashes}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.every(2)
@pytest.mark.parametrize("first", range(0, 48, 12))
def test_random_schedules(first: int) -> None:
    assert "12 of 12 schedules, 0 bad" in schedules(f"first={first}", "n=12")


def test_a_seed_gives_the_same_run() -> None:
    assert schedules("n=3", hashes="1") == schedules("n=3", hashes="2")


@pytest.mark.parametrize("what", FOUND)
def test_what_a_seed_has_found(what: str) -> None:
    seed, cases = FOUND[what]
    assert "1 of 1 schedules, 0 bad" in schedules(f"first={seed}", "n=1", f"cases={cases}")
