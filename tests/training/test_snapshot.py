"""Runs on the virtual clock that go on from a snapshot are those that never stopped, whatever the scheme."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import SUPPORT

from pdcode.config.load import resolve
from pdcode.trace import Recorder
from pdcode.training import snapshot
from pdcode.training.session import TrainingRun
from pdcode.virtual.simulation import Simulation

COMMON = [
    "seed=5", "problem.hidden=[16]", "problem.batch=8", "code.blocks=[8, 1]", "code.weight=4",
    "workers.count=5", "optimizer.rate=0.1", "stragglers.kind=shifted-exponential", "stragglers.mean_s=0.002",
    "stragglers.slow=[4]", "stragglers.slowdown=8", "stop.updates=24",
]  # fmt: skip
FIRST = ["update.mode=first", "update.count=3"]
L1 = "optimizer.proximal={kind='l1', weight=0.002}"


def scheme(name: str, *more: str) -> list[str]:
    return [f"scheme.name={name}", 'code={family="uncoded",blocks=1,rotate=false}', *more]


LINEAR = ["problem.kind=softmax", "problem.hidden=[64]", 'code={family="uncoded",blocks=1,rotate=false}']
CASES = {
    "default": ["memory.kind=worker", "memory.lookahead=0.2", "code.whiten=gram", "wire.dtype=int8"],
    "relayed": ["downlink.kind=codewords", "wire.dtype=int8"],
    "exchanged": ["downlink.kind=exchange", "link.half_duplex=true"],
    "tree": ["update.mode=all", "link.broadcast=tree"],
    "all": ["update.mode=all", "optimizer.momentum=0.5", "optimizer.nesterov=true"],
    "proximal": ["downlink.kind=codewords", "optimizer.momentum=0.5", L1],
    "proximal parts": scheme("streaming", "code.blocks=3", "optimizer.momentum=0.5", L1),
    "proximal rounds": scheme("powersgd", "memory.kind=worker", "update.late=waste", L1, *FIRST),
    "captured": ["update.mode=captured", "decoder.kind=least_squares", "memory.kind=none"],
    "tracking": ["memory.kind=coordinator", "decoder.kind=tracking", "optimizer.kind=adam"],
    "clipped": ["update.clip=median"],
    "quorum": ["update.mode=quorum", "update.count=3"],
    "difference": ["memory.kind=difference", "problem.batch=0", *FIRST],
    "energy": ["code.family=energy", "memory.kind=coordinator"],
    "matched": ["code.family=matched", *FIRST],
    "mmse": ["decoder.kind=mmse", "memory.kind=none", *FIRST],
    "peeling": ["decoder.kind=peeling", "memory.kind=none", "update.mode=all"],
    "residual": ["decoder.kind=residual", "memory.kind=none", "update.mode=all"],
    "topk": scheme("topk", "wire.dtype=int4", "downlink.kind=codewords"),
    "randomk": scheme("randomk", *FIRST),
    "uncoded": scheme("uncoded", *FIRST),
    "allreduce": scheme("allreduce"),
    "sag": scheme("sag", "problem.batch=0", "update.count=3"),
    "dsag": scheme("dsag", "update.count=3"),
    "signsgd": scheme("signsgd", "memory.kind=none", "update.mode=first"),
    "local": scheme("local", "scheme.options.steps=3", *FIRST),
    "diloco": scheme("diloco", "scheme.options.steps=3", *FIRST, "update.late=waste"),
    "sparseloco": scheme("sparseloco", "scheme.options={steps=3,chunk=100}", *FIRST),
    "delayed-nesterov": scheme("delayed-nesterov", "scheme.options.steps=4"),
    "streaming": scheme("streaming", "code.blocks=3"),
    "ringmaster": scheme("ringmaster", "scheme.options.threshold=3"),
    "ringleader": scheme("ringleader"),
    "robust": scheme("robust", "scheme.options.rule=clipping"),
    "cyclic": scheme("cyclic", "scheme.options.stragglers=2"),
    "frc": scheme("frc", "scheme.options.stragglers=4"),
    "bernoulli": scheme("bernoulli"),
    "expander": scheme("expander", "update.count=3"),
    "sgc": scheme("sgc", "update.mode=all", "scheme.options={stragglers=2,burst=1,window=3}"),
    "rounds": [f'plugins=["{SUPPORT / "clipped.py"}"]', *scheme("clipped", *FIRST, "update.late=waste")],
    "powersgd": scheme("powersgd", *FIRST, "update.late=waste"),
    "demo": scheme("demo", "optimizer.kind=sign", *FIRST),
    "mds": [*LINEAR, "scheme={name='mds',options={blocks=3,start=0.3,arriving=20}}"],
    "lagrange": [
        "problem.kind=logistic", "problem.data=breast-cancer", "problem.dtype=float64", "problem.hidden=[64]",
        "problem.standardise=true", 'code={family="uncoded",blocks=1,rotate=false}',
        "scheme={name='lagrange',options={arithmetic='field',colluders=1,data_bits=8,stragglers=0}}",
    ],
    "byzantine": [
        *LINEAR, "scheme={name='byzantine',options={coordinates=20}}", "problem.batch=0",
    ],
}  # fmt: skip


class Rows(Recorder):
    """Rows of arrivals and updates; before an arrival it may call something."""

    def __init__(self) -> None:
        self.kept: list[tuple[Any, ...]] = []

    def arrival(self, *values: float) -> None:
        self.kept.append(values[:16] + values[17:])

    def update(self, *values: float) -> None:
        self.kept.append(values)


def build(overrides: list[str]) -> tuple[TrainingRun, Rows]:
    simulation, rows = Simulation(resolve({}, [*COMMON, *overrides])), Rows()
    run = TrainingRun(
        simulation.config,
        simulation.components,
        simulation.fleet,
        rows,
        lambda line: None,
        time.perf_counter_ns,
    )
    return run, rows


def go(run: TrainingRun, at: int = -1) -> tuple[bytes, int]:
    """Run to the end; return a snapshot taken at an arrival, encoded, and the rows until then."""
    taken, count, receive = [(b"", 0)], 0, run.fleet.events

    def events(*arguments: Any) -> Any:
        nonlocal count
        if count == at:
            taken[0] = msgspec.msgpack.encode(snapshot.take(run.kept)), len(run.trace.kept)
        count += 1
        return receive(*arguments)

    with np.errstate(all="ignore"), pytest.MonkeyPatch.context() as patch:
        if at >= 0:
            patch.setattr(run.fleet, "events", events)
        run.coordinator.run(run.monitor)
    return taken[0]


def put(run: TrainingRun, encoded: bytes) -> None:
    """Put a run that is built where another one was."""
    snapshot.restore(run.kept, msgspec.msgpack.decode(encoded, type=snapshot.Snapshot))
    run.coordinator.resumed = True


def compare(overrides: list[str], at: int) -> None:
    """Compare a run with one that begins with a snapshot of it, taken at an arrival."""
    whole, rows = build(overrides)
    whole.fleet.start()
    encoded, until = go(whole, at)
    if not encoded:  # it had ended before
        return
    rest, later = build(overrides)
    put(rest, encoded)
    go(rest)
    assert repr(rows.kept[until:]) == repr(later.kept)
    assert whole.coordinator.theta.tobytes() == rest.coordinator.theta.tobytes()
    assert len(later.kept) > 10 or at > 17


@pytest.mark.parametrize("case", CASES)
def test_a_run_goes_on_as_if_it_had_not_stopped(case: str) -> None:
    compare(CASES[case], 17)


@settings(max_examples=10)
@given(case=st.sampled_from(["default", "relayed", "exchanged", "tree", "sgc"]), at=st.integers(0, 60))
def test_at_any_arrival(case: str, at: int) -> None:
    compare(CASES[case], at)


def test_many_workers_with_a_calendar_of_events() -> None:
    compare(["workers.count=300", "stop.updates=700"], 450)


@pytest.mark.parametrize(
    "other", [["workers.count=6"], scheme("uncoded"), ["decoder.kind=mmse", "memory.kind=none"]]
)
def test_a_snapshot_of_another_run_does_not_fit(other: list[str]) -> None:
    run, _ = build([])
    run.fleet.start()
    encoded, _ = go(run, at=9)
    rest, _ = build(other)
    with pytest.raises(snapshot.Mismatch):
        put(rest, encoded)


@pytest.mark.parametrize(
    ("there", "kept"),
    [
        (0, ["list", []]), (1.5, ["array", 0, "<f4", [1]]), (True, ["plain", "x"]), ("x", ["plain", 1]),
        (b"x", ["plain", "x"]), (np.zeros(3), ["plain", "x"]), ([1], ["plain", 1]), ({}, ["plain", 1]),
        (0, ["set", []]), (0, ["record", "Order", []]),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused(there: Any, kept: list[Any]) -> None:
    """It would fail much later, in the midst of the run."""
    with pytest.raises(snapshot.Mismatch):
        snapshot.restore({"a": there}, snapshot.Snapshot(["map", ["a"], [kept]], [bytes(4)]))


def test_what_cannot_be_kept_is_an_error() -> None:
    class Holder:
        def __init__(self) -> None:
            self.file = memoryview(b"")
            self.other = iter([])

    with pytest.raises(TypeError, match=r"Holder\.other"):
        snapshot.take(Holder())
