"""Paths of files to read: relative to the TOML file, or to the current folder on the command line."""

import os
from pathlib import Path

import numpy as np
import pytest
from outcomes import assert_replays

from pdcode import problems
from pdcode.__main__ import main
from pdcode.config import load as configfile
from pdcode.config.write import to_toml
from pdcode.util.errors import InputError

JOB = """
[problem]
kind = "least-squares"
data = "data/a.npz"
[stragglers]
kind = "trace"
path = "../delays.csv"
[stop]
updates = 2
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in a folder that is not the current one."""
    folder, here = tmp_path / "jobs", tmp_path / "here"
    (folder / "data").mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    (folder / "job.toml").write_text(JOB)
    np.savez(folder / "data" / "a.npz", x=np.eye(20), y=np.arange(20) / 7)
    (tmp_path / "delays.csv").write_text("0.001,0.002\n0.003,0.004\n")
    return folder / "job.toml"


def test_paths_of_a_file_are_relative_to_its_folder(job: Path) -> None:
    for path in (job, Path(os.path.relpath(job))):
        config = configfile.load(path)[0]
        assert config.problem.data == str(job.parent / "data" / "a.npz")
        assert config.stragglers.reads == str(job.parents[1] / "delays.csv")
    assert config.trace.path == "results/trace.h5"


def test_paths_of_the_command_line_are_relative_to_the_current_folder(job: Path, tmp_path: Path) -> None:
    overrides = ["problem.data=b.npz", "stragglers={kind = 'trace', path = 'c.csv'}"]
    config = configfile.load(job, overrides)[0]
    assert config.problem.data == str(tmp_path / "here" / "b.npz")
    assert config.stragglers.reads == str(tmp_path / "here" / "c.csv")
    plugin = tmp_path / "here" / "mine.py"
    plugin.write_text("")
    assert configfile.load(job, ["plugins=['mine.py']"])[0].plugins == [str(plugin)]
    with pytest.raises(InputError, match=f"no such file: '{tmp_path}/here/b.npz'"):
        problems.load(config.problem)


def test_bundled_data_are_no_paths(job: Path) -> None:
    assert configfile.resolve({"problem": {"data": "diabetes"}}, (), job.parent).problem.data == "diabetes"
    assert configfile.load(job, ["problem.data=digits"])[0].problem.data == "digits"


def test_a_written_configuration_works_anywhere(job: Path, tmp_path: Path) -> None:
    config = configfile.load(job)[0]
    other = tmp_path / "other.toml"
    other.write_text(to_toml(config))
    assert configfile.load(other)[0] == config


def test_a_trace_replays_from_another_folder(job, tmp_path, monkeypatch, capsys):
    assert main(["simulate", str(job), "-n", "3", "-o", "a.h5"]) == 0
    printed = capsys.readouterr().out
    assert "regression, 1 target; 16 training rows of 20 inputs" in printed
    assert "delays of 2 workers: worker i of 3 takes the delays of recorded worker i mod 2" in printed
    monkeypatch.chdir(tmp_path)
    assert_replays("here/a.h5", capsys)
    (job.parent / "data" / "a.npz").rename(tmp_path / "gone.npz")
    assert main(["replay", "here/a.h5"]) == 2
    assert f"no such file: '{job.parent}/data/a.npz'" in capsys.readouterr().err
