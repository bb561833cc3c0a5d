"""Replays of runs in this process: the same to the last bit, and what was altered in a trace is found."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from descents import MS, SMALL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pdcode import Trace
from pdcode.__main__ import main
from pdcode.cli.replay import remake
from pdcode.cli.simulate import clocked
from pdcode.config import load as configfile
from pdcode.replay import Difference
from pdcode.trace.schema import ARRIVALS, DRAINED, REFUSED, USED, WASTED
from pdcode.training import setup as parts
from pdcode.training.session import Descent, close_trace, open_trace
from pdcode.transport.base import Arrival
from pdcode.virtual.executor import LocalCrew
from pdcode.virtual.fleet import VirtualFleet
from pdcode.virtual.schedule import Durations
from pdcode.virtual.simulation import Simulation


def quiet(line: str) -> None:
    """Print nothing."""


def duration_ns(worker: int, task: int) -> int:
    """Times without ties."""
    return int(np.random.default_rng([worker, task]).integers(MS, 9 * MS))


def record(
    path: Path, overrides: list[str], times: Callable[[int, int], int] = duration_ns, close: bool = True
) -> Trace:
    """The trace of a run, whether it ended or was killed before it could say so."""
    sets = ["workers.count=5", *SMALL, *overrides, f"trace.path={path}", "trace.progress_s=0.005"]
    config = configfile.resolve({}, sets)
    made, workers = parts.prepare(config), config.workers.count
    crew = LocalCrew(made.layout, workers, parts.employer(config, made))
    fleet = VirtualFleet(made.layout, workers, crew, Durations(workers, times))
    trace = open_trace(config, "", made, fleet)
    descent = Descent(config, made, fleet, trace, quiet)
    with np.errstate(all="ignore"):
        descent.run()
    if close:
        close_trace(trace, descent)
    else:
        trace.flush(0)
        trace._file.close()
    return Trace(path)


def difference(path: Path) -> Difference:
    """What a replay finds."""
    with pytest.raises(Difference) as caught, np.errstate(all="ignore"):
        remake(Trace(path, correct_clocks=False), quiet)
    return caught.value


NONE, FIRST = "memory.kind=none", ["update.mode=first", "update.count=3"]
CASES = {
    "default": [],
    "least-squares": [NONE, "decoder.kind=least_squares", *FIRST],
    "tracking": ["memory.kind=coordinator", "code.rows_per_task=2", "wire.dtype=int8"],
    "worker-int8": ["memory.kind=worker", "code.rows_per_task=3", "wire.dtype=int8"],
    "difference": ["memory.kind=difference", "problem.batch=0", "wire.dtype=bfloat16", *FIRST],
    "matched": ["code.family=matched", "code.rows_per_task=[2,1]", "wire.dtype=int8", *FIRST],
    "relay": ["downlink.kind=codewords", "downlink.check=5", "wire.dtype=int8"],
    "energy": [NONE, "code.family=energy", "code.blocks=[8,8]"],
    "captured": [NONE, "update.mode=captured", "update.fraction=0.5", "problem.dtype=float64"],
    "mmse": [NONE, "decoder.kind=mmse", "update.mode=all", "code.rows_per_task=2"],
    "waste": [*FIRST, "update.late=waste", "optimizer.momentum=0.5"],
    "adam": [NONE, "optimizer.kind=adam", "optimizer.staleness=inverse"],
    "refused": [*FIRST, "faults.nan_worker=1", "faults.nan_task=4"],
    "diverged": ["update.mode=all", "workers.count=1", "faults.nan_worker=0", "faults.nan_task=4"],
    "seconds": [*FIRST, "stop.seconds=0.03"],
    "loss": ["stop.loss=2.3", "stop.updates=1000"],
    "first-loss": [*FIRST, "stop.loss=2.2", "stop.updates=1000"],
    "captured-loss": [NONE, "update.mode=captured", "stop.loss=2.2", "stop.updates=1000"],
    "all-loss": ["update.mode=all", "stop.loss=2.2", "stop.updates=1000"],
    "loss-diverges": [*FIRST, NONE, "optimizer.rate=1e9", "stop.updates=1000"],
    "at-once": ["stop.loss=1000"],
}  # fmt: skip


@pytest.mark.parametrize("how", CASES)
def test_a_run_is_the_same_to_the_last_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    trace = record(tmp_path / "a.h5", CASES[how])
    rows = trace.arrivals["worker"].size
    capsys.readouterr()
    assert main(["replay", str(trace.path)]) == 0
    out = capsys.readouterr().out
    assert f": {rows} arrivals, {trace.counters['version']} updates and {trace.progress.rows} rows" in out
    assert "identical to the last bit: theta, the optimizer's state and the counters, and every row" in out
    assert "every row but its times, which are those of the machine" in out
    assert how == "at-once" or rows >= 4


def test_the_cases_have_all_that_can_become_of_an_arrival(runs: dict[str, Path]) -> None:
    found = set().union(*(Trace(path).arrivals["status"].tolist() for path in runs.values()))
    assert found == {USED, WASTED, DRAINED, REFUSED}


ALTERED = {
    "async": ["stop.updates=30", "wire.dtype=int8", "memory.kind=worker"],
    "waste": [
        *FIRST, "update.late=waste", "stop.updates=12", "optimizer.momentum=0.5", "faults.nan_worker=1",
        "faults.nan_task=4",
    ],
    "all": [NONE, "update.mode=all", "stop.updates=6", "decoder.kind=tracking"],
    "seconds": [*FIRST, "stop.seconds=0.03"],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Traces to be altered."""
    folder = tmp_path_factory.mktemp("runs")
    return {how: record(folder / f"{how}.h5", overrides).path for how, overrides in ALTERED.items()}


