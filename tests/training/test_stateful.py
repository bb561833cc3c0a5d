"""Runs on the virtual clock that resume are those that never stopped, and states have all that changes."""

import pkgutil
import time
from pathlib import Path
from typing import Any

import extending
import numpy as np
import pytest
from attributes import attributes
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import SUPPORT

from pdcode.config.kinds import KINDS
from pdcode.config.load import resolve
from pdcode.session.run import TrainingRun
from pdcode.session.setup import prepare
from pdcode.session.worker_checkpoint import WorkerFile
from pdcode.trace.recorder import Recorder
from pdcode.util import checked
from pdcode.util.errors import InputError
from pdcode.util.stateful import Stateful, load_state, state_of
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


MISFIT = SUPPORT / "functions.py:misfit"
LINEAR = ["problem={kind='softmax',batch=8}", 'code={family="uncoded",blocks=1,rotate=false}']
CASES = {
    "differences": [
        f"problem={{kind='simulation',function='{MISFIT}',residuals=9,start=[0.0,0.0,0.0]}}",
        *scheme("differences", "optimizer={kind='sgd',rate=1.0}"),
    ],
    "default": ["memory.kind=worker", "memory.lookahead=0.2", "code.whiten=gram", "wire.dtype=int8"],
    "centred": ["memory.kind=worker", "code.whiten=norm", "code.centre=true", "wire.dtype=int8"],
    "relayed": ["downlink.kind=codewords", "wire.dtype=int8"],
    "exchanged": ["downlink.kind=exchange", "link.half_duplex=true"],
    "tree": ["update.mode=all", "link.broadcast=tree", "stragglers={kind='none'}"],
    "all": ["update.mode=all", "optimizer.momentum=0.5", "optimizer.nesterov=true"],
    "proximal": ["downlink.kind=codewords", "optimizer.momentum=0.5", L1],
    "proximal parts": scheme("streaming", "code.blocks=3", "optimizer.momentum=0.5", L1),
    "proximal rounds": scheme("powersgd", "memory.kind=worker", "update.late=waste", L1, *FIRST),
    "captured": ["update.mode=captured", "decoder.kind=least_squares", "memory.kind=none"],
    "tracking": ["memory.kind=coordinator", "decoder.kind=tracking", "optimizer.kind=adam"],
    "muon": ["downlink.kind=codewords", "optimizer.kind=muon", "machine.coordinator_speed=3"],
    "orthogonal": ["downlink.kind=codewords", "optimizer.kind=orthogonal"],
    "schedule-free": ["downlink.kind=codewords", "optimizer={kind='schedule-free', longest=0.4}"],
    "dion2": ["optimizer.kind=dion2", "update.mode=all"],
    "adamw": [
        "optimizer={kind='adamw', rate=0.01, warmup=9, schedule='cosine', updates=200, clip=0.3}",
        "downlink.kind=codewords",
    ],
    "clipped": ["update.clip=median", "stragglers={kind='pareto',shift_s=0.001,shape=1.5}"],
    "quorum": [
        "update.mode=quorum", "update.count=3", "stragglers={kind='lognormal',median_s=0.002,sigma=1.0}",
    ],
    "difference": ["memory.kind=difference", "problem.batch=0", *FIRST],
    "energy": ["code.family=energy", "memory.kind=coordinator"],
    "matched": ["code.family=matched", *FIRST],
    "mmse": ["decoder.kind=mmse", "memory.kind=none", *FIRST],
    "peeling": ["decoder.kind=peeling", "memory.kind=none", "update.mode=all"],
    "residual": ["decoder.kind=residual", "memory.kind=none", "update.mode=all"],
    "topk": scheme(
        "topk", "wire.dtype=int4", "downlink.kind=codewords",
        "stragglers={kind='slow-set',slow=[1],slowdown=4}",
    ),
    "randomk": scheme("randomk", *FIRST, "stragglers={kind='heterogeneous',slowdown=3}"),
    "uncoded": scheme("uncoded", *FIRST, "stragglers={kind='bimodal',extra_s=0.01,probability=0.2}"),
    "allreduce": scheme("allreduce"),
    "averaged": [
        "reduce.kind=allreduce", "update.mode=all", "wire.dtype=int8", "memory.kind=worker",
        'code={family="uncoded",blocks="units",share=0.5,rotate=true}', "optimizer.momentum=0.5",
    ],
    "sag": scheme("sag", "problem.batch=0", "update.count=3"),
    "dsag": scheme("dsag", "update.count=3"),
    "signsgd": scheme("signsgd", "memory.kind=none", "update.mode=first"),
    "local": scheme("local", "scheme.options.steps=3", *FIRST),
    "diloco": scheme("diloco", "scheme.options.steps=3", *FIRST, "update.late=waste"),
    "muloco": scheme("muloco", "scheme.options.steps=3", *FIRST, "update.late=waste"),
    "ringmaster-muon": scheme("ringmaster-muon", "optimizer.kind=muon"),
    "ef21-muon": scheme(
        "ef21-muon", "memory.kind=difference", "downlink.kind=codewords", "optimizer.kind=muon"
    ),
    "dion": scheme("dion", "memory.kind=worker", "update.late=waste", *FIRST),
    "heloco": scheme("heloco", "optimizer.momentum=0.9", "optimizer.nesterov=true"),
    "mindflayer": scheme("mindflayer", "update.mode=all"),
    "shadowheart": scheme("shadowheart", "memory.kind=none", "update={mode='first',late='waste'}"),
    "unequal": scheme("unequal", "update.late=waste", *FIRST),
    "rennala": scheme("rennala", "scheme.options.gradients=9", "update={mode='first',late='waste'}"),
    "sparse-muloco": scheme("sparse-muloco", "scheme.options={steps=2,chunk=100}", *FIRST),
    "sparseloco": scheme("sparseloco", "scheme.options={steps=3,chunk=100}", *FIRST),
    "delayed-nesterov": scheme("delayed-nesterov", "scheme.options.steps=4"),
    "streaming": scheme("streaming", "code.blocks=3"),
    "ringmaster": scheme(
        "ringmaster", "scheme.options.threshold=3",
        "stragglers={kind='markov',extra_s=0.01,enter=0.2,leave=0.3}",
    ),
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
        "problem={kind='logistic',data='breast-cancer',dtype='float64',batch=8,standardise=true}",
        'code={family="uncoded",blocks=1,rotate=false}',
        "scheme={name='lagrange',options={arithmetic='field',colluders=1,data_bits=8,stragglers=0}}",
    ],
    "byzantine": [
        *LINEAR, "scheme={name='byzantine',options={coordinates=20}}", "problem.batch=0",
    ],
}  # fmt: skip


