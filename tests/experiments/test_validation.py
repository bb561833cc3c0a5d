"""The validation of the clock: its statistics, what it writes before it measures, and how it resumes."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from outcomes import error_line

from experiments import validate, validation
from experiments.validation import HALF, PARTS, Library, Predictions, Times
from experiments.validation_table import Judged, error, interval, judge, magnitude, order
from pdcode import Trace
from pdcode.__main__ import main, run_command
from pdcode.studies.goal import Goal
from pdcode.virtual import calibration


def times(first: float, targets: list[float], parts: tuple[float, ...] = (1, 1, 1, 1, 1)) -> Times:
    return Times(targets, [first + each for each in range(101)], dict(zip(PARTS, parts, strict=True)))


def judged(cell: str, predicted: list[float], measured: list[float]) -> Judged:
    return Judged(("MPI", cell), times(0, predicted), times(0, measured))


@pytest.mark.parametrize(
    ("values", "bounds"),
    [(range(19, 0, -1), (2, 18)), (range(9), (0, 8)), (range(1, 100), (10, 90)), ([3.0], (3, 3))],
)
def test_a_further_value_is_in_the_interval_with_four_fifths(values, bounds):
    assert interval(list(values)) == bounds


@pytest.mark.parametrize(
    ("predicted", "measured", "expected", "rank"),
    [
        (1.1, 1.0, 0.1, math.log(1.1)),
        (0.5, 1.0, -0.5, math.log(2)),
        (math.inf, 1.0, math.inf, math.inf),
        (1.0, math.inf, -1.0, math.inf),
        (math.inf, math.inf, math.nan, -1),
    ],
)
def test_half_as_long_is_as_wrong_as_twice_as_long(predicted, measured, expected, rank):
    found = error(predicted, measured)
    np.testing.assert_allclose([found, magnitude(found)], [expected, rank])


def test_figures_of_a_cell_are_those_computed_by_hand():
    # Predicted quantiles are 0, …, 100, and measured ones 10, …, 110: those up to 90 are within 10 to 90.
    cell = Judged(
        ("MPI", "4-none-all"),
        times(0, [*range(1, 20)], (1, 0, 2, 0, 1)),
        times(10, [2, 18, 19, 1], (2, 0, 2, 0, 1)),
    )
    assert cell.steps_within == 81 / 101
    assert cell.distance == pytest.approx(10 / 101)
    assert cell.runs_within == 2
    assert cell.part_error("compute") == -1 / 5
    np.testing.assert_allclose(
        cell.errors, [50 / 60 - 1, math.exp(np.log(range(1, 20)).mean()) / 684**0.25 - 1]
    )
    assert math.isnan(Judged(("MPI", HALF), cell.predicted, cell.measured).errors[1])


def test_orders_agree_by_kendalls_tau_and_the_worst_cell_is_the_first():
    cells = [
        judged("4-none-all", [3.0], [3.0]),
        judged("4-none-first", [2.0], [1.0]),
        judged("4-none-async", [1.0], [2.0]),
    ]
    tau, *texts = order(cells)
    assert tau == pytest.approx(1 / 3)  # one of three pairs is the other way round
    assert texts == ["async < first < all", "first < async < all"]
    made = Predictions(
        {}, "", {"MPI": Library("", 1.0, {}, {HALF: times(30, [math.inf])})},
        {"MPI": {each.key[1]: each.predicted for each in cells} | {HALF: times(0, [math.inf])}},
    )  # fmt: skip
    found = {each.key: [each.measured] for each in cells}
    named = [each.key[1] for each in judge(made, found)]
    assert named[:2] in (["4-none-first", "4-none-async"], ["4-none-async", "4-none-first"])
    assert named[2:] == [HALF, "4-none-all"]
    pooled = Times.pooled([times(0, [1.0]), times(0, [4.0])])
    assert (pooled.mean_target_s, pooled.step_s) == (2, 50)
    assert Times.from_json(pooled.to_json()) == pooled
    assert Times.from_json(times(0, [math.inf]).to_json()).target_s == [math.inf]


def test_parts_sum_to_the_time_of_an_update_in_a_run_and_in_its_halves(tmp_path: Path) -> None:
    tables = '[problem]\nkind="softmax"\ndata="digits"\n[workers]\ncount=3\n[update]\nmode="first"\ncount=2\n'
    tables += '[stragglers]\nkind="shifted-exponential"\nmean_s=0.01\n[stop]\nupdates=60\n'
    (tmp_path / "t.toml").write_text(tables)
    assert main(["simulate", str(tmp_path / "t.toml"), "-o", str(tmp_path / "t.h5")]) == 0
    trace, goal = Trace(tmp_path / "t.h5"), Goal("loss", 0.01)
    stopped_s = 1e-9 * trace.updates["t_ns"][-1]
    half, until_ns = validation.first_half(trace)
    assert len(half.updates["t_ns"]) == 31
    assert half.arrivals["t_decoded_ns"].max() <= until_ns < trace.arrivals["t_decoded_ns"].max()
    assert calibration.times(half, np.inf).compute == calibration.times(trace, np.inf).compute
    whole, rest = Times.of(trace, goal), Times.of(trace, goal, until_ns)
    assert sum(whole.parts_s.values()) == pytest.approx(stopped_s / 60, rel=1e-3)
    assert sum(rest.parts_s.values()) == pytest.approx((stopped_s - 1e-9 * until_ns) / 29, rel=1e-3)
    assert rest.parts_s["delay"] > rest.parts_s["compute"]
    assert whole.target_s == [math.inf]
    assert whole.step_s == pytest.approx(1e-9 * np.median(np.diff(trace.updates["t_ns"])), rel=0.1)


def run(options):
    return run_command(options, validate.parser())


@pytest.mark.slow
@pytest.mark.usefixtures("on_pool")
def test_predictions_are_written_before_the_runs_which_resume(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(validation, "CALIBRATIONS", dict.fromkeys(validation.CALIBRATIONS, 40))
    monkeypatch.setattr(validation, "SEEDS", 3)
    folder, runs = tmp_path / "made", []
    written, over_mpi = folder / "prediction.json", validation.run_over_mpi

    def counted(trial, launcher):
        runs.append((trial.seed, written.exists()))
        return over_mpi(trial, launcher)

    monkeypatch.setattr(validation, "run_over_mpi", counted)
    asked = ["--workers", "2", "--cells", "2-exponential-coded,2-none-all"]
    asked += ["--set", "stop.loss=1.5", "--seeds", "1", "--processes", "1", "-o", str(folder)]
    assert run([*asked, "--seconds", "0"]) == 0
    assert runs == [(1000, False)] * 2
    out = capsys.readouterr().out
    assert "plan: simulations, about " in out
    assert "runs over MPI: 2, about " in out
    assert "--seconds 0: 0 of 2 runs; the same command continues" in out
    digest = hashlib.sha256(written.read_bytes()).hexdigest()
    assert (folder / "prediction.json.sha256").read_text() == f"{digest}  prediction.json\n"
    predicted = json.loads(written.read_text())["times"]
    ((label, cells),) = predicted.items()
    assert [*cells] == [HALF, "calibration-2-none", "2-exponential-coded", "2-none-all"]
    assert len(cells["2-none-all"]["target_s"]) == 3
    assert run(asked) == 0
    assert runs[2:] == [(1, True), (1, True)]
    shown = capsys.readouterr().out
    assert f"predictions: {written}, SHA-256 {digest}" in shown
    rows = [line.split() for line in shown.splitlines() if line.strip().startswith(label)]
    shown_cells = {word for row in rows for word in row}
    assert {"2-exponential-coded", "2-none-all", HALF, "calibration-2-none"} <= shown_cells
    assert "time to loss 1.5: error " in shown
    assert run([*asked, "--tolerance", "1e-9"]) == 1
    assert len(runs) == 4  # from the journal
    assert capsys.readouterr().out.partition("Predicted")[2] == shown.partition("Predicted")[2]
    assert run([*asked, "--set", "stop.loss=1.4"]) == 2
    assert "is there, of another bench" in error_line(capsys)
    written.write_text(written.read_text().replace('"load": 0.0', '"load": 0.1', 1))
    assert run(asked) == 2
    assert "was changed after it was written" in error_line(capsys)
    written.write_text("{}")
    assert run(asked) == 2
    assert "damaged, remove it" in error_line(capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cells", "8-*,9-*"], "--cells 9-*: matches none of 4-exponential-all, "),
        (["--workers", "0"], "--workers 0: expected numbers from 1 to 256, separated by commas"),
        (["--mpirun", "nosuch"], "nosuch: not a program"),
        (["--mpirun", ","], "--mpirun : there twice"),
        (["--seeds", "0"], "--seeds 0: expected 1 to 1000"),
        (["--tolerance", "-1"], "--tolerance -1: expected 0 or more"),
        (["--set", "link.width=1"], "link.width: unknown key"),
        (["--set", "workers.count=3"], "--set workers.count: give --workers"),
        (["--set", "link.bandwidth=fast"], "link.bandwidth: expected a rate"),
    ],
)
def test_bad_input_is_one_line(options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(options) == 2
    assert message in error_line(capsys)
    assert not [*tmp_path.iterdir()]
