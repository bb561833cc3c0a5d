"""`pdcode bench schemes`: its cells, what it makes again, and its table."""

import math
from pathlib import Path

import numpy as np
import pytest
import tuning
from outcomes import error_line

from pdcode.__main__ import main
from pdcode.studies import schemes_bench
from pdcode.studies.comparison import Comparison
from pdcode.studies.tournament import ComparisonRequest, prepare

pytestmark = pytest.mark.slow

SCHEMES = "lwpd:default,uncoded:async,topk/downlink.kind=exchange"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(schemes_bench.PROBLEMS, "digits", ({"data": "digits", "hidden": [16]}, 2.0, 0.1))
    monkeypatch.setattr(schemes_bench, "MAX_PAYLOADS", 500)
    tuning.without_runs(monkeypatch, schemes_bench.TUNING_SEEDS)
    return tmp_path / "made"


def test_cells_are_made_once_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "schemes", "--problems", "digits", "--links", "1G", "--delays", "none,persistent"]
    command += ["--schemes", SCHEMES, "--seeds", "2", "--tune", "3", "--processes", "1", "-o", str(folder)]
    assert main(command) == 0
    text = capsys.readouterr().out
    files = sorted(path.name for path in folder.glob("*.h5"))
    assert files == ["digits-1G-none.h5", "digits-1G-persistent.h5", "digits-1G-rates.h5"]
    lines = {tuple(line.split()[:2]): line for line in text.splitlines()}
    made = Comparison.load(folder / "digits-1G-persistent.h5")
    our_preset, *rivals = (np.log([each.seconds for each in row]).mean() for row in made.measured)
    least = math.exp(min(rivals) - our_preset)
    assert f"{least:.2f}×" in lines["1Gbit/s", "persistent"]
    assert main(command) == 0
    again = capsys.readouterr().out
    assert again.count("there already") == 3
    fewer = "lwpd:default,topk/downlink.kind=exchange"
    for other in (["--seeds", "1"], ["--tune", "4"], ["--schemes", fewer]):
        assert main([*command, *other]) == 2
        assert "is there, of another bench; use another folder" in capsys.readouterr().err
    assert again.partition("digits, time")[2] == text.partition("digits, time")[2]


def test_no_other_file_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    (folder / "digits-1G-none.h5").write_text("precious")
    command = ["bench", "schemes", "--problems", "digits", "--links", "1G", "--delays", "none"]
    command += ["-o", str(folder)]
    assert main(command) == 2
    assert "the existing file is not a comparison" in capsys.readouterr().err
    assert (folder / "digits-1G-none.h5").read_text() == "precious"


def test_recorded_delays_are_in_units_of_a_gradients_time(folder: Path) -> None:
    recorded = folder.parent / "recorded"
    recorded.mkdir()
    np.savetxt(recorded / "job.csv", [[0.2, 0.2], [0.2, 0.6], [0.4, 0.1]], delimiter=",")
    found = schemes_bench.recorded_delays(recorded)
    bench = schemes_bench.SchemesBench(
        ["digits"], ["1G"], found | schemes_bench.DELAYS, 1, 3, ["uncoded:async"], folder
    )
    first = [path.name for path, *_ in schemes_bench._cells(bench)][
        :3
    ]  # rates of three workers are their own
    assert first == ["digits-1G-rates-3.h5", "digits-1G-rates.h5", "digits-1G-recorded-job.h5"]
    (delays,) = found.values()
    job = schemes_bench.write_job(folder, "digits", "1G", "job", delays, schemes_bench.worker_count(delays))
    made = prepare(ComparisonRequest(str(job), "uncoded:async", [], 1, "virtual"), folder)
    config = made.candidates[0].config
    assert config.workers.count == 3
    times = np.loadtxt(folder / "digits-1G-job.csv", delimiter=",")
    np.testing.assert_allclose(times / times.min(), [[2, 2], [2, 6], [4, 1]])
    machine, size = config.machine, 65 * 16 + 17 * 10
    assert (
        machine.flops_per_s == 2 * schemes_bench.FLOPS_PER_S
    )  # the fastest task takes half a gradient's time
    of_a_gradient = schemes_bench.FLOPS_PER_S * (np.median(times) - 2 * machine.task_s)
    assert 4 * 32 * size < of_a_gradient < 8 * 32 * size


def test_every_candidate_runs_in_every_problem(folder: Path) -> None:
    for name, delays in schemes_bench.DELAYS.items():
        job = schemes_bench.write_job(folder, "digits", "10M", name, delays, 16)
        made = prepare(
            ComparisonRequest(str(job), ",".join(schemes_bench.candidates()), [], 1, "virtual"), folder
        )
        assert made.names == schemes_bench.candidates()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--problems", "nosuch"], "--problems nosuch: expected some of mnist5k, digits, deep"),
        (["--delays", "nosuch"], "--delays nosuch: expected some of exponential"),
        (["--schemes", "nosuch"], "--schemes nosuch: expected some of lwpd:default"),
        (["--delays", "."], "--delays .: no CSV files in it"),
        (["--schemes", "uncoded:async"], "--schemes: 'lwpd:first' is missing, which is ours in 100Gbit/s"),
        (["--tune", "2"], "--tune 2: expected 3 to 99"),
        (["--seeds", "0"], "--seeds 0: expected 1 to 1000"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, options, message):
    assert main(["bench", "schemes", *options]) == 2
    assert message in error_line(capsys)
