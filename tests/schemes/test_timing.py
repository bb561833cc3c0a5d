"""Every scheme of the registry without numerics: the same times as with them."""

from pathlib import Path

import numpy as np
import pytest

from pdcode.__main__ import main
from pdcode.config import kinds
from pdcode.trace.reader import TraceReader

JOB = """
seed = 3
[problem]
data = "digits"
hidden = [16]
batch = 16
evaluate = 100
[optimizer]
rate = 0.001
[workers]
count = 6
[stragglers]
kind = "shifted-exponential"
mean_s = 0.003
[stop]
updates = 25
[trace]
path = "a.h5"
"""
MODES = {"streaming": ("first", "async", "all")}
LINEAR = ["--set", "problem.kind=logistic", "--set", "problem.data=breast-cancer"]
LINEAR += ["--set", "problem.standardise=true"]


@pytest.mark.every(6)
@pytest.mark.parametrize("scheme", [name for name in kinds.names("schemes") if name != "differences"])
def test_times_are_those_with_numerics(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.toml").write_text(JOB)
    for mode in MODES.get(scheme, ("",)):
        options = ["--set", f"scheme.name={scheme}", *(["--set", f"update.mode={mode}"] if mode else [])]
        options += LINEAR if scheme in ("mds", "byzantine", "lagrange") else []
        assert main(["simulate", "job.toml", *options, "-o", "whole.h5"]) == 0
        assert main(["simulate", "job.toml", *options, "-o", "times.h5", "--timing-only"]) == 0
        whole, times = TraceReader("whole.h5"), TraceReader("times.h5")
        for table, columns in (
            ("arrivals", ("worker", "version", "status", "part", "t_recv_ns", "bytes_up", "bytes_down")),
            ("updates", ("version", "t_ns")),
        ):
            for column in columns:
                found, expected = getattr(times, table)[column], getattr(whole, table)[column]
                np.testing.assert_array_equal(found, expected, f"{table}/{column}")