LEFT = {
    # What follows from other attributes.
    "Monitor": "_due_ns _wall_due_ns trace", "Coordinator": "resumed monitor trace",
    "Saving": "save", "Incidents": "_trace",
    "Rotating": "_stretch _row _drawn", "RowGroups": "_drawn", "AdjointDecoder": "_captured",
    "LevenbergMarquardt": "_x _r _j _gradient _normal _free _trials", "Search": "jacobian",
    "Events": "flights", "CostModelSchedule": "_excluded",
    "Optimizer": "_theta _decoders _plan _shrinkage _whole", "ScheduleFree": "_groups",
    "PayloadStore": "_addresses", "ProductState": "_matrix",
    # What is written before it is read: in a task, or an update.
    "VirtualFleet": "_replies _task", "BatchSampler": "_indices",
    "MemoryEncoder": "_rounding_errors _units _sent", "LookAhead": "_point", "LocalSteps": "_theta gradient",
    "PartGradient": "gradient", "CoefficientSource": "gradient", "WorkerMomentum": "gradient",
    "Trials": "gradient", "ShardSum": "_scaled gradient",
    "LargestElements": "_scratch _codewords",
    "MatchedSelector": "_left _right _product _turned _gram _indices _values", "FullReplica": "_theta _body",
    "MirroredReplica": "_codewords _codeword_view _entry _reply",
    "RelayedState": "_scratch _codeword_view _last_entries",
    "GatheringState": "total", "ReducedState": "wrapped",
    "Owner": "_encoders _sent _task",  # the residual has an effect on later rows
    "GradientTable": "_change", "Clip": "gradient",
    "CoefficientSigns": "_coefficients", "ProximalSGD": "_before", "Muon": "_direction",
    "Arrival": "body codewords finite injected_delay_ns loss payloads t_compute_ns t_recv_ns t_send_ns "
    "t_start_ns",
}  # fmt: skip
"""Attributes of classes that no state needs."""


