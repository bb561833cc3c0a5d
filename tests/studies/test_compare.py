"""`pdcode compare` on a small job: what it runs, measures, prints and writes, and what it refuses."""

import io
import math
import re
import shlex
import signal
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from outcomes import error_line

import pdcode
from pdcode.__main__ import main
from pdcode.config import load as configfile
from pdcode.studies import comparison_file, comparisons_table, measurement, results_table, trial, tuning
from pdcode.studies.candidate import Candidate
from pdcode.studies.comparison import Comparison
from pdcode.studies.goal import Goal
from pdcode.studies.learning_rates import rate_key, rate_of
from pdcode.studies.limits import Limits
from pdcode.studies.measurement import COLUMNS, Measured
from pdcode.studies.named_candidates import named_candidates
from pdcode.studies.tournament import Tournament
from pdcode.studies.trial import Trial
from pdcode.trace.reader import TraceReader
from pdcode.util.errors import Failure, InputError
from pdcode.util.processes import Pool
from pdcode.virtual.fleet import VirtualFleet

pytestmark = pytest.mark.slow

JOB = """
problem = {hidden = [16], batch = 16}
code = {blocks = [8, 1], weight = 2, rows_per_task = 2}
memory = {kind = "worker"}
optimizer = {rate = 0.5}
workers = {count = 4}
stragglers = {kind = "shifted-exponential", shift_s = 0.002, mean_s = 0.004}
trace = {progress_s = 0.01}
[stop]
loss = 1.0
"""
SCHEMES = "yours,uncoded/update.mode=first,topk,cyclic"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_at_once: None) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "job.toml"
    path.write_text(JOB, encoding="utf-8")
    return path


def compared(job: Path, *options: str, schemes: str = SCHEMES, seeds: int = 2) -> Comparison:
    command = ["compare", str(job), "--schemes", schemes, "--seeds", str(seeds), "--processes", "1"]
    assert main([*command, *options]) == 0
    return Comparison.load("results/job.compare.h5")


def made(text: str, wanted: str, *overrides: str) -> list[Candidate]:
    return named_candidates(configfile.parse(text), overrides, Path(), wanted)


@dataclass(frozen=True)
class Made:
    """A comparison that several tests look at."""

    folder: Path  # where the command ran, with the figure `a.png`
    done: Comparison
    text: str  # what it printed


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, text = tmp_path_factory.mktemp("compare"), io.StringIO()
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    with chdir(folder), redirect_stdout(text):
        done = compared(Path("job.toml"), "--figure", "a.png")
    return Made(folder, done, text.getvalue())


@pytest.mark.system
def test_the_same_seeds_give_the_same_table(once, job, capsys):
    assert once.text.count("\n  ") >= len(once.done.names)
    second = compared(job, "--processes", "2")
    again = capsys.readouterr().out
    assert once.text.partition("\n\n")[2].startswith(again.partition("\n\n")[2])
    for one, other in zip(once.done.measured, second.measured, strict=True):
        assert one == other
    assert main(["show", "results/job.compare.h5"]) == 0
    shown = capsys.readouterr().out
    assert shown.strip() in again


def test_a_run_can_be_repeated_by_its_command_and_has_the_figures_of_its_trace(once, monkeypatch):
    monkeypatch.chdir(once.folder)
    done = once.done
    (line,) = (line for line in once.text.splitlines() if line.startswith("repeat a run: "))
    words = shlex.split(line.removeprefix("repeat a run: "))
    assert words[:3] == ["pdcode", "simulate", "results/job.compare/yours.toml"]
    assert not list(Path("results/job.compare").glob("*.h5"))
    assert main(words[1:]) == 0
    trace = TraceReader(words[-1])
    assert measurement.measure(trace, done.goal) == done.measured[0][0]
    seconds, arrivals = done.measured[0][0], trace.arrivals
    assert seconds.bytes_up == arrivals["bytes_up"][arrivals["status"] != 2].sum()
    assert seconds.samples == 16 * np.count_nonzero(arrivals["status"] != 2)
    cyclic = done.measured[done.names.index("cyclic")][0]
    assert cyclic.samples > 2 * 16 * cyclic.updates * 2  # two shards a task
    np.testing.assert_array_equal(done.curves[0][0]["loss"], trace.progress["loss"])