def altered(path: Path, change: Callable[[dict[str, np.ndarray]], None], table: str = "arrivals") -> Path:
    """A copy of a trace of which a table's columns have been changed."""
    copy = path.with_name("copy.h5")
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        columns = {key: data[()] for key, data in file[table].items()}
        change(columns)
        for key, values in columns.items():
            file[table][key].resize(values.shape)
            file[table][key][...] = values
    return copy


DETERMINED = [key for key in ARRIVALS if not key.startswith("t_")]
MANY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MANY
@given(how=st.sampled_from(list(ALTERED)), key=st.sampled_from(DETERMINED), data=st.data())
def test_an_altered_value_is_named(runs: dict[str, Path], how: str, key: str, data: st.DataObject) -> None:
    old = Trace(runs[how]).arrivals[key]
    row = data.draw(st.integers(0, len(old) - 1))
    if old.dtype.kind == "f":
        new = data.draw(st.sampled_from([np.nextafter(old[row], 9.0), -1.0, np.nan, np.inf]))
        new = 1.5 if np.isnan(old[row]) else new
    else:
        limits = np.iinfo(old.dtype)
        near = st.integers(-2, 6) | st.sampled_from([limits.min, limits.max, int(old[row]) + 1])
        new = data.draw(near.filter(lambda new: new != old[row] and limits.min <= new <= limits.max))

    def change(columns: dict[str, np.ndarray]) -> None:
        columns[key][row] = new

    found = difference(altered(runs[how], change))
    assert found.arrival == row
    assert f"arrival {row} of {len(old)}, counted from 0, is the first that differs" in str(found)
    moved = key == "status" and old[row] == DRAINED  # where the stop is the clock's, it is taken from these
    assert ("applied_version" if moved and key not in str(found) else key) in str(found)


@MANY
@given(how=st.sampled_from(list(ALTERED)), data=st.data())
def test_the_first_of_two_swapped_arrivals_is_named(
    runs: dict[str, Path], how: str, data: st.DataObject
) -> None:
    rows = Trace(runs[how]).arrivals.rows
    first = data.draw(st.integers(0, rows - 2))
    second = data.draw(st.just(first + 1) | st.integers(first + 1, rows - 1))

    def change(columns: dict[str, np.ndarray]) -> None:
        for values in columns.values():
            values[[first, second]] = values[[second, first]]

    assert difference(altered(runs[how], change)).arrival == first


