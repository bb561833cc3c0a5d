"""`python -m benchmarks schemes`: its cells, what it makes again, and its table."""

import math
from pathlib import Path

import numpy as np
import pytest
from outcomes import error_line

from benchmarks import schemes
from benchmarks.__main__ import main
from pdcode.studies.comparison import Comparison
from pdcode.studies.measurement import Measured
from pdcode.studies.tournament import ComparisonRequest, prepare
from pdcode.studies.trial import Trial

pytestmark = pytest.mark.slow

SCHEMES = "lwpd:auto,topk:whitened,uncoded:async"
CELLS = "digits-1G-none", "digits-1G-recorded-job"
WHITEN = {"plain": "none", "armed": "auto"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(schemes.PROBLEMS, "digits", ({"data": "digits", "hidden": [16]}, 2.0, 0.1))
    monkeypatch.setitem(schemes.LOWER, "digits", 1.8)
    monkeypatch.setattr(schemes, "MAX_PAYLOADS", 500)
    (tmp_path / "recorded").mkdir()
    np.savetxt(tmp_path / "recorded" / "job.csv", [[0.2, 0.2], [0.2, 0.6], [0.4, 0.1]], delimiter=",")
    return tmp_path / "made"


def command(folder: Path, *options: str) -> list[str]:
    asked = ["schemes", "--problems", "digits", "--links", "1G", "--delays", "none,recorded"]
    asked += ["--schemes", SCHEMES, "--seeds", "2", "--budget", "4", "--processes", "1", "-o", str(folder)]
    return [*asked, *options]


def test_cells_resume_where_they_stopped_and_are_made_once_and_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    perform = Trial.perform

    def counted(trial: Trial) -> Measured:
        if len(runs) == 8:
            runs.append(trial)
            raise KeyboardInterrupt
        runs.append(trial)
        return perform(trial)

    monkeypatch.setattr(Trial, "perform", counted)
    assert main(command(folder)) == 1
    journal = folder / f"{CELLS[0]}.journal"
    done = journal.read_text()
    assert len(done.splitlines()) == 7  # the first run was for the estimate
    journal.write_text(done + "half a li")
    capsys.readouterr()
    assert main(command(folder)) == 0
    text = capsys.readouterr().out
    assert text.startswith("2 cells, 24 runs of tuning at most, others then: about ")
    assert text.count("tuning: at most 4 runs of each scheme, at most 10 in total") == 2
    assert sorted(path.stem for path in folder.glob("*.h5")) == sorted(CELLS)
    assert not journal.exists()
    made = [Comparison.load(folder / f"{cell}.h5") for cell in CELLS]
    tuned = 2 * 10  # `auto` is not tuned
    judged = sum(len(each.names) * len(each.seeds) for each in made)
    assert len(runs) == 9 + 1 + tuned - 7 + judged  # none of the seven again
    for each in made:
        assert {"lwpd:auto", "topk:whitened", "uncoded:async"} == {*each.names}  # each is the best of a group
        assert each.goal is not None
        assert each.goal.level == 2.0
        assert {config.stop.loss for config in each.read_configs("")} == {1.8}
        assert any(run.seconds < run.stop_s for row in each.measured for run in row)
        for row in each.measured:
            assert all(run.seconds <= run.stop_s for run in row if run.reached)
    seconds = dict(
        zip(made[0].names, ([run.spent_s for run in row] for row in made[0].measured), strict=True)
    )
    lead = {
        name: math.exp(np.log(seconds["lwpd:auto"]).mean() - np.log(seconds[name]).mean()) for name in seconds
    }
    (line,) = (line for line in text.splitlines() if line.split()[:3] == ["1G", "none", "lwpd:auto"])
    for rival, label in (("uncoded:async", "asynchronous"), ("topk:whitened", "whitened top-k")):
        assert f"{lead[rival]:.2f}×" in line.partition(label)[2]
    closing = text.splitlines()[-1]
    assert closing.startswith(("goal met: median ", "goal missed: median "))
    assert ("digits-1G-none" in closing) == (max(lead["uncoded:async"], lead["topk:whitened"]) > 1.05)
    count = len(runs)
    assert main(command(folder)) == 0
    again = capsys.readouterr().out
    assert again.count("there already") == 2
    assert again.partition("digits, to training")[2] == text.partition("digits, to training")[2]
    for other in (["--seeds", "1"], ["--budget", "5"], ["--schemes", "lwpd:auto,uncoded:async"]):
        assert main(command(folder, *other)) == 2
        assert "is there, of another bench; use another folder" in capsys.readouterr().err
    assert len(runs) == count


def test_no_other_file_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    (folder / "digits-1G-none.h5").write_text("precious")
    command = ["schemes", "--problems", "digits", "--links", "1G", "--delays", "none"]
    command += ["-o", str(folder)]
    assert main(command) == 2
    assert "the existing file is not a comparison" in capsys.readouterr().err
    assert (folder / "digits-1G-none.h5").read_text() == "precious"


def test_recorded_delays_are_in_units_of_a_gradients_time(folder: Path) -> None:
    (delays,) = schemes.recorded_delays(folder.parent / "recorded").values()
    job = schemes.write_job(folder, "digits", "1G", "job", delays, schemes.worker_count(delays))
    made = prepare(ComparisonRequest(str(job), "uncoded:async", [], 1, "virtual"), folder)
    config = made.candidates[0].config
    assert config.workers.count == 3
    times = np.loadtxt(folder / "digits-1G-job.csv", delimiter=",")
    np.testing.assert_allclose(times / times.min(), [[2, 2], [2, 6], [4, 1]])
    machine, size = config.machine, 65 * 16 + 17 * 10
    assert machine.flops_per_s == 2 * schemes.FLOPS_PER_S  # the fastest task takes half a gradient's time
    of_a_gradient = schemes.FLOPS_PER_S * (np.median(times) - 2 * machine.task_s)
    assert 4 * 32 * size < of_a_gradient < 8 * 32 * size


def test_every_candidate_runs_in_every_problem(folder: Path) -> None:
    for name, delays in schemes.DELAYS.items():
        job = schemes.write_job(folder, "digits", "10M", name, delays, 16)
        made = prepare(ComparisonRequest(str(job), ",".join(schemes.candidates()), [], 1, "virtual"), folder)
        assert made.names == schemes.candidates()
        configs = {each.name: each.config for each in made.candidates}
        for kind, members in schemes.RIVALS.items():
            assert {configs[name].code.whiten for name in members.values()} == {WHITEN[kind]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--problems", "nosuch"], "--problems nosuch: expected some of mnist5k, digits, deep, softmax"),
        (["--delays", "nosuch"], "--delays nosuch: expected some of exponential"),
        (["--schemes", "nosuch"], "--schemes nosuch: expected some of lwpd:auto, lwpd:default"),
        (["--delays", "."], "--delays .: no CSV files in it"),
        (["--schemes", "uncoded:async"], "--schemes uncoded:async: none of them is ours, such as lwpd:"),
        (["--budget", "2"], "--budget 2: expected 3 to 99"),
        (["--seeds", "0"], "--seeds 0: expected 1 to 1000"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, options, message):
    assert main(["schemes", *options]) == 2
    assert message in error_line(capsys)