def test_a_target_is_reached_where_the_curve_crosses_it(once: Made) -> None:
    for row, curves in zip(once.done.measured, once.done.curves, strict=True):
        for each, curve in zip(row, curves, strict=True):
            assert math.isfinite(each.seconds)
            reached = np.flatnonzero(curve["loss"] <= 1.0)
            assert curve["t_s"][reached[0] - 1] < each.seconds <= curve["t_s"][reached[0]]
            assert each.seconds <= each.stop_s <= each.job_s
            assert 0 < each.busy < 1
            assert 0.5 < each.stop_s / each.oracle_s < 20


def test_an_optimizer_of_steps_of_one_length_begins_with_its_own_rate() -> None:
    muon = "uncoded:all/optimizer.kind=muon"
    found = made(JOB, f"{muon},{muon}/optimizer.rate=0.3,uncoded:all,dion")
    rates = {each.name: each.config.optimizer.rate for each in found}
    assert (rates[muon], rates[f"{muon}/optimizer.rate=0.3"], rates["dion"]) == (0.02, 0.3, 0.02)
    assert rates["uncoded:all"] > 0.02  # converted from that of the job


def test_traces_are_kept_on_request(job: Path) -> None:
    compared(job, "--keep", schemes="uncoded", seeds=1)
    assert TraceReader("results/job.compare/uncoded-1.h5").finished