class Rows(Recorder):
    """Rows of arrivals and updates."""

    def __init__(self) -> None:
        self.kept: list[tuple[Any, ...]] = []

    def arrival(self, *values: float) -> None:
        self.kept.append(values[:16] + values[17:])

    def update(self, *values: float) -> None:
        self.kept.append(values)


def build(overrides: list[str]) -> tuple[TrainingRun, Rows]:
    simulation, rows = Simulation(prepare(resolve({}, [*COMMON, *overrides]))), Rows()
    parts = simulation.config, simulation.components, simulation.fleet, rows
    return TrainingRun(*parts, lambda line: None, time.perf_counter_ns), rows


def go(run: TrainingRun, at: int = -1) -> tuple[Any, int, Any]:
    """Run to the end; return the state at an arrival, the rows until then, and all attributes."""
    taken, count, receive = [(None, 0, None)], 0, run.fleet.events

    def events(*arguments: Any) -> Any:
        nonlocal count
        if count == at:
            taken[0] = state_of(run.stateful), len(run.trace.kept), attributes(run.stateful, LEFT)
        count += 1
        return receive(*arguments)

    with np.errstate(all="ignore"), pytest.MonkeyPatch.context() as patch:
        if at >= 0:
            patch.setattr(run.fleet, "events", events)
        run.coordinator.run(run.monitor)
    return taken[0]


def differing(run: TrainingRun, there: dict[str, Any]) -> list[str]:
    """Return the paths of attributes that are not as in another run."""
    here = attributes(run.stateful, LEFT)
    return sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))


def compare(overrides: list[str], at: int, path: Path) -> None:
    """Compare a run with one that begins with a state of it, taken at an arrival and read from a file."""
    whole, rows = build(overrides)
    whole.fleet.start()
    state, until, there = go(whole, at)
    if state is None:  # it had ended before
        return
    checked.write(path, WorkerFile("", 0, 0, state))
    rest, later = build(overrides)
    load_state(rest.stateful, checked.read(path, WorkerFile).state)
    rest.coordinator.resumed = True
    assert differing(rest, there) == []
    go(rest)
    assert repr(rows.kept[until:]) == repr(later.kept)
    assert whole.coordinator.theta.tobytes() == rest.coordinator.theta.tobytes()
    assert len(later.kept) > 10 or at > 17


@pytest.mark.every(6)
@pytest.mark.parametrize("case", CASES)
def test_a_run_resumes_as_if_it_had_not_stopped(case: str, tmp_path: Path) -> None:
    compare(CASES[case], 17, tmp_path / "state")


@pytest.mark.parametrize("name", ["diagonal", "clipped", "ring"])
def test_a_run_with_a_plug_in_of_the_documentation_resumes(name: str, tmp_path: Path) -> None:
    extending.paste(tmp_path)
    plugin = tmp_path / f"{name}.py"
    plugin.write_text(plugin.read_text().replace('"clipped"', '"norm-clipped"'))  # another one is loaded
    kind = {
        "diagonal": ["memory.kind=none", "decoder.kind=diagonal"],
        "clipped": ["scheme.name=norm-clipped"],
        "ring": scheme("uncoded", "reduce.kind=ring", "update.mode=all"),
    }
    compare([f'plugins=["{plugin}"]', *kind[name]], 17, tmp_path / "state")


@settings(max_examples=10)
@given(case=st.sampled_from(["default", "relayed", "exchanged", "tree", "sgc"]), at=st.integers(0, 60))
def test_at_any_arrival(tmp_path_factory: pytest.TempPathFactory, case: str, at: int) -> None:
    compare(CASES[case], at, tmp_path_factory.mktemp("at") / "state")