@MANY
@given(how=st.sampled_from(list(ALTERED)), data=st.data())
def test_a_lost_arrival_is_named(runs: dict[str, Path], how: str, data: st.DataObject) -> None:
    arrivals = Trace(runs[how]).arrivals
    row = data.draw(st.integers(0, arrivals.rows - 1))

    def change(columns: dict[str, np.ndarray]) -> None:
        for key in columns:
            columns[key] = np.delete(columns[key], row)

    found = difference(altered(runs[how], change))
    assert found.arrival >= row
    lost = f"task {arrivals['task'][row]} of worker {arrivals['worker'][row]}"
    if found.arrival < arrivals.rows - 1:
        assert f"The trace has no arrival of {lost}" in str(found)
    else:  # the end is as if its task had not been sent
        assert lost in str(found) or "\n  arrivals  " in str(found)


@MANY
@given(how=st.sampled_from(list(ALTERED)), data=st.data())
def test_an_arrival_that_is_there_twice_is_named(
    runs: dict[str, Path], how: str, data: st.DataObject
) -> None:
    arrivals = Trace(runs[how]).arrivals
    row = data.draw(st.integers(0, arrivals.rows - 1))

    def change(columns: dict[str, np.ndarray]) -> None:
        for key in columns:
            columns[key] = np.insert(columns[key], row, columns[key][row])

    found = difference(altered(runs[how], change))
    assert found.arrival == row + 1
    assert f"is there before, as arrival {row}." in str(found)


def test_arrivals_of_one_time_are_told_apart_by_what_follows(tmp_path: Path) -> None:
    path = record(tmp_path / "a.h5", [NONE, "stop.updates=12"], lambda worker, task: MS).path
    assert Trace(path).arrivals["worker"][:3].tolist() == [0, 1, 2]

    def change(columns: dict[str, np.ndarray]) -> None:
        for values in columns.values():
            values[[1, 2]] = values[[2, 1]]
        for key in ("applied_version", "staleness", "captured"):  # as if they had come in this order
            columns[key][[1, 2]] = columns[key][[2, 1]]

    found = difference(altered(path, change))
    assert found.arrival == 1
    assert "is the first that leads to a difference" in str(found)
    assert "what differs is update 2, by arrivals 1: it may be their order" in str(found)
    assert "step_norm" in str(found)
    assert "Arrivals 0 and 1 have the same times" in str(found)


@pytest.mark.parametrize(
    ("key", "move", "limit"),
    [
        ("t_recv_ns", 20 * MS, "at most t_decoded_ns"),
        ("t_recv_ns", -20 * MS, "at least "),
        ("t_decoded_ns", 20 * MS, "of arrival 21"),
        ("t_dispatch_ns", 20 * MS, "at most t_recv_ns"),
        ("t_start_ns", 20 * MS, "at most t_compute_ns"),
        ("t_compute_ns", 20 * MS, "at most t_send_ns"),
        ("t_dispatch_ns", -20 * MS, "at least t_decoded_ns"),
        ("t_start_ns", -20 * MS, "at least t_send_ns"),
    ],
)
def test_times_that_cannot_be_are_named(runs: dict[str, Path], key: str, move: int, limit: str) -> None:
    def change(columns: dict[str, np.ndarray]) -> None:
        columns[key][20] += move

    found = difference(altered(runs["async"], change))
    assert found.arrival == 20
    line = next(line for line in str(found).splitlines() if line.split()[0] == key)
    assert limit in line


