"""The main job: every policy reaches its target, and asynchronous descent sooner than waiting for all."""

from pathlib import Path

import pytest
from launches import run_all
from paths import JOBS

import pdcode
from pdcode import Trace

JOB = (JOBS / "digits.toml").read_text(encoding="utf-8")


@pytest.mark.system
def test_all_policies_reach_the_target_and_async_does_so_sooner_than_all(tmp_path: Path) -> None:
    modes = ("async", "first", "captured", "all")
    common = "stragglers.slow=[3]", "stop.loss=0.1", "stop.seconds=80.0"
    cases = {mode: [f"update.mode={mode}", *common] for mode in modes}
    sooner_s = {}
    for mode, done in run_all(tmp_path, 4, cases, JOB, timeout_s=200).items():
        assert done.returncode == 0, done.stderr
        progress = Trace(done.path).progress
        assert progress["loss"][-1] <= 0.1
        assert progress["accuracy"][-1] >= 0.93
        sooner_s[mode] = progress["t_ns"][-1] * 1e-9
    assert sooner_s["all"] > sooner_s["async"]


def test_async_is_three_times_sooner_on_the_virtual_clock(tmp_path: Path) -> None:
    sooner_s = {}
    for mode in ("async", "all"):
        changes = [f"update.mode={mode}", "stop.loss=0.1", "stop.seconds=80.0"]
        trace = pdcode.simulate(JOBS / "digits.toml", set=changes, output=tmp_path / f"{mode}.h5")
        sooner_s[mode] = trace.progress["t_ns"][-1] * 1e-9
    assert sooner_s["all"] >= 3 * sooner_s["async"]