def test_the_figure_has_a_band_for_each_scheme(once: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(once.folder)
    assert Path("a.png").stat().st_size > 20_000
    assert main(["show", "results/job.compare.h5", "--figure", "b.png"]) == 0
    assert Path("b.png").read_bytes() == Path("a.png").read_bytes()


def test_a_job_ends_with_its_last_straggler(job: Path) -> None:
    """Worker 3 takes 0.5 s for every task; the stop cuts its delay short, and the job's time does not."""
    slow = "stragglers={kind='slow-set', shift_s=0.01, slow=[3], slowdown=50}"
    done = compared(
        job, "--set", slow, "--set", "optimizer.rate=0.4", schemes="uncoded/update.mode=first", seeds=1
    )
    (each,) = done.measured[0]
    assert each.stop_s < 0.5
    assert each.job_s == pytest.approx(0.5, abs=0.02)


def test_what_is_set_counts_more_than_what_is_fitted(job: Path) -> None:
    assert main(["simulate", str(job), "-o", "recorded.h5", "--set", "machine.arrival_s=2e-5"]) == 0
    Path("cost.toml").write_text("[machine]\narrival_s = 7e-6\n[link]\nbandwidth = 5e8\n")
    for options, arrival_s, bandwidth, kind in (
        (["--link", "1e6", "--stragglers", "recorded.h5"], 2e-5, 1e6, "trace"),
        (["--link", "1e6", "--cost", "cost.toml"], 7e-6, 1e6, "shifted-exponential"),
        (["--cost", "cost.toml", "--set", "machine.arrival_s=1e-6"], 1e-6, 5e8, "shifted-exponential"),
    ):
        done = compared(job, *options, schemes="yours,uncoded", seeds=1)
        (config, _) = done.read_configs("")
        assert (config.machine.arrival_s, config.link.bandwidth) == (arrival_s, bandwidth)
        assert config.stragglers.kind == kind
        assert getattr(config.stragglers, "draw", "block") == "block"
        fitted = "cost.toml" if "--cost" in options else "recorded.h5"
        assert f"Costs: as in {fitted}" in " ".join(done.notes)


def test_keys_of_the_configuration_itself_may_change(job: Path) -> None:
    done = compared(job, "--set", "code.whiten=gram", schemes="yours,yours/code.whiten=norm", seeds=1)
    assert [config.code.whiten for config in done.read_configs("here")] == ["gram", "norm"]


def test_without_a_target_runs_have_as_many_payloads(job: Path) -> None:
    job.write_text(JOB.replace("loss = 1.0", 'updates = 20\n[update]\nmode = "all"'))
    done = compared(job, schemes="yours,uncoded/update.mode=async,uncoded/update.mode=first", seeds=1)
    assert done.goal is None
    assert [row[0].updates for row in done.measured] == [20, 80, round(80 / 3)]
    assert all(row[0].seconds == row[0].stop_s for row in done.measured)


def test_without_a_target_runs_can_have_as_many_epochs(job: Path) -> None:
    """Whatever an update is of rows."""
    job.write_text(JOB.replace("loss = 1.0", "epochs = 2"))
    found = compared(job, schemes="uncoded,local,cyclic", seeds=1)
    epochs = [each.runs[0].samples / 1438 for each in found.rows]
    assert epochs == pytest.approx([2.0] * 3, abs=0.6)


def test_real_runs_are_tuned_at_the_rates_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real run has the configuration of its file, which another process reads."""
    tried = []

    def perform(trial: Trial) -> Measured:
        config, _ = configfile.load(trial.file, [])
        tried.append((config.optimizer.rate, trial.config.optimizer.rate))
        return figures(abs(math.log2(config.optimizer.rate)) + 1.0)

    monkeypatch.setattr(Trial, "perform", perform)
    limits, goal = Limits(1.0, 0.1), Goal("loss", 1.0)
    begun = Tournament(made(JOB, "uncoded:all"), [1], goal, "mpi", limits, tmp_path / "made")
    with Pool(1) as pool:
        how = tuning.Tuning(5, with_knobs=False)
        (entrant,) = tuning.tune(
            begun.candidates, goal, how, begun.tuning_seeds(1), begun.tuning_trial, pool, lambda line: None
        )
    rates = [0.5, 0.125, 2.0, 1.0, 1.414]
    assert tried == [(rate, rate) for rate in rates]
    assert entrant.tuned.rate == 1.0
    assert not list(begun.folder.iterdir())


@pytest.mark.parametrize("worst", ["topk", ""])
def test_a_real_run_that_leaves_nothing_does_not_cost_the_others(job, monkeypatch, capsys, worst):
    def start(arguments: list[str], *more: object) -> None:
        if worst in arguments[1]:
            raise Failure("mpirun: exit code 1")
        assert main(["simulate", *arguments[1:]]) == 0

    monkeypatch.setattr(trial.command, "run_command", start)
    options = ["--schemes", "yours,topk", "--seeds", "2", "--seconds", "5", "--figure", "a.png"]
    assert main(["compare", str(job), "--clock", "mpi", *options]) == 0
    done = Comparison.load("results/job.compare.h5")
    assert [each.failed for row in done.measured for each in row] == [not worst, not worst, True, True]
    assert "topk, seed 1: failed" in (text := capsys.readouterr().out)
    assert text.index("1  yours") < text.index("2  topk")
    assert main(["show", "results/job.compare.h5"]) == 0


def test_learning_rates_are_tuned_on_other_seeds(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job.write_text(JOB.replace("rate = 0.5", "rate = 0.01").replace("loss = 1.0", "loss = 1.8"))
    done = compared(job, "--tune", "3", "--seconds", "1", schemes="yours,local", seeds=1)
    text = capsys.readouterr().out
    assert "tuning: 3 runs of each scheme, 6 in total" in text
    assert "tuning 2 of 6: local, steps 8, dtype None, momentum 0.0, rate 0.1:" in text
    assert "tuning 3 of 6: yours, rate 0.0025:" in text  # it has no knobs
    assert any("yours" in note and "least or largest" in note for note in done.notes)
    assert "seed 1001" in " ".join(done.notes)
    chosen = [(config.scheme.options, config.wire, rate_of(config)) for config in done.read_configs("")]
    other = compared(job, "--rates", "results/job.compare.h5", "-o", "b.h5", schemes="local,yours", seeds=1)
    assert len(other.names) == 2
    taken = Comparison.load("b.h5")
    again = [(config.scheme.options, config.wire, rate_of(config)) for config in taken.read_configs("")]
    assert again == chosen[::-1]
    assert "Learning rates: as in results/job.compare.h5." in taken.notes
    assert main(["compare", str(job), "--schemes", "yours,topk", "--rates", "b.h5"]) == 2
    assert "--rates b.h5: has no scheme 'topk'" in capsys.readouterr().err


def test_a_run_that_diverged_early_is_not_ahead_of_one_that_went_on() -> None:
    made = comparison(slow=[math.inf], diverged=[math.inf])
    made.measured[1][0] = figures(math.inf, stop_s=0.01, loss=math.inf, failed=True)
    assert [row.candidate for row in made.rows] == ["slow", "diverged"]


def test_runs_that_diverged_are_said_to() -> None:
    made = comparison(good=[1.0, 1.1], bad=[math.inf, math.inf])
    made.measured[1][1] = run = figures(math.inf, loss=9.0, failed=True)  # its curve rises
    assert results_table.describe_run(run, None) == "diverged, loss 9"
    first, _ = "".join(results_table.legend(made.rows, made.seeds, "first")).split(";", 1)
    assert first == "Runs diverged, with the loss far above its first: number 2 in 1 of 2"


def test_the_legend_says_what_the_seeds_tell() -> None:
    def legend(made: Comparison) -> str:
        return " ".join(results_table.legend(made.rows, made.seeds, "first"))

    assert legend(comparison(a=[1.0], b=[2.0])).endswith("One seed gives no interval.")
    near = {name: [1.0, 1.1 + 0.01 * place] for place, name in enumerate("abcde")}
    assert "do not distinguish number 2 – 5 from number 1" in legend(comparison(**near, far=[7.0, 7.1]))


def test_streaming_has_as_many_gradients_as_the_others(job: Path) -> None:
    (each,) = made(JOB.replace("loss = 1.0", "updates = 20"), "streaming")
    parts = each.config.code.blocks
    assert each.config.stop.updates == 20 * parts > 20


def test_a_script_gets_the_comparison(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = pdcode.compare(
        job, ["yours", "topk"], seeds=2, processes=1, output="a.h5", set={"stop.loss": 1.5}
    )
    text = capsys.readouterr().out
    assert [*found.names, *found.seeds] == ["yours", "topk", 1, 2]
    assert repr(found) == "<Comparison: 2 schemes on the virtual clock, to training loss 1.5>"
    assert "2 schemes on" not in text  # the table, which the result has
    found.show()
    shown = capsys.readouterr().out
    assert main(["show", "a.h5"]) == 0
    assert capsys.readouterr().out == shown
    frame = found.to_pandas()
    assert frame.loc[("topk", 2), "seconds"] == found.measured[1][1].seconds
    assert len(found.plot().axes) == 2
    html = found._repr_html_()
    assert html.startswith("<p><b>2 schemes on the virtual clock, to training loss 1.5</b></p><table><thead>")
    assert html.index(found.rows[0].candidate) < html.index(found.rows[1].candidate)
    assert "\x1b" not in html
    with pytest.raises(pdcode.InputError, match="give `tune` or `rates`, not both"):
        pdcode.compare(job, "topk", tune=5, rates="a.h5")
    with pytest.raises(pdcode.InputError, match=r"--schemes nosuch: scheme.name: expected one of"):
        pdcode.compare(job, "nosuch", progress=False)


def test_all_is_every_scheme_that_can_run(job: Path) -> None:
    names = [each.name for each in made(JOB, "all")]
    assert {"yours", "uncoded", "lwpd", "lwpd:default", "topk", "cyclic", "local"} <= {*names}
    without = [each.name for each in made(JOB, "all", "wire.dtype=int8")]
    assert "cyclic" not in without
    assert "topk" in without


def test_a_candidate_has_the_tables_of_its_scheme_and_the_rest_in_common() -> None:
    own, coded, uncoded, local = made(JOB, "yours,lwpd:default,uncoded,local", "link.bandwidth=1e7")
    for each in (coded, uncoded, local):
        for key in ("problem", "workers", "stragglers", "machine", "link", "stop", "trace"):
            assert getattr(each.config, key) == getattr(own.config, key)
    assert coded.config.downlink.kind == "exchange"
    assert (uncoded.config.code.family, uncoded.config.memory.kind) == ("uncoded", "none")
    assert (own.rate, coded.rate) == (0.5, 1.5)  # the preset has a rate of its own, for four workers
    assert uncoded.rate == 0.125
    assert (rate_key(local.config), local.config.optimizer.rate) == ("scheme.options.rate", 1.0)
    assert local.at(0.3).config.scheme.options.rate == 0.3
    (changed,) = made(JOB, "topk/scheme.options.share=0.05/optimizer.rate=0.3")
    assert (changed.config.scheme.options.share, changed.rate) == (0.05, 0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--schemes", "nosuch"], "--schemes nosuch: scheme.name: expected one of lwpd, uncoded"),
        (["--schemes", "lwpd:nosuch"], "nosuch"),
        (["--schemes", "topk,topk"], "'topk' is there twice"),
        (["--schemes", "topk,,uncoded"], "expected names of schemes"),
        (["--schemes", "cyclic", "--set", "wire.dtype=int8"], "--schemes cyclic: wire.dtype: 'int8'"),
        (["--schemes", "topk/scheme.options.share=2"], "scheme.options.share"),
        (["--schemes", "topk", "--seeds", "0"], "--seeds 0: expected 1 to 1000"),
        (["--schemes", "topk", "--tune", "2"], "--tune 2: expected 3 to 99"),
        (["--schemes", "topk", "--target", "nan"], "--target nan: expected a number from -1e9"),
        (["--schemes", "topk", "--rates", "job.toml"], "job.toml: a configuration, not a trace"),
        (["--schemes", "topk", "--clock", "mpi", "--cost", "x.toml"], "--cost x.toml: valid only with"),
        (["--schemes", "topk", "--clock", "mpi"], "job.toml: stop.seconds: not given"),
        (["--schemes", "topk", "-o", "job.toml"], "the existing file is not a comparison"),
        (["--schemes", "topk", "--set", "seed=9223372036854775807"], "seed: 9223372036854775807"),
        (["--schemes", "topk", "--set", "faults.events=[{kind='raise', worker=1, task=0}]"], "would end"),
        (["--schemes", "topk", "--stragglers", "none.csv"], "none.csv"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(job, capsys, options, message):
    assert main(["compare", str(job), *options]) == 2
    assert message in error_line(capsys)


def test_a_comparison_needs_an_end(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job.write_text(JOB.replace("loss = 1.0", "seconds = 1.0"))
    assert main(["compare", str(job), "--schemes", "topk"]) == 2
    assert "a comparison needs a target (--target), stop.updates or stop.epochs" in capsys.readouterr().err


def figures(seconds: float, **other: float) -> Measured:
    values = dict.fromkeys(COLUMNS, 1.0) | {"seconds": seconds, "stop_s": min(seconds, 9.0), "failed": False}
    curves = {key: np.array([0.0, 1.0]) for key in measurement.CURVES}
    return Measured(**values | other, curves=curves)  # type: ignore[arg-type]


def comparison(**seconds: list[float]) -> Comparison:
    runs = [[figures(each) for each in row] for row in seconds.values()]
    seeds, goal = list(range(1, 1 + len(runs[0]))), Goal("loss", 0.1, "--target")
    return Comparison([*seconds], [""] * len(runs), seeds, "virtual", goal, runs)


def test_the_order_is_by_targets_reached_then_by_time() -> None:
    made = comparison(slow=[3.0, 4.0], never=[math.inf, 1.0], quick=[1.0, 2.0])
    rows = made.rows
    assert [row.candidate for row in rows] == ["quick", "slow", "never"]
    assert rows[1].speedup.ratio.mean == pytest.approx(math.sqrt(6))
    other = comparison(slow=[1.0, 1.0], quick=[2.0, 2.0], never=[3.0, 3.0], only=[1.0, 1.0])
    assert comparisons_table.agreement(made, other) == (pytest.approx(1 / 3), 3)
    assert math.isnan(comparisons_table.agreement(made, comparison(only=[1.0]))[0])


def test_orders_agree_where_they_differ_in_schemes_that_missed_the_target_alone() -> None:
    made, other = (
        comparison(quick=[1.0, 2.0], slow=[3.0, 4.0], one=[math.inf, first], two=[math.inf, 9.0 - first])
        for first in (2.0, 7.0)
    )
    assert [row.candidate for row in made.rows] != [row.candidate for row in other.rows]
    assert comparisons_table.agreement(made, other) == (pytest.approx(1.0), 4)


@pytest.mark.system
def test_several_comparisons_are_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = {
        "one": comparison(quick=[1.0, 2.0], slow=[3.0, 4.0], never=[math.inf, 1.0]),
        "two": comparison(slow=[1.0, 1.0], quick=[2.0, 2.0], only=[4.0, 4.0]),
        "three": comparison(quick=[1.0, 1.0], slow=[1.5, 1.5]),
    }
    paths = [str(tmp_path / f"{name}.compare.h5") for name in made]
    for path, each in zip(paths, made.values(), strict=True):
        each.save(path)
    assert main(["show", *paths]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["scheme", "one", "two", "three", "mean"]
    assert lines[1] == ["1", "quick", "1.00×", "2.00×", "1.00×", "1.26×"]
    assert lines[2] == ["2", "slow", "2.45×", "1.00×", "1.50×", "1.54×"]
    assert lines[3] == ["3", "only", "–", "4.00×", "–", "–"]
    assert lines[4][:4] == ["4", "never", ">", "2.12×"]
    assert ["one", "1", "-1", "1"] in lines
    assert main(["show", *paths[:2]]) == 0
    assert "Order of the 2 schemes that both have: Kendall's τ = -1" in capsys.readouterr().out
    folder = tmp_path / "figures"
    assert main(["report", *paths[:2], "--figures", str(folder)]) == 0
    assert {path.stem for path in folder.iterdir()} == {"heat-map", "one-losses", "two-losses"}
    drawn = (folder / "heat-map.svg").read_text(encoding="utf-8")
    assert re.findall(r"<!-- (.*×) -->", drawn) == ["1.00×", "2.00×", "2.45×", "1.00×", "4.00×", "&gt; 2.12×"]


def test_a_comparison_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = comparison(a=[1.0, math.inf], b=[2.0, 3.0])
    made.save(tmp_path / "a.h5")
    found = Comparison.load(tmp_path / "a.h5")
    for name in ("names", "seeds", "goal", "measured"):
        assert getattr(found, name) == getattr(made, name)
    assert comparison_file.is_comparison(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: f.__delitem__("runs/seconds"),
        lambda f: f.__delitem__("runs"),
        lambda f: f.attrs.modify("names", "[1]"),
        lambda f: f.attrs.modify("goal", '["loss", "x", ""]'),
        lambda f: f.attrs.__setitem__("seeds", "text"),
        lambda f: f.attrs.modify("schema_version", 9),
        lambda f: f.__delitem__("schemes/0/1/loss"),
        lambda f: (f.__delitem__("schemes/0/1/loss"), f.__setitem__("schemes/0/1/loss", np.zeros(7))),
        lambda f: (f.__delitem__("runs/loss"), f.__setitem__("runs/loss", np.zeros((9, 9)))),
    ],
)  # fmt: skip
def test_a_damaged_comparison_is_one_line(tmp_path, capsys, damage):
    path = tmp_path / "a.h5"
    comparison(a=[1.0, 2.0], b=[2.0, 3.0]).save(path)
    with h5py.File(path, "r+") as opened:
        damage(opened)  # type: ignore[operator]
    assert main(["show", str(path)]) == 2
    assert "a.h5" in error_line(capsys)


def test_a_configuration_in_a_comparison_that_is_not_toml_is_one_line() -> None:
    made = replace(comparison(a=[1.0], b=[2.0]), configs=["", "[nan 1.]"])
    with pytest.raises(InputError, match=r"^a\.h5: damaged: a configuration is not TOML"):
        made.read_configs("a.h5")


def test_comparisons_and_traces_are_not_shown_together(tmp_path, capsys):
    comparison(a=[1.0]).save(tmp_path / "a.h5")
    (tmp_path / "b.h5").touch()
    assert main(["show", str(tmp_path / "a.h5"), str(tmp_path / "b.h5")]) == 2
    assert "cannot be shown together with traces" in capsys.readouterr().err
    assert (
        main(["show", str(tmp_path / "a.h5"), str(tmp_path / "a.h5"), "--figure", str(tmp_path / "x.png")])
        == 2
    )


@pytest.mark.parametrize(
    ("clock", "plugin", "options", "anew"),
    [("virtual", "", [], 1), ("mpi", "", [], 1), ("virtual", "x = 1", [], 2), ("virtual", "", ["--keep"], 2)],
)
def test_an_interrupted_comparison_resumes(job, monkeypatch, clock, plugin, options, anew):
    """Behind its first run, unless that had another plug-in, or its trace is wanted, which is gone."""
    monkeypatch.setattr(trial.command, "run_command", lambda words, *_: main(["simulate", *words[1:]]))
    Path("mine.py").touch()
    job.write_text(f'plugins = ["mine.py"]\n{JOB}')
    runs, perform, journal = list[Trial](), Trial.perform, Path("results/job.compare.journal")

    def interrupted(run: Trial) -> Measured:
        if run.trace:  # others find the limits
            runs.append(run)
            if len(runs) == 2:
                raise KeyboardInterrupt
        return perform(run)

    monkeypatch.setattr(Trial, "perform", interrupted)
    same = "uncoded:async,uncoded/update.mode=async"  # over MPI, each is measured
    command = ["compare", str(job), "--schemes", same, "--seeds", "1", "--target", "2", "--clock", clock]
    alone = ["--seconds", "9"] if clock == "mpi" else ["--processes", "1"]
    assert main([*command, *alone]) == 1
    assert len(journal.read_text().splitlines()) == 1
    Path("mine.py").write_text(plugin)
    assert main([*command, *alone, *options]) == 0
    assert len(runs) == 2 + anew
    first, second = Comparison.load("results/job.compare.h5").measured
    assert first == second
    assert not journal.exists()


def test_an_interrupt_of_a_run_ends_the_comparison(job, monkeypatch, capsys):
    """And is not the failure of that run alone."""
    began = VirtualFleet.start

    def start(fleet: VirtualFleet, at_ns: int = 0) -> None:
        fleet.interrupted = signal.SIGINT
        began(fleet, at_ns)

    monkeypatch.setattr(VirtualFleet, "start", start)
    command = ["compare", str(job), "--schemes", "yours,uncoded", "--seconds", "1", "--processes", "1"]
    assert main(command) == 1
    assert capsys.readouterr().err == "pdcode: interrupted\n"