def test_a_delay_that_ends_early_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    virtual(path, SHIFTED)
    with h5py.File(path, "r+") as file:
        file.attrs["clock"] = "real"
    assert main(["replay", str(path)]) == 0

    def change(columns: dict[str, np.ndarray]) -> None:
        columns["t_send_ns"][7] -= 1

    found = difference(altered(path, change))
    assert found.arrival == 7
    assert "at least t_compute_ns and the injected delay" in str(found)


@pytest.mark.parametrize(
    ("table", "by", "limit"),
    [
        ("updates", -1, "at least t_decoded_ns"),
        ("updates", 20 * MS, "at most t_decoded_ns"),
        ("progress", -9 * MS, "at least t_recv_ns"),
        ("progress", 20 * MS, "at most "),
    ],
)
def test_times_of_the_rest_that_cannot_be_are_named(
    runs: dict[str, Path], table: str, by: int, limit: str
) -> None:
    def change(columns: dict[str, np.ndarray]) -> None:
        columns["t_ns"][3] += by

    trace = Trace(runs["waste"])
    found = difference(altered(runs["waste"], change, table))
    version = int(getattr(trace, table)["version"][3])
    assert found.arrival == np.flatnonzero(trace.arrivals["applied_version"] == version - 1)[-1]
    assert limit in next(line for line in str(found).splitlines() if line.split()[0] == "t_ns")


@pytest.mark.parametrize("key", ["version", "n_used", "captured", "step_norm"])
def test_an_altered_update_is_named(runs: dict[str, Path], key: str) -> None:
    def change(columns: dict[str, np.ndarray]) -> None:
        columns[key][7] = columns[key][7] + 1

    found = difference(altered(runs["waste"], change, "updates"))
    arrivals = Trace(runs["waste"]).arrivals
    used = np.flatnonzero(arrivals["applied_version"] == 7).tolist()
    assert found.arrival == used[-1]
    assert f"what differs is update 8, by arrivals {', '.join(map(str, used))}" in str(found)
    assert f"\n  {key} " in str(found)


@pytest.mark.parametrize("key", ["version", "loss", "accuracy", "grad_norm"])
def test_altered_progress_is_named(runs: dict[str, Path], key: str) -> None:
    def change(columns: dict[str, np.ndarray]) -> None:
        columns[key][[0, 2]] = columns[key][[0, 2]] + [0, -1]

    found = difference(altered(runs["async"], change, "progress"))
    trace = Trace(runs["async"])
    version = int(trace.progress["version"][2])
    row = int(np.flatnonzero(trace.arrivals["applied_version"] == version - 1)[0])
    assert found.arrival == (row - 1 if key == "version" else row)
    assert "row 2 of progress" in str(found)
    assert f"\n  {'loss' if key == 'version' else key} " in str(found)


def test_what_is_altered_before_any_arrival_is_named(runs: dict[str, Path]) -> None:
    def change(columns: dict[str, np.ndarray]) -> None:
        columns["loss"][0] += 1

    text = str(difference(altered(runs["async"], change, "progress")))
    assert text.startswith("row 0 of progress, of version 0 differs, before any arrival\n")


@pytest.mark.parametrize("name", ["theta", "velocity", "arrivals", "wasted", "bytes_up", "faults", "updates"])
def test_an_altered_end_is_named(runs: dict[str, Path], name: str) -> None:
    rows = Trace(runs["waste"]).arrivals.rows
    with h5py.File(shutil.copy(runs["waste"], runs["waste"].with_name("copy.h5")), "r+") as file:
        path = Path(file.filename)
        if name in ("theta", "velocity"):
            file["checkpoint"][name][5:7] = np.nextafter(file["checkpoint"][name][5:7], np.float32(9))
        elif name == "updates":
            for column in file["updates"].values():
                column.resize((13,))
        elif name == "faults":
            file["faults/task"][0] += 1
        else:
            file["checkpoint"].attrs[name] -= 1
    found = difference(path)
    assert found.arrival == rows
    assert str(found).startswith(f"all {rows} arrivals agree, but ")
    shown = {"theta": "theta[5], the first of 2 ", "velocity": "velocity[5], the first of 2 "}
    assert f"\n  {shown.get(name, {'updates': 'rows of updates'}.get(name, name))}" in str(found)


