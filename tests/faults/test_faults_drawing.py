"""The events of a run: a function of the configuration, the seed and the worker alone."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from outcomes import refused

from pdcode import faults
from pdcode.config import Config, FaultsTable, legacy
from pdcode.config import load as configfile
from pdcode.config.write import to_toml
from pdcode.faults.link import FaultyLink
from pdcode.faults.process import Kill, Stop
from pdcode.util.errors import InputError

NODES = "0,add,a\n0,add,b\n1000,remove,a\n2000,add,c\n3000,remove,c\n3000,remove,b\n4000,add,d\n"


def config(*overrides: str) -> Config:
    return configfile.resolve({}, ["stop.seconds=100.0", *overrides])


def times(config: Config, worker: int) -> list[tuple[str, float]]:
    return [(each.kind, each.at_s) for each in faults.of_worker(config, worker)]


def test_every_scheme_meets_the_same_failures() -> None:
    rate = ["faults.mtbf_s=10.0", "faults.failure={kind='stop', for_s=0.5}"]
    made = config(*rate)
    for others in (["scheme.name=topk"], ["workers.count=64"], ["update.mode=all"]):
        assert [times(config(*rate, *others), worker) for worker in range(8)] == [
            times(made, worker) for worker in range(8)
        ]
    assert times(config(*rate, "seed=2"), 0) != times(made, 0)
    assert times(made, 1) != times(made, 0)


def test_times_between_failures_are_exponential_and_a_worker_dies_once() -> None:
    made = config("faults.mtbf_s=5.0", "faults.failure={kind='hang'}")
    gaps = np.concatenate(
        [np.diff([0.0, *(at_s for _, at_s in times(made, worker))]) for worker in range(500)]
    )
    assert gaps.mean() == pytest.approx(5, rel=0.06)  # 500 × 20 gaps, but for those that the end cuts
    assert gaps.std() == pytest.approx(5, rel=0.08)
    dying = config("faults.mtbf_s=5.0", "stop.updates=5")
    assert {tuple(kind for kind, _ in times(dying, worker)) for worker in range(50)} <= {("kill",), ()}


def test_events_are_in_order_of_time_and_then_of_tasks() -> None:
    made = config(
        "faults.events=[{worker=1, at_s=3}, {kind='nan', worker=1, task=7}, {kind='stop', worker=1, at_s=2},"
        " {kind='lie', worker=1, task=5}, {worker=2, at_s=1}, {kind='full-disk', at_s=9}]"
    )
    assert [each.kind for each in faults.of_worker(made, 1)] == ["stop", "kill", "lie", "nan"]
    assert [each.kind for each in faults.at_rank_0(made)] == ["full-disk"]
    assert configfile.resolve(configfile.parse(to_toml(made))) == made


def test_nodes_come_and_go_as_recorded(tmp_path: Path) -> None:
    path = tmp_path / "nodes.csv"
    path.write_text(NODES, encoding="utf-8")
    settings = f"faults.spot={path}", "faults.spot_speed=2.0", "workers.count=4"
    for made, end in ((config(*settings), "leave"), (config(*settings, "faults.spot_end=kill"), "kill")):
        first, second = [(end, 0.5), ("join", 1.0), (end, 1.5), ("join", 2.0)], [(end, 1.5)]  # a, c, d; b
        assert [times(made, worker) for worker in range(4)] == [first, second, first, second]
        assert faults.joins(made) == {worker: [10**9, 2 * 10**9] for worker in (0, 2)}
    assert faults.joins(config(*settings, "stop.seconds=1.5")) == {0: [10**9], 2: [10**9]}
    path.write_text("5000,add,a\n6000,add,b\n", encoding="utf-8")
    faults.spot.nodes_by_place.cache_clear()
    assert [times(made, worker) for worker in range(2)] == [[], [("kill", 0.0), ("join", 0.5)]]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0,add,a\n0,added,b\n", "line 2: expected ms,add|remove,node"),
        ("0;add;a\n", "line 1: expected"),
        ("0,add,a\n1,add,a\n", "line 2: a: is there"),
        ("9,add,a\n1,add,b\n", "line 2: b: is there, is not, or came earlier"),
        ("0,remove,a\n", "line 1"),
        ("", "no node"),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_no_spot_trace_is_refused(tmp_path: Path, text: str | None, why: str) -> None:
    path = tmp_path / "nodes.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"faults\.spot: ") as caught:
        faults.check(config(f"faults.spot={path}"), 1)
    assert why in str(caught.value)


def test_old_traces_have_faults_by_their_own_keys() -> None:
    keys = {"raise_worker": 1, "raise_task": 3, "nan_worker": 2, "nan_task": 0}
    table = legacy.read({"faults": keys}).faults
    assert [(each.kind, each.worker, each.task) for each in table.events] == [("raise", 1, 3), ("nan", 2, 0)]
    assert not legacy.read({"faults": {**keys, "raise_worker": None, "nan_worker": None}}).faults
    with pytest.raises(InputError, match=r"faults\.raise_worker: unknown key"):
        FaultsTable.of(keys)


def test_a_task_fault_is_active_for_tasks_sent_within_it_and_at_least_the_first() -> None:
    events = config(
        "faults.events=[{kind='slow', worker=0, at_s=1.0, for_s=0.5}, {kind='delay', worker=0, at_s=1.0,"
        " for_s=0.0}, {kind='drop', worker=0, task=3, for_s=1.0}, {kind='nan', worker=0, task=2}]"
    )
    active = faults.ActiveFaults(faults.of_worker(events, 0))
    on = [[each.kind for each in active.at(task, round(0.4e9 * task))] for task in range(7)]
    assert on == [
        [], [], ["nan"], ["slow", "delay", "nan", "drop"], ["nan", "drop"], ["nan", "drop"], ["nan"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["faults.events=[{kind='duplicate', worker=0, task=1}]", "scheme.name=streaming"], "in parts"),
        (["faults.mtbf_s=1.0", "faults.failure={kind='stop', for_s=1}"], "faults.mtbf_s: failures that"),
        (
            ["faults.events=[{kind='join', worker=0, at_s=1}]", "memory.kind=difference"],
            "memory.kind: 'difference'",
        ),
        (["faults.events=[{kind='join', worker=0, task=1}]"], "kind 'join', worker 0: at_s: must be given"),
        (
            ["faults.events=[{kind='leave', worker=0, at_s=1}]", "scheme.name=allreduce"],
            "'allreduce' does not go with faults.events.kind 'leave'",
        ),
        (
            ["faults.spot=nodes.csv", "scheme.name=allreduce"],
            "faults.spot_end: 'leave': an allreduce needs all",
        ),
    ],
)
def test_faults_that_cannot_happen_are_refused(overrides, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nodes.csv").write_text(NODES, encoding="utf-8")
    with refused(why):
        faults.check(configfile.resolve({}, ["stop.updates=3", *overrides]), 2)


def test_over_mpi_workers_that_come_back_are_spare_ranks() -> None:
    for kind in ("kill", "stop", "cut", "leave"):
        faults.check_real(config(f"faults.events=[{{kind='{kind}', worker=0, at_s=1.0}}]"))
    twice = "faults.events=[{kind='join', worker=0, at_s=1.0}, {kind='join', worker=1, at_s=2.0}]"
    with pytest.raises(
        InputError, match=r"workers\.spares: 1: as often .* within stop.seconds = 100, 2 in all"
    ):
        faults.check_real(config(twice, "workers.spares=1"))
    faults.check_real(config(twice, "workers.spares=2"))
    faults.check_real(config(twice, "workers.spares=1", "stop.seconds=1.5"))


def test_whoever_takes_a_workers_place_does_not_suffer_what_struck_before(monkeypatch):
    struck: list[str] = []
    for each in (Kill, Stop):
        monkeypatch.setattr(
            each, "execute", lambda self: struck.append(f"{self.kind} {self.task} {self.at_s}")
        )
    before, after = [Kill(task=0), Kill(at_s=0.0)], [Kill(task=4), Stop(task=9), Stop(at_s=2.1)]
    tasks = iter([Begun(0, [0]), Begun(5, [2 * 10**9]), Begun(9, [2 * 10**9])])
    inner: Any = SimpleNamespace(worker=0, next_task=lambda: next(tasks))
    first, second = FaultyLink(inner, 1, 0, before), FaultyLink(inner, 1, 0, [*before, *after])
    first.next_task()
    second.next_task()
    second.next_task()
    time.sleep(0.3)
    assert sorted(struck) == ["kill 0 None", "kill None 0.0", "stop 9 None", "stop None 2.1"]


def test_faults_happen_once_where_a_run_goes_on_with_another_link(monkeypatch):
    struck: list[str] = []
    monkeypatch.setattr(Stop, "execute", lambda self: struck.append(f"{self.task} {self.at_s}"))
    first, second = iter([Begun(7, [10**9]), None]), iter([Begun(7, [2 * 10**9]), Begun(9, [2 * 10**9])])
    links: list[Any] = [
        SimpleNamespace(worker=0, next_task=lambda own=own: next(own)) for own in (first, second)
    ]
    faulty = FaultyLink(links[0], 1, 0, [Stop(task=7), Stop(at_s=1.1), Stop(task=8), Stop(at_s=1.3)])
    faulty.next_task()
    faulty.next_task()
    time.sleep(0.5)  # without a link both times pass
    faulty.continue_with(links[1])
    faulty.next_task()
    faulty.next_task()
    time.sleep(0.2)
    assert sorted(struck) == ["7 None", "8 None", "None 1.1", "None 1.3"]


class Begun(NamedTuple):
    """What a faulty link looks at of a task."""

    task: int
    sent_ns: list[int]
