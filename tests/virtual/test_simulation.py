"""Runs on the virtual clock: what the model says, what comes out, and that it is the same each time."""

import itertools
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pdcode import Trace
from pdcode.__main__ import main
from pdcode.config import load as configfile
from pdcode.session.setup import prepare
from pdcode.trace.recorder import Recorder
from pdcode.trace.schema import DRAINED
from pdcode.virtual.result import Result
from pdcode.virtual.simulation import Simulation, simulate

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("read_at_once")]

SMALL = [
    "problem.hidden=[16]", "problem.batch=8", "code.blocks=[8,1]", "workers.count=6", "stop.updates=30",
    "optimizer.rate=0.1",
]  # fmt: skip
FREE = [
    "machine.task_s=0.01", "machine.flops_per_s=1e18", "machine.arrival_s=0", "machine.dispatch_s=0",
    "link.latency_s=0", "link.bandwidth=1e18",
]  # fmt: skip
JOB = """
seed = 3
[problem]
hidden = [16]
batch = 16
[code]
blocks = [8, 1]
[workers]
count = 4
[stragglers]
kind = "shifted-exponential"
mean_s = 0.01
[stop]
updates = 40
[trace]
path = "{}"
progress_s = 0.01
"""


def config(*overrides: str) -> Any:
    return configfile.resolve({}, [*SMALL, *overrides])


def run(*overrides: str) -> Result:
    return simulate(config(*overrides))