TABLES = ("arrivals", "updates", "progress")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Traces of runs that did not come to close them."""
    folder = tmp_path_factory.mktemp("killed")
    return {how: record(folder / f"{how}.h5", sets, close=False).path for how, sets in ALTERED.items()}


@settings(MANY, max_examples=15)
@given(how=st.sampled_from(list(ALTERED)), data=st.data())
def test_of_a_killed_run_all_that_is_there_is_compared(
    killed: dict[str, Path], capsys: pytest.CaptureFixture[str], how: str, data: st.DataObject
) -> None:
    path = killed[how]
    kept = {table: data.draw(st.integers(0, getattr(Trace(path), table).rows)) for table in TABLES}
    copy = shutil.copy(path, path.with_name("copy.h5"))
    with h5py.File(copy, "r+") as file:
        for table, rows in kept.items():
            for column in file[table].values():
                column.resize((rows,))
    capsys.readouterr()
    assert main(["replay", str(copy)]) == 0
    out = capsys.readouterr().out
    assert f" {kept['arrivals']} arrivals, " in out
    assert "the run did not end, or not yet, so there is no final theta to compare" in out
    for table, key in (("updates", "updates"), ("progress", "rows of progress")):
        made = int(re.search(rf"(\d+) {key}", out)[1])
        more = kept[table] - made
        assert (f"without the last {more} of {table}, whose arrivals are not there" in out) == (more > 0)
    if not kept["arrivals"]:
        return
    row = data.draw(st.integers(0, kept["arrivals"] - 1))

    def change(columns: dict[str, np.ndarray]) -> None:
        columns["loss"][row] = 5.0

    shutil.copy(copy, path.with_name("cut.h5"))
    assert difference(altered(path.with_name("cut.h5"), change)).arrival == row


def test_a_worker_that_raised_is_no_difference_unless_it_replied(
    tmp_path: Path, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.h5"
    with pytest.raises(RuntimeError, match="worker 2 raises at task 3"):
        record(path, ["faults.raise_worker=2", "faults.raise_task=3"])
    assert Trace(path).faults["kind"].tolist() == ["exception"]
    capsys.readouterr()
    assert main(["replay", str(path)]) == 0
    assert "the run did not end" in capsys.readouterr().out
    copy = shutil.copy(runs["async"], tmp_path / "copy.h5")
    with h5py.File(copy, "r+") as file:
        table = Trace(copy).config
        table["faults"] = {"raise_worker": 2, "raise_task": 3}
        file.attrs["config_resolved"] = json.dumps(table)
    found = difference(Path(copy))
    rows = Trace(copy).arrivals
    assert found.arrival == np.flatnonzero((rows["worker"] == 2) & (rows["task"] == 3))[0]
    assert "No payload is to be had: worker 2 raises at task 3" in str(found)


def virtual(path: Path, overrides: list[str], interrupt_ns: int | None = None, close: bool = True) -> Path:
    """The trace of a run on the virtual clock, as `pdcode simulate` writes it."""
    sets = ["workers.count=4", *SMALL, f"trace.path={path}", "trace.progress_s=0.004", *overrides]
    simulation = Simulation(configfile.resolve({}, sets))
    fleet = simulation.fleet
    trace = open_trace(
        simulation.config, "", simulation.parts, fleet, clock="virtual", task_ns=simulation.task_ns
    )
    if interrupt_ns is not None:
        arrivals = fleet.arrivals

        def interrupted(timeout_ns: int) -> Sequence[Arrival]:
            fleet.interrupted = fleet.interrupted or fleet.now_ns() >= interrupt_ns
            return arrivals(timeout_ns)

        fleet.arrivals = interrupted
    with np.errstate(all="ignore"):
        descent, result = simulation.run(trace)
    if close:
        close_trace(trace, descent, clocked(result))
        trace.count({"genie_s": result.genie_s})
    else:
        trace.flush(0)
        trace._file.close()
    return path


SHIFTED = ["stragglers.kind=shifted-exponential", "stragglers.mean_s=0.001", "stragglers.shift_s=0.001"]
VIRTUAL = {
    "shifted": SHIFTED,
    "slow": [
        "stragglers.kind=slow-set", "stragglers.slow=[1]", "stragglers.slowdown=5", "link.half_duplex=true",
    ],
    "dead": [*SHIFTED, "stragglers.dead=[3]", *FIRST, "machine.update_s=0.0005"],
    "waits": [*SHIFTED, "stragglers.dead=[3]", "update.mode=all", "stop.seconds=0.03"],
    "seconds": [*SHIFTED, *FIRST, "stop.seconds=0.02", "machine.arrival_s=0.0003"],
    "loss": [*SHIFTED, "stop.loss=2.3", "stop.updates=1000"],
    "diverged": ["update.mode=all", "workers.count=1", "faults.nan_worker=0", "faults.nan_task=4"],
    "none": ["stop.seconds=0.01", "machine.arrival_s=0"],
}  # fmt: skip


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Traces of runs on the virtual clock."""
    folder = tmp_path_factory.mktemp("clocks")
    made = {how: virtual(folder / f"{how}.h5", sets) for how, sets in VIRTUAL.items()}
    made["interrupted"] = virtual(folder / "interrupted.h5", SHIFTED, interrupt_ns=11 * MS)
    made["late"] = virtual(folder / "late.h5", [*SHIFTED, "stop.updates=4"], interrupt_ns=3 * MS)
    made["killed"] = virtual(folder / "killed.h5", [*SHIFTED, *FIRST], close=False)
    return made