def test_many_workers_with_a_calendar_of_events(tmp_path: Path) -> None:
    compare(["workers.count=300", "stop.updates=700"], 450, tmp_path / "state")


def test_every_kind_is_among_the_cases() -> None:
    configs = [resolve({}, [*COMMON, *each]) for each in CASES.values()]
    found = {
        "schemes": {config.scheme.name for config in configs},
        "memories": {config.memory.kind for config in configs},
        "decoders": {config.decoder.kind for config in configs},
        "optimizers": {config.optimizer.kind for config in configs},
        "policies": {config.update.mode for config in configs},
        "stragglers": {config.stragglers.kind for config in configs} | {"trace"},  # delays of a recorded run
    }
    for group, names in found.items():
        assert {name for name, path in KINDS[group].items() if isinstance(path, str)} <= names


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("pdcode.decoders.base:Decoder", "count"), ("pdcode.coding.memory:MemoryEncoder", "residual"),
        ("pdcode.coding.optimizers:Optimizer", "state"), ("pdcode.training.roster:Roster", "tasks"),
        ("pdcode.schemes.common.assignments:Rotating", "_next"),
        ("pdcode.virtual.fleet:VirtualFleet", "_slots"),
    ],
)  # fmt: skip
def test_an_attribute_that_a_class_does_not_name_is_found(monkeypatch, path, name):
    forgetful: Any = pkgutil.resolve_name(path)
    for each in (forgetful, *forgetful.__subclasses__()):
        names = tuple(one for one in each.state_names if one != name)
        monkeypatch.setattr(each, "state_names", names)
    overrides = [*CASES["all"], "memory.kind=worker"]
    run, _ = build(overrides)
    run.fleet.start()
    state, _, there = go(run, at=13)
    rest, _ = build(overrides)
    load_state(rest.stateful, state)
    assert any(name in each for each in differing(rest, there))


@pytest.mark.parametrize(
    "other", [["workers.count=6"], scheme("uncoded"), ["decoder.kind=mmse", "memory.kind=none"]]
)
def test_a_state_of_another_run_is_refused(other: list[str]) -> None:
    run, _ = build([])
    run.fleet.start()
    state, _, _ = go(run, at=9)
    rest, _ = build(other)
    with pytest.raises(InputError, match=r"(in place of|not a state of)"):
        load_state(rest.stateful, state)


@pytest.mark.parametrize(
    ("there", "state"),
    [
        (0, []), (1.5, np.zeros(1, "f4")), (True, "x"), ("x", 1), (b"x", "x"), (np.zeros(3), "x"),
        (np.zeros(3), np.zeros(4)), (np.zeros(3), np.zeros(3, "f4")), ([1], 1), ({}, 1), ({1}, {}),
        ([Stateful()], []), ({"a": np.zeros(1)}, {}), (Stateful(), {"a": 1}),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused(there: Any, state: Any) -> None:
    """It would fail much later, in the midst of the run."""
    with pytest.raises(InputError):
        load_state(there, state)


class Typed(Stateful):
    state_names = ("at", "names", "free")
    state_types = (("at", int | None), ("names", list[str]))

    def __init__(self) -> None:
        self.at, self.names, self.free = 3, set[str](), 3


def test_types_are_declared_of_what_may_be_none_or_empty() -> None:
    typed = Typed()
    typed.load_state_dict({"at": None, "names": ["a"], "free": 4})
    assert (typed.at, typed.names, typed.free) == (None, {"a"}, 4)
    typed.load_state_dict({"at": 5, "names": [], "free": 4})
    for wrong in ({"at": "x"}, {"names": [1]}, {"names": None}, {"free": None}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Typed().load_state_dict({"at": 5, "names": [], "free": 4} | wrong)


def test_what_has_no_state_is_an_error() -> None:
    with pytest.raises(InputError, match="a list_iterator has no state_dict"):
        state_of([iter([])])
