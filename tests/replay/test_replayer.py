"""Replays of runs in this process: bit-identical, and what is altered in a trace is found and named."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from descents import MS, SMALL
from grids import LONG
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from outcomes import assert_replays, error_line

from pdcode import Trace
from pdcode.__main__ import main
from pdcode.api.simulation import clock_counters
from pdcode.config import load as configfile
from pdcode.replay import Difference, Replayer, replay
from pdcode.session.run import close_trace, open_trace
from pdcode.session.setup import prepare
from pdcode.trace.schema import DRAINED, REFUSED, USED, WASTED
from pdcode.trace.writer import TraceWriter
from pdcode.transport.events import Event
from pdcode.util.errors import InputError
from pdcode.virtual.simulation import Simulation

pytestmark = pytest.mark.slow

CLOCKS = ["real", "virtual"]
NONE, FIRST = "memory.kind=none", ["update.mode=first", "update.count=3"]
CODE = ["code.family=net", "code.blocks=[8,1]", "code.rotate=true"]
LINEAR = ["problem={kind='logistic',data='breast-cancer',standardise=true,batch=8}", "code.blocks=1"]
CASES = {
    "default": [],
    "least-squares": [NONE, "decoder.kind=least_squares", *FIRST],
    "tracking": ["memory.kind=coordinator", "code.rows_per_task=2", "wire.dtype=int8"],
    "worker": ["memory.kind=worker", "code.rows_per_task=3", "wire.dtype=int8", "stragglers.dead=[3]"],
    "difference": ["memory.kind=difference", "problem.batch=0", "wire.dtype=bfloat16", *FIRST],
    "matched": ["code.family=matched", "code.rows_per_task=[2,1]", "wire.dtype=int8", *FIRST],
    "relay": [
        "downlink.kind=codewords", "downlink.check=5", "wire.dtype=int8", "optimizer.momentum=0.5",
        "optimizer.nesterov=true",
    ],
    "whitened": ["code.whiten=auto", "memory.lookahead=0.2", "wire.dtype=int2", "downlink.kind=codewords"],
    "centred": ["code.whiten=norm", "code.centre=true", "memory.lookahead=0.2", "wire.dtype=int2"],
    "settled": ["code.whiten=auto", "memory.lookahead=0.2", "problem.batch=0", "optimizer.rate=0.3"],
    "auto-rows": ["code.rows_per_task=auto", "code.blocks=[16,1]", "link.bandwidth=1e5"],
    "int2": ["code.rows_per_task=3", "wire.dtype=int2", *FIRST],
    "by-layer": ["code.rows_per_task=[4,1]", 'wire.dtype=["int4","float32"]', "downlink.kind=codewords"],
    "qsgd": ["scheme.name=uncoded", "code.blocks=1", "wire.dtype=qsgd", "downlink.kind=codewords"],
    "energy": [NONE, "code.family=energy", "code.blocks=[8,8]", "decoder.kind=mmse", "update.mode=all"],
    "topk": ["scheme.name=topk", "scheme.options.share=0.05", "code.blocks=1", "downlink.kind=codewords"],
    "chunks": ["scheme.name=topk", "scheme.options.chunk=64", "wire.dtype=int2", "code.blocks=1", *FIRST],
    "randomk": ["scheme.name=randomk", "scheme.options.share=0.05", "code.blocks=1", *FIRST],
    "randomk-relay": [
        "scheme.name=randomk", "scheme.options.share=0.05", "code.blocks=1", "downlink.kind=codewords", NONE,
    ],
    "signsgd": ["scheme.name=signsgd", "code.blocks=1", "downlink.kind=codewords", "downlink.check=2"],
    "ef-signsgd": ["scheme.name=uncoded", "scheme.preset=ef-signsgd", "code.blocks=1"],
    "local": ["scheme.name=local", "scheme.options.steps=3", "code.blocks=[4,1]", "code.family=net"],
    "diloco": [
        "scheme.name=diloco", "scheme.options.steps=3", "code.blocks=[4,1]", "code.family=net", *FIRST,
        "update.late=waste", "memory.kind=worker", "wire.dtype=int8",
    ],
    "delayed-nesterov": [
        "scheme.name=delayed-nesterov", "scheme.options={steps=4,period=3,speeds=[1,1,0.5,0.3]}",
        "code.blocks=1", "downlink.kind=codewords", "downlink.check=5",
    ],
    "sparseloco": [
        "scheme.name=sparseloco", "scheme.options={steps=3,chunk=100,largest=9}", "code.blocks=1",
        "downlink.kind=codewords", "downlink.check=5", *FIRST,
    ],
    "streaming": ["scheme.name=streaming", "code.blocks=3", "wire.dtype=int8", "update.mode=first"],
    "reshuffled": [
        "shuffle.kind=coded", "shuffle.every=3", "link.broadcast=chain", "downlink.kind=codewords", *FIRST,
    ],
    "cached": ["shuffle.kind=coded", "shuffle.every=2", "shuffle.cache=2", "stragglers.slow=[1]"],
    "muon": ["scheme.name=powersgd", "code.blocks=1", "optimizer.kind=muon"],
    "dion": ["scheme.name=dion", "code.blocks=1", "wire.dtype=bfloat16", *FIRST, "update.late=waste"],
    "muon-relay": [*FIRST, "memory.kind=worker", "downlink.kind=codewords", "optimizer.kind=dion2"],
    "streaming-async": ["scheme.name=streaming", "code.blocks=4", "optimizer.momentum=0.5"],
    "ringmaster": ["scheme.name=ringmaster", "scheme.options.threshold=2", *CODE, "memory.kind=worker"],
    "ringleader": ["scheme.name=ringleader", "code.blocks=1", "optimizer.momentum=0.5", "wire.dtype=int8"],
    "robust": [
        "scheme.name=robust", "scheme.options.rule=multi-krum", "code.blocks=1", "workers.count=6", *FIRST,
        'faults.events=[{kind="collude", worker=1, task=2, samples=2}]',
    ],
    "cyclic": [
        "scheme.name=cyclic", "code.blocks=1", "scheme.options.stragglers=2", "stragglers.dead=[3]",
        "stop.seconds=9.0",
    ],
    "frc": ["scheme.name=frc", "code.blocks=1", "wire.dtype=int8", "stragglers.dead=[3]", "stop.seconds=9.0"],
    "bernoulli": ["scheme.name=bernoulli", "code.blocks=1", "wire.dtype=float16"],
    "expander": ["scheme.name=expander", "code.blocks=1", "scheme.options.worker=edge"],
    "sag": ["scheme.name=sag", "code.blocks=1", "scheme.options.parts=3", "problem.batch=0"],
    "dsag": ["scheme.name=dsag", "code.blocks=1", "scheme.options.parts=2", "wire.dtype=int8"],
    "powersgd": [
        "scheme.name=powersgd", "code.blocks=1", "wire.dtype=int8", "update.mode=first", "update.late=waste",
    ],
    "demo": [
        "scheme.name=demo", "code.blocks=1", "scheme.options.largest=3", "optimizer.kind=sign",
        "downlink.kind=codewords", "downlink.check=5",
    ],
    "sgc": ["scheme.name=sgc", "code.blocks=1", "scheme.options={stragglers=2,margin=0.3}"],
    "mds": [*LINEAR, "scheme.name=mds", "scheme.options.blocks=2", "problem.batch=40"],
    "byzantine": [
        *LINEAR, "scheme.name=byzantine", "scheme.options={start=0.5,arriving=30}",
        'faults.events=[{kind="lie", worker=1, task=2}]',
    ],
    "lagrange": [*LINEAR, "scheme.name=lagrange", "problem.batch=40"],
    "lagrange-field": [
        *LINEAR, "scheme.name=lagrange", "scheme.options={arithmetic='field',colluders=1,data_bits=8}",
        "problem.dtype=float64", 'faults.events=[{kind="nan", worker=1, task=2}]',
    ],
    "captured": [NONE, "update.mode=captured", "problem.dtype=float64", "stop.loss=0.5", "stop.updates=1000"],
    "waste": [
        *FIRST, "update.late=waste", "optimizer.momentum=0.5", "workers.count=5",
        'faults.events=[{kind="nan", worker=1, task=0}]',
    ],
    "refuses": ["update.mode=all", "workers.count=1", 'faults.events=[{kind="nan", worker=0, task=4}]'],
    "diverges": [*FIRST, NONE, "optimizer.rate=1e9", "stop.updates=1000"],
    "seconds": ["update.mode=all", "stop.seconds=0.03", "stragglers.dead=[3]", "machine.arrival_s=0.0003"],
    "missing": ["stop.drain_s=0", "workers.count=6"],
    "all-missing": ["update.mode=all", "stop.seconds=0.02", "stop.drain_s=0"],
    "sum-missing": [
        "scheme.name=uncoded", "reduce.kind=allreduce", "reduce.bits=8", "memory.kind=worker",
        "update.mode=all", "stop.seconds=0.02", "stop.drain_s=0",
    ],
    "at-once": ["stop.loss=1000"],
}  # fmt: skip
COMMON = [
    *SMALL, "problem.hidden=[16]", "workers.count=4", "problem.data=breast-cancer",
    "problem.standardise=true", "stop.updates=16",
    "stragglers.kind=shifted-exponential", "stragglers.mean_s=0.001", "stragglers.shift_s=0.001",
    "trace.progress_s=0.004",
]  # fmt: skip


def quiet(line: str) -> None:
    """Print nothing."""


def prepared(path: Path, overrides: Sequence[str], clock: str) -> tuple[Simulation, TraceWriter]:
    """A run on the virtual clock, and its trace, which says of which clock it is."""
    sets = [*COMMON, f"trace.path={path}", *overrides]
    simulation = Simulation(prepare(configfile.resolve({}, sets)))
    kind = {"clock": clock, "task_ns": simulation.task_ns.max()}
    return simulation, open_trace(simulation.config, "", simulation.components, simulation.fleet, **kind)


def record(
    path: Path, overrides: Sequence[str] = (), clock: str = "virtual", interrupt_ms: float = 0
) -> Path:
    """The trace of a run to its end."""
    simulation, trace = prepared(path, overrides, clock)
    fleet, events = simulation.fleet, simulation.fleet.events

    def interrupted(timeout_ns: int, wake_ns: int | None) -> Sequence[Event]:
        fleet.interrupted = 0 < interrupt_ms * MS <= fleet.now_ns()
        return events(timeout_ns, wake_ns)

    fleet.events = interrupted
    with np.errstate(all="ignore"):
        descent, result = simulation.run(trace)
    close_trace(trace, descent, clock_counters(result) | {"oracle_s": result.oracle_s})
    return path


def replayed(path: Path) -> Replayer:
    return replay(Trace(path, correct_clocks=False), quiet)


Runs = dict[tuple[str, str], Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Traces by case and clock; those of a real run say so, and have the same rows."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for how, overrides in CASES.items():
        made[how, "virtual"] = record(folder / f"{how}-virtual.h5", overrides)
        made[how, "real"] = folder / f"{how}-real.h5"
        shutil.copy(made[how, "virtual"], made[how, "real"])
        with h5py.File(made[how, "real"], "r+") as file:
            assert file.attrs["clock"] == "virtual"
            file.attrs["clock"] = "real"
    return made


# Over MPI, tests/mpi/test_replay.py has such runs, too.
REAL = list(CASES)[:: 1 if LONG else 3]
EVERY = [*((how, "virtual") for how in CASES), *((how, "real") for how in REAL)]


@pytest.mark.every(4)
@pytest.mark.parametrize(("how", "clock"), EVERY)
def test_a_run_is_bit_identical(runs: Runs, how: str, clock: str) -> None:
    done, trace = replayed(runs[how, clock]), Trace(runs[how, clock])
    assert done.timed == (clock == "virtual")
    assert done.compared.arrivals.equal == trace.arrivals.rows >= (0 if how == "at-once" else 4)
    assert done.compared.updates.equal == trace.counters["version"]
    assert done.compared.measurements.equal == trace.progress.rows
    assert done.theta.tobytes() == trace.theta.tobytes()


def test_the_cases_have_all_fates_of_arrivals(runs: Runs) -> None:
    found = set().union(*(Trace(path).arrivals["status"].tolist() for path in runs.values()))
    assert found == {USED, WASTED, DRAINED, REFUSED}
    for how in ("missing", "all-missing", "sum-missing"):
        missing = Trace(runs[how, "virtual"])
        assert set(missing.arrivals["status"]) == {USED}
        assert set(missing.faults["kind"]) == {"missing"}
        assert how == "missing" or missing.counters["lost"] == 4


def test_a_worker_that_has_answered_and_then_not_ended_is_not_awaited(runs: Runs) -> None:
    """As one of a host that is silent at the end, besides those without answers."""
    path = copied(runs["missing", "real"])
    with h5py.File(path, "r+") as file:
        last = {key: file["arrivals"][key][-1] for key in ("worker", "task")}
        for key, column in file["faults"].items():
            column.resize((6,))
            column[-1] = last.get(key, column[0])
        assert sorted(file["faults/worker"]) == [*range(6)]
    replayed(path)


def test_sums_by_mpi_cannot_be_recomputed_and_those_of_the_virtual_clock_can(tmp_path: Path) -> None:
    sets = ["scheme.name=allreduce", "code.blocks=1"]
    assert replayed(record(tmp_path / "virtual.h5", sets)).compared.updates.equal == 16
    real = record(tmp_path / "real.h5", sets, "real")
    with pytest.raises(InputError, match=r"reduce\.kind: 'allreduce': MPI adds .* updates/digest"):
        replayed(real)


def test_times_under_other_costs_are_not_compared(runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "older.h5"
    shutil.copy(runs[next(iter(CASES)), "virtual"], path)
    with h5py.File(path, "a") as file:
        del file.attrs["costs"]
        file.attrs["task_flops"] *= 2
        file["arrivals/injected_delay_ns"][:] += 1
    done = replayed(path)
    assert not done.timed
    assert "other costs" in done.untimed_reason
    assert done.compared.updates.equal == Trace(path).counters["version"]


def test_a_trace_of_other_arithmetic_is_refused_where_that_matters(tmp_path: Path) -> None:
    """It is neither called different, nor replayed to other values."""
    rounded = ["wire.dtype=int8", "memory.kind=worker"]
    ordered = [*CODE, "code.rows_per_task=4", NONE]
    whitened = [NONE, "code.whiten=norm"]
    cases = [
        (rounded, 1, ", which rounds to int8 otherwise"),
        (ordered, 1, ", which gives tasks .* another order"),
        (whitened, 2, ", which shrinks whitened steps"),
    ]
    for number, (sets, arithmetic, reason) in enumerate(cases):
        path = record(tmp_path / f"{number}.h5", sets)
        replayed(path)
        with h5py.File(path, "a") as file:
            assert file.attrs["arithmetic"] == 3
            file.attrs["arithmetic"] = arithmetic
        message = (
            f"has arithmetic {arithmetic}, this pdcode 3{reason}.*: replay it with the version that wrote "
        )
        with pytest.raises(InputError, match=message):
            replayed(path)
    path = record(tmp_path / "exact.h5", [*CODE, NONE])
    with h5py.File(path, "a") as file:
        del file.attrs["arithmetic"]
    replayed(path)
    with h5py.File(path, "a") as file:
        file.attrs["arithmetic"] = 4
    with pytest.raises(InputError, match="has arithmetic 4, this pdcode 3: replay it"):
        replayed(path)


def test_an_interrupted_run_is_bit_identical(tmp_path: Path) -> None:
    draining = record(tmp_path / "b.h5", ["stop.updates=4"], interrupt_ms=2.6)
    assert Trace(draining).counters["version"] == 4
    assert Trace(draining).faults.rows == 0
    replayed(draining)
    path = record(tmp_path / "a.h5", ["stop.updates=1000"], interrupt_ms=11)
    assert Trace(path).faults["kind"].tolist() == ["stop"]
    assert Trace(path).counters["version"] < 1000
    replayed(path)
    with h5py.File(path, "r+") as file:
        file["faults/t_ns"][0] += 1
    with pytest.raises(Difference):
        replayed(path)


@pytest.mark.system
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(how=st.sampled_from(["default", "waste", "seconds"]), clock=st.sampled_from(CLOCKS), data=st.data())
def test_a_killed_run_is_compared_as_far_as_its_trace_goes(runs, tmp_path, how, clock, data):
    kept = data.draw(st.integers(0, Trace(runs[how, clock]).arrivals.rows - 1))
    simulation, trace = prepared(tmp_path / "a.h5", CASES[how], clock)
    receive, left = simulation.fleet.events, iter(range(kept))

    def events(*values: Any) -> Sequence[Event]:
        received = receive(*values)
        if received and next(left, None) is None:
            raise KeyboardInterrupt
        return received

    simulation.fleet.events = events
    with pytest.raises(KeyboardInterrupt), np.errstate(all="ignore"):
        simulation.run(trace)
    trace.flush(0)
    compared = replayed(copied(tmp_path / "a.h5")).compared
    assert compared.arrivals.equal == compared.arrivals.rows == kept
    assert compared.updates.equal == compared.updates.rows


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_run_whose_worker_raised_is_compared_until_then(tmp_path: Path, clock: str) -> None:
    raising = 'faults.events=[{kind="raise", worker=2, task=3}]'
    simulation, trace = prepared(tmp_path / "a.h5", [raising], clock)
    with pytest.raises(RuntimeError, match="worker 2 raises at task 3"):
        simulation.run(trace)
    assert replayed(copied(tmp_path / "a.h5")).compared.arrivals.equal >= 3


def copied(path: Path) -> Path:
    return Path(shutil.copy(path, path.with_name("copy.h5")))


def determined(path: Path, timed: bool) -> list[str]:
    """Datasets of a trace that a replay compares."""
    with h5py.File(path) as file:
        names = [f"{table}/{key}" for table in ("arrivals", "updates", "progress") for key in file[table]]
        codes = [f"code/{blocks}/matrix" for blocks in file["code"]]
        return [
            *(name for name in names if timed or "/t_" not in name),
            *codes,
            *(f"checkpoint/{key}" for key in file["checkpoint"]),
        ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    how=st.sampled_from(["default", "waste", "relay", "difference", "captured"]),
    clock=st.sampled_from(CLOCKS),
    data=st.data(),
)
def test_an_altered_value_is_found_and_named(runs: Runs, how: str, clock: str, data: st.DataObject) -> None:
    path = copied(runs[how, clock])
    name = data.draw(st.sampled_from(determined(path, clock == "virtual")))
    with h5py.File(path, "r+") as file:
        values = file[name]
        place = tuple(data.draw(st.integers(0, length - 1)) for length in values.shape)
        old = values[place]
        if values.dtype.kind == "f":
            new = (
                1.5
                if np.isnan(old)
                else data.draw(st.sampled_from([np.nextafter(old, 9), np.nan, -2 * old - 1]))
            )
        else:
            limits = np.iinfo(values.dtype)
            near = st.integers(-2, 6) | st.sampled_from([limits.min, limits.max, int(old) - 1, int(old) + 1])
            new = data.draw(near.filter(lambda new: new != old and limits.min <= new <= limits.max))
        if clock == "real" and name == "arrivals/injected_delay_ns" and new >= 0:
            assume(file["arrivals/status"][place[0]] not in (DRAINED, REFUSED))  # cut by the stop
        values[place] = new
    with pytest.raises((Difference, InputError)) as caught:
        replayed(path)
    found, (table, key) = caught.value, name.split("/", 1)
    if isinstance(found, InputError):  # a value that no run can have
        assert f"damaged: column {key} of {table} has {new}" in str(found)
        return
    assert isinstance(found, Difference)
    if clock == "real" and name == "arrivals/status" and old == DRAINED:
        return  # these alone tell when a real run was stopped, so a later row may show it
    if clock == "real" and name == "arrivals/status" and new == REFUSED:
        return  # a refusal is also a row of the faults, which comes first
    assert found.table == table
    if table in ("code", "checkpoint"):
        shown = f"{key}[{', '.join(map(str, place))}]" if place else key
        assert list(found.columns) == [shown]
        return
    assert found.row == place[0]
    # A replay goes by these columns of a real trace: others show that they are wrong.
    if clock == "virtual" or name not in ("arrivals/worker", "arrivals/status", "progress/version"):
        np.testing.assert_equal(found.columns[key], (new, old))


@pytest.mark.parametrize("name", ["seed", "task_ns", "blocks", "weights", "wasted", "oracle_s", "egress_ns"])
def test_an_altered_number_is_named(runs: Runs, name: str) -> None:
    path = copied(runs["waste", "virtual"])
    with h5py.File(path, "r+") as file:
        place = "attributes" if name in file.attrs else "checkpoint"
        attributes = file.attrs if name in file.attrs else file["checkpoint"].attrs
        attributes[name] = attributes[name] + 1
    with pytest.raises(Difference, match=f"^{place}: {name}.*: recorded ") as caught:
        replayed(path)
    assert caught.value.row is None


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("table", ["arrivals", "updates", "progress"])
@pytest.mark.parametrize(
    "change", [lambda values: values[:-1], lambda values: np.append(values, values[-1:])]
)
def test_a_row_too_few_or_too_many_is_named(runs, table, clock, change):
    path = copied(runs["default", clock])
    with h5py.File(path, "r+") as file:
        for column in file[table].values():
            values = change(column[:])
            column.resize(values.shape)
            column[:] = values
    with pytest.raises(Difference):
        replayed(path)


def test_the_command_names_the_difference_in_one_line(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    path = copied(runs["default", "real"])
    assert_replays(path, capsys)
    with h5py.File(path, "r+") as file:
        loss = file["arrivals/loss"][7]
        file["arrivals/loss"][7] = 0.5
    assert main(["replay", str(path)]) == 1
    out = capsys.readouterr().out
    assert out == f"{path}: not the same: arrivals row 7: loss: recorded 0.5, recomputed {loss}\n"


def test_without_the_file_of_delays_times_are_not_compared(tmp_path, capsys):
    delays = tmp_path / "delays.csv"
    delays.write_text("0.001,0.002\n" * 4)
    path = record(tmp_path / "a.h5", ["stragglers={kind='trace', path='" + str(delays) + "'}"])
    assert replayed(path).timed
    delays.unlink()
    assert main(["replay", str(path)]) == 0
    assert "delays.csv" in capsys.readouterr().out


def configured(file: h5py.File, **tables: object) -> None:
    """Put other tables into the resolved configuration."""
    file.attrs["config_resolved"] = json.dumps(json.loads(file.attrs["config_resolved"]) | tables)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("outputs", "17,000,208 parameters, but the run had 225"),
        ("features", "16,000,033 parameters, but the run had 225"),
        ("samples", "800,000 rows, but the run had 48"),
    ],
)
def test_synthetic_data_of_another_size_are_not_generated(tmp_path, capsys, monkeypatch, key, message):
    data = ["problem.data=synthetic", "problem.samples=60", "problem.features=12"]
    path = record(tmp_path / "a.h5", data)
    with h5py.File(path, "r+") as file:
        problem = json.loads(file.attrs["config_resolved"])["problem"]
        configured(file, problem=problem | {key: 10**6})
    monkeypatch.delattr("pdcode.problems.load_source")
    assert main(["replay", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_sizes_that_contradict_the_trace_are_refused_before_the_replay(tmp_path, capsys, monkeypatch):
    path = record(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        problem = json.loads(file.attrs["config_resolved"])["problem"]
        configured(file, problem=problem | {"batch": 10**6})
    monkeypatch.delattr("pdcode.replay.replayer.InProcessExecutor")
    monkeypatch.delattr("pdcode.replay.replayer.Simulation")
    assert main(["replay", str(path)]) == 1
    assert "attributes: task_rows: recorded " in capsys.readouterr().out


def retyped(file: h5py.File) -> None:
    del file["updates/n_used"]
    file["updates/n_used"] = np.array([b"a", b"b"])


def regrouped(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_group(name)


DAMAGES: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "no-config": (lambda file: file.attrs.pop("config_resolved"), "config_resolved: missing"),
    "config": (lambda file: configured(file, seed=-1), "config_resolved: seed: expected integer >= 0"),
    "no-utf-8": (lambda file: configured(file, **{"\udc9a": 1}), "config_resolved: "),
    "no-json": (lambda file: file.attrs.modify("config_resolved", "{"), "damaged: config_resolved"),
    "sampled": (lambda file: configured(file, trace={"arrivals": "sampled"}), "a replay needs every arrival"),
    "no-data": (lambda file: configured(file, problem={"data": "none.npz"}), "none.npz"),
    "times-only": (lambda file: file.attrs.modify("numerics", np.False_), "only times were simulated"),
    "no-column": (lambda file: file.__delitem__("arrivals/loss"), "damaged: arrivals has no column loss"),
    "no-table": (lambda file: file.__delitem__("progress"), "damaged: "),
    "type": (retyped, "damaged: column n_used of updates"),
    "theta": (lambda file: regrouped(file, "checkpoint/theta"), "damaged: "),
}


@pytest.mark.parametrize("how", [*DAMAGES, "cut", "text", "gone"])
def test_what_cannot_be_replayed_is_bad_input(runs, capsys, how):
    path = copied(runs["default", "virtual"])
    expected = "copy.h5: "
    if how in DAMAGES:
        change, expected = DAMAGES[how]
        with h5py.File(path, "r+") as file:
            change(file)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "text":
        path.write_text("a,b\n")
    else:
        path.unlink()
    assert main(["replay", str(path)]) == 2
    error = error_line(capsys)
    assert "copy.h5" in error
    assert expected in error