def test_a_run_on_the_virtual_clock_is_the_same_with_its_times(
    clocks: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for path in clocks.values():
        assert main(["replay", str(path)]) == 0, path
        out = capsys.readouterr().out
        assert "every row with its times" in out
        assert "not compared" not in out
    kinds = [kind for path in clocks.values() for kind in Trace(path).faults["kind"].tolist()]
    assert kinds.count("stop") == 3
    assert any(-1 in Trace(path).arrivals["injected_delay_ns"] for path in clocks.values())


TIMES = [key for key in ARRIVALS if key.startswith("t_")]


@MANY
@given(how=st.sampled_from([*VIRTUAL, "interrupted", "late", "killed"]), data=st.data())
def test_of_a_virtual_run_every_altered_time_is_named(
    clocks: dict[str, Path], how: str, data: st.DataObject
) -> None:
    arrivals = Trace(clocks[how]).arrivals
    row = data.draw(st.integers(0, arrivals.rows - 1))
    key = data.draw(st.sampled_from([*TIMES, "injected_delay_ns"]))
    by = data.draw(st.sampled_from([1, -1, 1000, 10**9]))

    def change(columns: dict[str, np.ndarray]) -> None:
        columns[key][row] += by

    found = difference(altered(clocks[how], change))
    assert found.arrival == row
    assert f"arrival {row} of {arrivals.rows}, counted from 0, is the first that differs" in str(found)
    old = arrivals[key][row]
    assert re.search(rf"\n  {key} +{old + by} +{old}\n", str(found))


@pytest.mark.parametrize("how", ["shifted", "dead", "seconds", "killed"])
def test_of_a_virtual_run_times_of_another_scale_are_named(clocks: dict[str, Path], how: str) -> None:
    def arrivals(columns: dict[str, np.ndarray]) -> None:
        for key in TIMES:
            columns[key] *= 3

    def others(columns: dict[str, np.ndarray]) -> None:
        columns["t_ns"] *= 7

    found = difference(altered(clocks[how], arrivals))
    assert found.arrival == 0
    assert all(key in str(found) for key in TIMES if key != "t_dispatch_ns")
    for table in ("updates", "progress"):
        assert "\n  t_ns " in str(difference(altered(clocks[how], others, table)))


@pytest.mark.parametrize("table", ["updates", "progress"])
def test_of_a_virtual_run_one_altered_time_of_the_rest_is_named(clocks: dict[str, Path], table: str) -> None:
    def change(columns: dict[str, np.ndarray]) -> None:
        columns["t_ns"][3] += 1

    trace = Trace(clocks["dead"])
    found = difference(altered(clocks["dead"], change, table))
    version = int(getattr(trace, table)["version"][3])
    led, leads = (np.flatnonzero(trace.arrivals["applied_version"] == version - by)[-1] for by in (1, 0))
    assert led <= found.arrival < (leads if table == "progress" else led + 1)  # measured before the next step
    time = int(getattr(trace, table)["t_ns"][3])
    assert re.search(rf"\n  t_ns +{time + 1} +{time}\n", str(found))


ATTRIBUTES = (
    "seed", "workers", "parameters", "gradient_bytes", "payload_bytes", "header_bytes", "blocks",
    "rows_per_task", "weights",
)  # fmt: skip


@pytest.mark.parametrize("name", ATTRIBUTES)
@pytest.mark.parametrize("clock", ["real", "virtual"])
def test_an_altered_attribute_is_named(
    runs: dict[str, Path], clocks: dict[str, Path], clock: str, name: str
) -> None:
    path = {"real": runs["async"], "virtual": clocks["seconds"]}[clock]
    copy = Path(shutil.copy(path, path.with_name("copy.h5")))
    with h5py.File(copy, "r+") as file:
        file.attrs[name] = file.attrs[name] + 1
    found = difference(copy)
    assert found.arrival == 0
    assert re.search(rf"\n  {name} ", str(found))
    with h5py.File(copy, "r+") as file:
        del file.attrs[name]
    assert re.search(rf"\n  {name} +'?not there'? ", str(difference(copy)))


def test_an_altered_code_is_named(runs: dict[str, Path]) -> None:
    copy = Path(shutil.copy(runs["async"], runs["async"].with_name("copy.h5")))
    with h5py.File(copy, "r+") as file:
        name = next(iter(file["code"]))
        matrix = file["code"][name]["matrix"]
        matrix[1, 2] = np.nextafter(matrix[1, 2], 9)
    assert f"code/{name}/matrix[" in str(difference(copy))
    with h5py.File(copy, "r+") as file:
        del file["code"][name]
    assert "codes of so many blocks" in str(difference(copy))


@pytest.mark.parametrize("how", ALTERED)
def test_a_lost_last_measurement_is_named(runs: dict[str, Path], how: str) -> None:
    def change(columns: dict[str, np.ndarray]) -> None:
        for key in columns:
            columns[key] = columns[key][:-1]

    assert "version of the last row of progress" in str(difference(altered(runs[how], change, "progress")))


def test_an_end_that_is_said_to_be_none_is_named(runs: dict[str, Path]) -> None:
    copy = Path(shutil.copy(runs["async"], runs["async"].with_name("copy.h5")))
    with h5py.File(copy, "r+") as file:
        file.attrs.modify("finished", np.False_)
    assert re.search(r"\n  finished +False +True", str(difference(copy)))


def test_a_run_that_goes_on_beyond_its_target_is_no_run(tmp_path: Path) -> None:
    path = record(tmp_path / "a.h5", [*FIRST, "stop.updates=30"]).path
    losses = Trace(path).progress["loss"]
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["config_resolved"])
        config["stop"]["loss"] = float(losses[1:-1].max())
        file.attrs["config_resolved"] = json.dumps(config)
    found = difference(path)
    assert "what was to follow, as loss " in str(found)
    assert "ends the run" in str(found)


