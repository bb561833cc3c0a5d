"""`pdcode compare --clock mpi`: runs over MPI, one after another, a run that fails among them."""

from pathlib import Path

import pytest

from pdcode.__main__ import main
from pdcode.studies.comparison import Comparison

JOB = """
problem = {kind = "least-squares", data = "synthetic", samples = 60, features = 12, outputs = 6, batch = 8}
workers = {count = 2}
optimizer = {rate = 0.1}
stop = {loss = 1.0, seconds = 5.0}
trace = {progress_s = 0.02}
stragglers = {kind = "slow-set", shift_s = 0.002, slow = [1], slowdown = 5}
"""


@pytest.mark.system
@pytest.mark.usefixtures("on_pool")
def test_real_runs_are_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("job.toml").write_text(JOB, encoding="utf-8")
    schemes = "uncoded:first,powersgd/scheme.options.rank=2,uncoded/optimizer.rate=1e9"
    command = ["compare", "job.toml", "--schemes", schemes, "--seeds", "1", "--clock", "mpi", "--keep"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "3 schemes over MPI, to training loss 1" in text
    assert "uncoded/optimizer.rate=1e9, seed 1: diverged, loss " in text
    assert "repeat a run: pdcode run results/job.compare/uncoded-first.toml --set seed=1" in text
    made = Comparison.load("results/job.compare.h5")
    first, powersgd, diverged = (row[0] for row in made.measured)
    assert 0 < first.seconds <= first.stop_s < 5
    assert 0 < powersgd.seconds <= powersgd.stop_s < 5
    assert first.stop_s <= first.job_s < first.stop_s + 1
    assert 0 <= powersgd.samples - 2 * 8 * powersgd.updates <= 16  # of an update that the stop cut off
    assert diverged.failed
    assert main(["compare", "job.toml", "--schemes", schemes, "--seeds", "1", "-o", "virtual.h5"]) == 0
    assert main(["show", "results/job.compare.h5", "virtual.h5"]) == 0
    assert "Order of the 3 schemes that both have: Kendall's τ = " in capsys.readouterr().out