class Kept(Recorder):
    """Keeps rows."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[float, ...]] = []
        self.progresses: list[tuple[float, ...]] = []

    def arrival(self, *values: float) -> None:
        self.arrivals.append(values)

    def progress(self, *values: float) -> None:
        self.progresses.append(values)


def test_with_free_links_updates_take_a_task() -> None:
    done = run("update.mode=all", *FREE)
    assert done.updates == 30
    assert done.seconds == pytest.approx(0.3)
    assert done.update_s == pytest.approx(0.01)
    assert done.oracle_s == pytest.approx(0.3)
    assert done.multiple == pytest.approx(1.0)
    assert (done.used, done.wasted, done.refused, done.arrivals) == (180, 0, 0, 180)


def test_a_narrow_link_is_busy_all_the_time() -> None:
    narrow = [*FREE, "link.bandwidth=1e5", "link.broadcast=star"]
    done = run("update.mode=all", *narrow)
    layout = Simulation(prepare(config())).components.layout
    down, up = (6 * size / 1e5 for size in (layout.task_bytes, layout.reply_bytes))
    # The first task is done when the fifth is still being sent; replies are shorter, and only the last waits.
    last = down + 0.01 + layout.reply_bytes / 1e5
    assert done.seconds == pytest.approx(30 * last, rel=1e-6)
    assert done.egress == pytest.approx(down / last, rel=1e-3)
    assert done.ingress == pytest.approx(up / last, rel=1e-3)
    assert run("update.mode=all", *narrow, "link.half_duplex=true").seconds > done.seconds
    assert run("update.mode=all", *narrow[:-1], "link.broadcast=tree").seconds < done.seconds


def test_the_loss_is_that_of_the_target_s_time() -> None:
    kept = Kept()
    done = simulate(config("stop.loss=1.5", "stop.updates=2000", "trace.progress_s=0.001", *FREE), trace=kept)
    assert done.reason.startswith("loss")
    assert done.loss <= 1.5
    assert done.target_s == done.seconds == kept.progresses[-1][1] * 1e-9
    assert all(row[2] > 1.5 for row in kept.progresses[:-1])
    assert math.isinf(run("stop.loss=1e-9").target_s)


def test_a_run_is_the_same_each_time_and_of_its_seed() -> None:
    overrides = [
        "stragglers.kind=pareto",
        "stragglers.shift_s=0.01",
        "stragglers.shape=1.5",
        "wire.dtype=int8",
    ]
    rows = []
    for seed in (1, 1, 2):
        kept = Kept()
        done = simulate(config(*overrides, f"seed={seed}"), trace=kept)
        rows.append((kept.arrivals, done.theta.tobytes()))
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


def test_every_scheme_meets_the_same_delays() -> None:
    delays = {}
    for mode in ("all", "async", "first"):
        kept = Kept()
        overrides = [f"update.mode={mode}", "stragglers.kind=lognormal", "stragglers.median_s=0.01"]
        simulate(config(*overrides, "stragglers.sigma=1.0", "memory.kind=none"), trace=kept)
        delays[mode] = {row[:2]: row[12] for row in kept.arrivals if row[16] != DRAINED}
    for one, other in itertools.combinations(delays.values(), 2):
        common = one.keys() & other.keys()
        assert len(common) > 20
        assert all(one[key] == other[key] for key in common)


def test_dead_workers_answer_when_the_run_is_over() -> None:
    dead = ["stragglers.kind=slow-set", "stragglers.shift_s=0.01", "stragglers.dead=[1,4]"]
    kept = Kept()
    done = simulate(config(*dead, "update.mode=first", "update.count=4", "update.late=waste"), trace=kept)
    assert (done.updates, done.arrivals) == (30, 122)
    last = [row for row in kept.arrivals if row[0] in (1, 4)]
    assert [(row[0], row[1], row[16]) for row in last] == [(1, 0, 2), (4, 0, 2)]
    assert all(row[12] == -1 for row in last)
    waited = run(*dead, "update.mode=all", "stop.seconds=5")
    assert (waited.updates, waited.seconds) == (0, 5.0)


def test_seconds_end_a_run_between_arrivals() -> None:
    done = run("update.mode=all", *FREE, "machine.task_s=1000", "stop.seconds=2500.5")
    assert (done.updates, done.seconds) == (2, 2500.5)


def test_more_workers_than_rows() -> None:
    data = ["problem.data=breast-cancer", "problem.standardise=true"]  # 455 rows
    many = [*data, "workers.count=500", "update.mode=all", "stop.updates=2", "problem.batch=4"]
    done = run(*many)
    assert done.used == 1000
    np.testing.assert_array_equal(done.theta, run(*many, "problem.shards=replicated").theta)
    said = "500 workers for 455 training rows: each has all rows (problem.shards 'replicated'); "
    for keys, count in (([], 1), (["problem.shards=replicated"], 0)):
        remarks = Simulation(prepare(config(*many, *keys))).components.remarks()
        assert sum(each.startswith(said) for each in remarks) == count


def test_mini_batches_of_more_rows_than_there_are_are_said() -> None:
    for batch, count in ((1439, 1), (1438, 0), (0, 0)):
        components = Simulation(prepare(config("problem.data=digits", f"problem.batch={batch}"))).components
        remarks = components.remarks()
        said = "problem.batch 1439 is more than the 1,438 training rows: a mini-batch has rows several times"
        assert sum(each.startswith(said) for each in remarks) == count


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(JOB.format(tmp_path / "job.h5"), encoding="utf-8")
    return path


def test_the_command_writes_a_trace_beside_that_of_real_runs(job: Path, capsys: Any) -> None:
    assert main(["simulate", str(job)]) == 0
    trace = Trace(job.with_suffix(".virtual.h5"))
    assert trace.finished
    assert trace.attributes["clock"] == "virtual"
    assert trace.counters["used"] == np.count_nonzero(trace.arrivals["status"] == 0)
    assert trace.counters["oracle_s"] > 0
    assert trace.updates.rows == 40
    assert "× the oracle's" in capsys.readouterr().out
    assert main(["show", str(trace.path)]) == 0
    shown = capsys.readouterr().out
    assert "of virtual time" in shown
    assert "workers, virtual" in shown


def test_what_if_is_printed_beside_what_was(job: Path, capsys: Any) -> None:
    first = job.with_name("first.h5")
    assert main(["simulate", str(job), "-o", str(first)]) == 0
    capsys.readouterr()
    again = job.with_name("again.h5")
    arguments = [str(job), "--stragglers", str(first), "-o", str(again), "--set", "update.mode=all"]
    assert main(["simulate", *arguments]) == 0
    out = capsys.readouterr().out
    assert "predicted" in out
    assert "recorded after" in out
    # Each worker's tasks last as long as they did, in their order.
    rows = {}
    for path in (first, again):
        table = Trace(path).arrivals
        served = table["t_send_ns"] - table["t_start_ns"]
        served = served[table["status"] != DRAINED]  # the stop cuts delays short
        tasks = (table[key][table["status"] != DRAINED] for key in ("worker", "task"))
        rows[path] = dict(zip(zip(*tasks, strict=True), served, strict=True))
    common = rows[first].keys() & rows[again].keys()
    assert len(common) > 20
    for key in common:
        assert rows[first][key] == pytest.approx(rows[again][key], abs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stragglers", "none.h5"], "none.h5"),
        (["--cost", "none.toml"], "none.toml"),
        (["--set", "link.bandwidth=0"], "link.bandwidth"),
        (["--set", "machine.speed=1"], "machine"),
        (["-n", "0"], "workers.count"),
        (["--set", "machine.task_s=1e9"], "machine.task_s"),
        (["--set", "trace.path=", "-n", "3"], "trace.path: '' is not the name of a file"),
        (
            ["--timing-only", "--set", 'faults.events=[{kind="nan", worker=1, task=0}]'],
            "job.toml: faults.events: kind 'nan': there are no payloads without numerics",
        ),
        (
            ["--timing-only", "--set", 'faults.events=[{kind="raise", worker=1, task=0}]'],
            "job.toml: faults.events: kind 'raise'",
        ),
        (["--timing-only", "-n", "16777217"], "job.toml: workers.count: 16777217 is more than the 16777216"),
    ],
)
def test_bad_input_is_told_in_a_line(job: Path, capsys: Any, options: list[str], message: str) -> None:
    assert main(["simulate", str(job), *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not job.with_suffix(".virtual.h5").exists()


@pytest.mark.parametrize("mode", ["async", "captured"])
def test_timing_only_has_the_times_of_the_whole_run(job: Path, capsys: Any, mode: str) -> None:
    paths = [job.with_name(f"{name}.h5") for name in ("whole", "times")]
    common = ["simulate", str(job), "--set", f"update.mode={mode}"]
    assert main([*common, "-o", str(paths[0])]) == 0
    assert main([*common, "-o", str(paths[1]), "--timing-only"]) == 0
    whole, times = (Trace(path) for path in paths)
    assert not times.attributes["numerics"]
    for column in whole.arrivals.keys() - {"code_row", "captured", "loss"}:
        np.testing.assert_array_equal(whole.arrivals[column], times.arrivals[column], err_msg=column)
    for column in ("version", "t_ns", "n_used"):
        np.testing.assert_array_equal(whole.updates[column], times.updates[column], err_msg=column)
    for counter in (
        "oracle_s", "t_stop_ns", "ingress_ns", "egress_ns", "processor_ns", "length_ns", "bytes_up",
    ):  # fmt: skip
        assert whole.counters[counter] == times.counters[counter], counter
    capsys.readouterr()
    assert main(["show", str(paths[1])]) == 0
    assert main(["replay", str(paths[1])]) == 2
    assert main(["replay", str(paths[0])]) == 0


def test_timing_only_takes_no_notice_of_a_loss(job: Path, capsys: Any) -> None:
    path = job.with_name("times.h5")
    common = ["simulate", str(job), "-o", str(path), "--timing-only", "--set", "update.mode=captured"]
    assert main([*common, "--set", "stop.loss=10"]) == 0
    trace = Trace(path)
    assert trace.updates.rows == 40
    assert trace.progress.rows == 0
    assert "loss 10" not in capsys.readouterr().out
    job.write_text(job.read_text().replace("updates = 40", "loss = 0.1"), encoding="utf-8")
    for mode in ("captured", "all"):
        assert main([*common, "--set", f"update.mode={mode}"]) == 2
        assert "stop.updates: without numerics" in capsys.readouterr().err


def test_measuring_does_not_wait_for_rank_0_s_virtual_work() -> None:
    kept = Kept()
    simulate(config("machine.arrival_s=0.01", "trace.progress_s=0.02", "update.mode=async"), trace=kept)
    times = np.array([row[1] for row in kept.progresses])
    assert np.diff(times).max() <= 0.035e9


@pytest.mark.parametrize("change", ["problem.axis=input", "problem.batch=8", "problem.shards=replicated"])
def test_runs_whose_gradients_are_cut_or_drawn_otherwise_are_compared(job, capsys, change):
    first = job.with_name("first.h5")
    assert main(["simulate", str(job), "-o", str(first)]) == 0
    assert main(["simulate", str(job), "--stragglers", str(first), "--set", change]) == 0
    assert ": predicted after" in capsys.readouterr().out


def test_recorded_times_of_whole_tasks_are_what_tasks_take(job: Path, capsys: Any) -> None:
    times = job.with_name("times.csv")
    times.write_text("0.5,0.5,0.5,0.5,1.5\n" * 4)
    path = job.with_suffix(".virtual.h5")
    sets = ["--set", "stragglers.times=task", "--set", "update.mode=all", "--set", "stop={updates=10}"]
    slow = ["--set", "machine.flops_per_s=1e6", "--set", "machine.coordinator_speed=1e6"]
    for more in ([], ["--timing-only"], slow):
        assert main(["simulate", str(job), "--stragglers", str(times), *sets, *more]) == 0
        assert Trace(path).counters["t_stop_ns"] == pytest.approx(7e9, rel=1e-2)
    assert "recorded tasks take no longer" not in capsys.readouterr().out
    assert main(["simulate", str(job), "--stragglers", str(times), *sets, "--set", "machine.task_s=0.6"]) == 0
    said = (
        "stragglers.path: 80% of the recorded tasks take no longer than a task computes here, 600 ms, and so"
    )
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("change", ["decoder.kind=mmse", "code.family=energy"])
def test_shares_that_payloads_tell_are_not_to_be_had_without(job: Path, capsys: Any, change: str) -> None:
    sets = ["--set", "update.mode=captured", "--set", "memory.kind=none", "--set", change]
    assert main(["simulate", str(job), "--timing-only", *sets]) == 2
    assert f"{job}: update.mode: 'captured' depends on payloads with " in capsys.readouterr().err
    assert main(["simulate", str(job), *sets]) == 0


@pytest.mark.parametrize("options", [[], ["--timing-only"]])
def test_a_run_of_no_length_ends(job: Path, options: list[str]) -> None:
    free = [
        "machine={task_s=0.0, arrival_s=0.0, dispatch_s=0.0, flops_per_s=1e18}",
        "link={latency_s=0.0, bandwidth=1e18}", "stragglers={}",
    ]  # fmt: skip
    sets = [word for override in free for word in ("--set", override)]
    for stop in ("{seconds=1e-10}", "{seconds=1e-7}"):
        assert main(["simulate", str(job), *options, *sets, "--set", f"stop={stop}"]) == 0


def test_runs_that_cannot_be_compared_are_not(job: Path, capsys: Any) -> None:
    times, other = job.with_name("times.h5"), job.with_name("other.h5")
    assert main(["simulate", str(job), "-o", str(times), "--timing-only"]) == 0
    assert main(["simulate", str(job), "-o", str(other), "--set", "problem.hidden=[8]"]) == 0
    for path, words in ((times, "no loss was recorded in"), (other, "belong to another problem")):
        capsys.readouterr()
        assert main(["simulate", str(job), "--stragglers", str(path)]) == 0
        assert words in capsys.readouterr().out


def test_targets_that_nothing_reaches_are_refused(job: Path, capsys: Any) -> None:
    for target in ("loss=nan", "loss=-1.0", "accuracy=2.0"):
        assert main(["simulate", str(job), "--set", f"stop.{target}"]) == 2
        assert f"stop.{target.partition('=')[0]}" in capsys.readouterr().err


def test_what_is_read_is_not_written_whatever_its_name(job: Path, capsys: Any) -> None:
    first = job.with_name("first.h5")
    assert main(["simulate", str(job), "-o", str(first)]) == 0
    other = job.with_name("other.h5")
    other.symlink_to(first)
    before = first.read_bytes()
    for option in ("--cost", "--stragglers"):
        for read, written in ((first, other), (other, first)):
            assert main(["simulate", str(job), option, str(read), "-o", str(written)]) == 2
            assert "an input file cannot be overwritten by the trace" in capsys.readouterr().err
    assert (first.read_bytes(), other.is_symlink()) == (before, True)


@pytest.mark.parametrize(
    "options", [[], ["--timing-only"], ["--timing-only", "--set", "update.mode=captured"]]
)
def test_a_trace_is_whole_before_the_oracle_is_asked(job, capsys, monkeypatch, options):
    path = job.with_suffix(".virtual.h5")

    def interrupted(*asked: object) -> float:
        assert Trace(path).finished
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        raise AssertionError

    monkeypatch.setattr("pdcode.virtual.oracle.time_s", interrupted)
    assert main(["simulate", str(job), *options]) == 1
    assert capsys.readouterr().err == "pdcode: interrupted\n"
    monkeypatch.undo()
    trace = Trace(path)
    assert trace.counters["version"] == trace.updates.rows == 40
    assert "oracle_s" not in trace.counters
    assert main(["show", str(path)]) == 0
    if not options:
        assert main(["replay", str(path)]) == 0


def test_times_beyond_the_end_of_the_clock_end_there(job: Path) -> None:
    long = ["machine.arrival_s=1e6", "machine.task_s=1e6", "link.latency_s=1e6", "update.mode=all"]
    sets = [word for override in (*long, "stop.updates=1200") for word in ("--set", override)]
    for options in ([], ["--timing-only"]):
        assert main(["simulate", str(job), *sets, *options]) == 0
        counters = Trace(job.with_suffix(".virtual.h5")).counters
        assert counters["processor_ns"] == 2**62 - 1
        assert counters["length_ns"] <= 2**62 - 1


def test_more_workers_than_messages_can_name(job: Path, capsys: Any) -> None:
    assert main(["simulate", str(job), "-n", "70000"]) == 2
    assert f"{job}: workers.count: 70000" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        ["code.rows_per_task=1", "code.share=1e-11"],
        [
            "problem.kind=least-squares", "problem.data=synthetic", "problem.density=1e-18",
            "problem.samples=20", "code.blocks=2", "code.weight=1",
        ],
        ["stop={seconds=4e-10}"],
        ["stragglers={kind='markov', extra_s=0.01, enter=5e-324, leave=5e-324}"],
    ],
)  # fmt: skip
def test_the_least_that_a_key_may_be(job: Path, capsys: Any, change: list[str]) -> None:
    if "share" in change[-1]:
        job.write_text(job.read_text().replace("rows_per_task", "# rows_per_task"))
        change = change[1:]
    sets = [word for override in change for word in ("--set", override)]
    rows = []
    for options in ([], ["--timing-only"]):
        assert main(["simulate", str(job), *sets, *options]) == 0
        trace = Trace(job.with_suffix(".virtual.h5"))
        rows.append(trace.arrivals["t_recv_ns"].tolist())
        assert main(["show", str(trace.path)]) == 0
    assert rows[0] == rows[1]
    assert "spells of inf" not in capsys.readouterr().out


def test_what_does_not_fit_into_memory_is_a_line(job, capsys, monkeypatch):
    def prepare(*arguments: object) -> None:
        raise MemoryError("Unable to allocate 373 GiB")

    monkeypatch.setattr("pdcode.api.simulation.prepare", prepare)
    assert main(["simulate", str(job)]) == 1
    assert capsys.readouterr().err == "pdcode: not enough memory: Unable to allocate 373 GiB\n"
    assert main(["simulate", str(job), "--set", "problem.batch=9223372036854775807"]) == 2


def test_timing_only_speaks_of_no_loss(job: Path, capsys: Any) -> None:
    assert main(["simulate", str(job), "--timing-only", "--set", "update.mode=captured"]) == 0
    out = capsys.readouterr().out
    assert "nan" not in out
    assert "stopped: 40 updates, after 40 updates" in out