@pytest.mark.parametrize("name", ["t_stop_ns", "length_ns", "ingress_ns", "genie_s", "spent_evaluate_ns"])
def test_of_a_virtual_run_an_altered_counter_is_named(clocks: dict[str, Path], name: str) -> None:
    copy = shutil.copy(clocks["seconds"], clocks["seconds"].with_name("copy.h5"))
    with h5py.File(copy, "r+") as file:
        file["checkpoint"].attrs[name] += 1
    assert f"\n  {name} " in str(difference(Path(copy)))


def test_another_time_of_an_interruption_is_named(clocks: dict[str, Path]) -> None:
    for by in (1, -1, -5 * MS, 10**9):

        def change(columns: dict[str, np.ndarray], by: int = by) -> None:
            columns["t_ns"] += by

        difference(altered(clocks["interrupted"], change, "faults"))


def test_times_that_hang_on_a_file_that_is_gone_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    delays = tmp_path / "delays.csv"
    delays.write_text("0.001,0.002\n" * 5)
    path = virtual(tmp_path / "a.h5", ["stragglers.kind=trace", f"stragglers.path={delays}"])
    assert main(["replay", str(path)]) == 0
    assert "every row with its times" in capsys.readouterr().out
    delays.unlink()
    assert main(["replay", str(path)]) == 0
    out = capsys.readouterr().out
    assert "times and injected delays were not compared, as they cannot be made again: " in out
    assert out.endswith("every row but its times\n")


