"""`pdcode run --dry-run`: what the defaults come to, and what the data are taken for."""

import os
import signal
import tomllib
from pathlib import Path

import h5py
import origins
import pytest

from pdcode.__main__ import main
from pdcode.cli import guard

JOB = """
[problem]
kind = "least-squares"
data = "synthetic"
density = 0.2
standardise = true
dtype = "float64"
[code]
blocks = 4
[memory]
kind = "difference"
[update]
mode = "first"
[stop]
updates = 3
"""


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    assert main(["run", str(path), "--dry-run", "-n", "8"]) == 0
    return capsys.readouterr().out


def test_defaults_that_depend_on_other_keys_are_filled_in(printed: str, tmp_path: Path) -> None:
    tables = tomllib.loads(printed)
    assert tables["decoder"] == {"kind": "summing"}
    assert tables["wire"] == {"dtype": "float64"}
    assert (tables["update"]["mode"], tables["update"]["count"]) == ("first", 6)
    (tmp_path / "again.toml").write_text(printed)
    assert main(["run", str(tmp_path / "again.toml"), "--dry-run"]) == 0


def test_each_key_has_its_origin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = tmp_path / "job.toml"
    job.write_text(JOB)

    def of(*settings: str) -> dict[str, str]:
        sets = [word for each in settings for word in ("--set", each)]
        assert main(["run", str(job), "--dry-run", "-n", "8", *sets]) == 0
        return origins.of(capsys.readouterr().out)

    found = of("seed=1", "link={latency_s=1e-4}")
    assert (found["problem.density"], found["stop.updates"]) == ("file", "file")
    assert (found["seed"], found["workers.count"], found["link.latency_s"]) == ("command line",) * 3
    assert (found["problem.sampling"], found["link.bandwidth"]) == ("default", "default; 1 GB/s, 8 Gbit/s")
    assert found["decoder.kind"] == "by memory.kind"
    assert found["wire.dtype"] == "by problem.dtype"
    assert found["update.count"] == "by workers.count"
    found = of("scheme.name=uncoded", "code.blocks=1")
    assert (found["scheme.name"], found["code.blocks"]) == ("command line", "command line")
    assert (found["memory.kind"], found["code.family"]) == ("scheme uncoded", "scheme uncoded")
    job.write_text("[scheme]\npreset = 'default'\n[optimizer]\nrate = 1.0\n[stop]\nupdates = 3\n")
    found = of("problem.batch=0")
    assert (found["code.blocks"], found["downlink.kind"]) == ("preset default", "preset default")
    assert (found["code.whiten"], found["optimizer.rate"]) == ("auto, by the data", "auto, by the data")
    assert (found["memory.lookahead"], found["code.share"]) == ("auto, by the data", "auto, by the link")


def test_what_the_data_are_taken_for(printed: str) -> None:
    assert "#   synthetic: regression, 1 target; 800 training rows of 20 inputs\n" in printed
    assert "#   sparse inputs are scaled to largest magnitude 1, not centred, to stay sparse\n" in printed


def test_codes_over_data_are_no_codes_over_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.toml").write_text("[stop]\nupdates = 3\n")
    assert main(["run", str(tmp_path / "job.toml"), "--dry-run", "--set", "scheme.name=cyclic"]) == 0
    printed = capsys.readouterr().out
    assert "#   none over blocks: a task combines the gradients of 2 of 8 shards\n" in printed
    assert "uncoded" not in printed.partition("# Codes\n")[2].partition("# Problem")[0]


@pytest.mark.parametrize("key", ["problem.data", "stragglers.path"])
@pytest.mark.parametrize("command", [["run", "--dry-run"], ["simulate"]])
def test_a_file_on_which_hdf5_crashes_is_told(tmp_path, monkeypatch, capsys, key, command):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = [1.0]
    (tmp_path / "job.toml").write_text("[stop]\nupdates = 3\n")
    monkeypatch.setattr(guard, "_read_all", lambda path: os.kill(os.getpid(), signal.SIGKILL))
    kind = ["--set", "stragglers.kind=trace"] if key == "stragglers.path" else []
    out = ["-o", str(tmp_path / "t.h5")]
    assert main([*command, str(tmp_path / "job.toml"), *kind, "--set", f"{key}={tmp_path}/a.h5", *out]) == 2
    assert "a.h5: damaged: HDF5 crashes or does not end" in capsys.readouterr().err


def test_a_simulation_is_described_as_its_run_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the costs that it has: another file's."""
    job, costs = tmp_path / "job.toml", tmp_path / "costs.toml"
    job.write_text(JOB)
    costs.write_text('link = { bandwidth = "100 Mbit/s" }\n')
    assert main(["run", str(job), "--dry-run"]) == 0
    described = capsys.readouterr().out
    command = ["simulate", str(job), "--dry-run", "-o", str(tmp_path / "o.h5")]
    assert main(command) == 0
    simulated = capsys.readouterr().out.splitlines()
    assert [line for line in described.splitlines() if line not in simulated] == [
        line for line in described.splitlines() if line.startswith("path = ")
    ]
    assert main([*command, "--cost", str(costs)]) == 0
    assert "bandwidth = 12500000.0          # options; 12.5 MB/s, 100 Mbit/s" in capsys.readouterr().out
    assert not (tmp_path / "o.h5").exists()