def test_delays_of_a_file_that_is_gone_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    delays = tmp_path / "delays.csv"
    delays.write_text("0.001,0.002\n" * 5)
    sets = ["stragglers.kind=trace", f"stragglers.path={delays}"]
    path = record(tmp_path / "a.h5", sets).path
    assert "injected_delay_ns" in str(difference(path))  # the run's schedule took no notice of them
    delays.unlink()
    capsys.readouterr()
    assert main(["replay", str(path)]) == 0
    out = capsys.readouterr().out
    assert "injected delays were not compared, as they cannot be made again: " in out
    assert "delays.csv" in out


def test_what_cannot_be_replayed_is_bad_input(
    tmp_path: Path, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(path: Path | str) -> str:
        capsys.readouterr()
        assert main(["replay", str(path)]) == 2
        return capsys.readouterr().err

    for arrivals in ("sampled", "none"):
        path = record(tmp_path / "a.h5", [f"trace.arrivals={arrivals}"]).path
        expected = f"a.h5: trace.arrivals: '{arrivals}': a replay needs every arrival"
        assert expected in refused(path)
    data = tmp_path / "data.npz"
    np.savez(data, x=np.random.default_rng(1).normal(size=(60, 4)), y=np.arange(60) % 3)
    path = record(tmp_path / "b.h5", [f"problem.data={data}"]).path
    assert main(["replay", str(path)]) == 0
    data.unlink()
    assert "b.h5: problem.data" in refused(path)
    assert str(data) in refused(path)
    assert "no such file" in refused(tmp_path / "none.h5")
    for name, value, expected in (
        ("config_resolved", None, "config_resolved: not there"),
        ("config_resolved", '{"seed": -1}', "config_resolved: seed: expected int >= 0"),
        ("numerics", False, "only times were simulated"),
    ):
        copy = shutil.copy(runs["async"], tmp_path / "copy.h5")
        with h5py.File(copy, "r+") as file:
            if value is None:
                del file.attrs[name]
            else:
                file.attrs[name] = value
        assert f"copy.h5: {name}: " in refused(copy)
        assert expected in refused(copy)


def test_what_wrote_the_trace_is_told_where_it_differs(runs: dict[str, Path]) -> None:
    def change(columns: dict[str, np.ndarray]) -> None:
        columns["loss"][3] = 0

    copy = altered(runs["async"], change)
    assert "last bits" not in str(difference(copy))
    with h5py.File(copy, "r+") as file:
        file["environment"].attrs["numpy"] = "1.0"
    text = str(difference(copy)).splitlines()[-1]
    assert text.startswith("The trace was written with numpy 1.0 (here ")
    assert text.endswith("): last bits may differ for that alone.")
