"""Rank 0's loop on a scripted fleet: no MPI, exact times."""

import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from descents import Rows
from fleets import ScriptedFleet
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes, decoders
from pdcode.coding import optimizers
from pdcode.coding.state import Coded
from pdcode.config import UpdateTable
from pdcode.schemes.common.assignments import Rotating
from pdcode.trace.schema import DRAINED, FATES, LOST, USED, WASTED
from pdcode.training.coordinator import Coordinator
from pdcode.training.fused import make_coordinator
from pdcode.training.roster import DEAD
from pdcode.transport.base import Arrival
from pdcode.transport.events import Event, SaveDue
from pdcode.transport.layout import SAVE, Layout
from pdcode.transport.messages import Order
from pdcode.transport.units import Blocks

LAYERS = [Blocks(0, "output", 8, 8, 2, 0), Blocks(1, "output", 1, 2, 3, 16)]
SIZE = 22
MS = 1_000_000


def gradients(theta: np.ndarray) -> np.ndarray:
    """Of ½‖θ - 1‖²."""
    return theta - 1.0


def encode(worker: int, task: int, version: int, codewords: Any, theta: np.ndarray) -> list[np.ndarray]:
    """What a worker without memory sends of the gradient."""
    gradient = gradients(theta)
    indices, values = codewords[0]
    blocks = gradient[:16].reshape(8, 2)
    return [np.einsum("rw,rwe->re", values, blocks[indices]), gradient[16:].reshape(1, 6)]


def coordinator(
    durations_ms: list[float], kind: str = "least_squares", rows: int = 1, **options: Any
) -> Coordinator:
    update = {name: options.pop(name) for name in ("mode", "count", "fraction", "late") if name in options}
    drain_ns = options.pop("drain_ns", None)
    table = UpdateTable.of(update)
    workers = len(durations_ms)
    fleet = ScriptedFleet(workers, lambda worker, task: round(durations_ms[worker] * MS), encode)
    code = codes.design("net", workers=8, blocks=8, weight=4)
    layout = Layout(LAYERS, [rows, 1], [4, 1], np.dtype("float64"))
    made = [
        decoders.create(kind, layer.count, layer.shape, "float64", length=layer.length) for layer in LAYERS
    ]
    assignment = Rotating(LAYERS, [rows, 1], np.dtype("float64"), {8: code}, 1)
    optimizer = optimizers.create({"rate": 0.1} | options, SIZE, "float64")
    state = Coded(np.zeros(SIZE), LAYERS, made, optimizer, assignment)
    state.layouts, state.policy = [layout], table.make(workers)
    return make_coordinator(fleet, state, Rows(), drain_ns=drain_ns)


def run(made: Coordinator, updates: int = 50) -> Rows:
    reason = made.run(lambda now_ns, c: "enough" if c.version >= updates else "")
    assert reason == "enough"
    assert made.roster.outstanding == 0
    assert made.fleet.stopped
    return made.trace


MODES = [
    {"mode": "async"},
    {"mode": "all"},
    {"mode": "first", "count": 3},
    {"mode": "captured", "fraction": 0.5},
    {"mode": "first", "count": 3, "late": "waste"},
    {"mode": "quorum", "count": 3},
    {"mode": "quorum", "count": 3, "late": "waste"},
]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(str(value) for value in mode.values()))
@given(durations=st.lists(st.floats(0.5, 40), min_size=4, max_size=9))
def test_what_every_policy_keeps(mode: dict[str, Any], durations: list[float]) -> None:
    made = coordinator(durations, **mode)
    trace = run(made, 30)
    times = [row["t_recv_ns"] for row in trace.arrivals]
    assert times == sorted(times)
    for worker in range(len(durations)):
        versions = [version for who, _, version, _ in made.fleet.dispatched if who == worker]
        assert versions == sorted(set(versions)), "a worker's θ never goes back and is never the same again"
        tasks = [task for who, task, _, _ in made.fleet.dispatched if who == worker]
        assert tasks == list(range(len(tasks)))
    used = [row for row in trace.arrivals if row["status"] == USED]
    assert sum(row["n_used"] for row in trace.updates) + made.update.used == len(used)
    assert [row["version"] for row in trace.updates] == list(range(1, made.version + 1))
    assert all(row["staleness"] == row["applied_version"] - row["version"] for row in used)
    assert all(row["applied_version"] == -1 for row in trace.arrivals if row["status"] != USED)
    assert len(trace.arrivals) == len(made.fleet.dispatched) == made.roster.arrivals
    assert np.isfinite(made.theta).all(), "a decoder has read a buffer that was being received into"


def test_all_is_plain_gradient_descent() -> None:
    made = coordinator([3, 1, 2, 5, 4, 1, 1, 1], mode="all", rate=0.3)
    run(made, 20)
    np.testing.assert_allclose(made.theta, 1 - 0.7**20, rtol=1e-12)


@pytest.mark.every(4)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(str(value) for value in mode.values()))
@given(durations=st.lists(st.floats(0.5, 40), min_size=4, max_size=9), data=st.data())
def test_every_policy_goes_on_with_the_workers_that_live(mode, durations, data):
    made = coordinator(durations, **mode)
    workers = range(len(durations))
    dies_ms = data.draw(
        st.dictionaries(st.sampled_from(workers), st.floats(1, 200), max_size=len(workers) - 1)
    )
    made.fleet.dies_ns = {worker: round(at_ms * MS) for worker, at_ms in dies_ms.items()}
    trace = run(made, 100)
    dead = sorted(row["worker"] for row in trace.faults if row["kind"] == "dead")
    assert dead == sorted(made.roster.dead)
    assert set(dead) <= set(dies_ms)
    assert made.roster.living == [worker for worker in workers if worker not in dead]
    for row in trace.faults:
        later = [each for each in trace.arrivals if each["t_recv_ns"] > row["t_ns"]]
        assert row["worker"] not in {each["worker"] for each in later}
    lost = [row for row in trace.faults if row["kind"] == "dead" and row["task"] >= 0]
    assert made.roster.fates[LOST] == len(lost)
    assert sum(made.roster.fates) + made.roster.outstanding == sum(made.roster.tasks), (
        "every task has one fate"
    )
    fates = np.bincount(trace.column("status"), minlength=len(FATES))
    assert fates.tolist() == [0 if fate == LOST else count for fate, count in enumerate(made.roster.fates)]


def test_the_run_fails_when_all_workers_have_died() -> None:
    made = coordinator([3, 4], mode="async")
    made.fleet.dies_ns = {0: 10 * MS, 1: 20 * MS}
    assert made.run(lambda now_ns, c: "") == "every worker has died"
    assert made.stuck
    assert made.update.now_ns <= 40 * MS


def test_the_run_fails_when_the_last_worker_dies_after_the_others_payloads() -> None:
    made = coordinator([3, 100], mode="all")
    made.fleet.dies_ns = {0: 10 * MS, 1: 20 * MS}
    assert made.run(lambda now_ns, c: "") == "every worker has died"
    assert made.stuck
    assert made.version == 1, "a step by what has arrived"


def test_a_rank_in_the_place_of_a_dead_one_writes_its_part_of_a_checkpoint() -> None:
    made = coordinator([3, 4], mode="async")
    roster = made.roster
    roster.release()
    made.dispatch(0)
    made.saving.save, made.saving.every_ns = lambda: None, 10**9
    made.saving.take()
    roster.remove(0, DEAD)
    made.fleet.busy.clear()
    roster.put_idle(0)
    made.dispatch(0)
    assert made.fleet.flags[-1] == SAVE


def test_a_checkpoint_waits_for_the_parts_of_the_last_one_however_long() -> None:
    made = coordinator([3, 4], mode="async")
    for worker in made.roster.release():
        made.dispatch(worker)
    made.saving.save, made.saving.every_ns = lambda: None, MS
    made.saving.take()
    made.update.now_ns = 10_000 * MS
    assert list(made.saving.post(0, lambda now_ns: 0)) == []
    made.roster.remove(0, DEAD)
    made.roster.put_overdue(1, made.update.now_ns)
    (event,) = made.saving.post(0, lambda now_ns: 0)
    assert isinstance(event, SaveDue)


def test_a_worker_that_contradicts_the_others_is_left_out_and_named_once() -> None:
    made = coordinator([3, 1, 2, 5] * 4, kind="residual", mode="all", rate=0.3)  # two bases: 8 checks
    honest = made.fleet._compute

    def lie(worker: int, *task: Any) -> list[np.ndarray]:
        return [part + (worker == 4) for part in honest(worker, *task)]

    made.fleet._compute = lie
    trace = run(made, 20)
    np.testing.assert_allclose(made.theta, 1 - 0.7**20, rtol=1e-9)
    assert made.roster.flagged == [20 if worker == 4 else 0 for worker in range(16)]
    assert [(row["worker"], row["task"], row["kind"]) for row in trace.faults] == [(4, 0, "flagged")]


def test_async_goes_on_without_the_slow_worker() -> None:
    made = coordinator([1, 1, 1, 100], mode="async", kind="adjoint", rate=0.01)
    trace = run(made, 600)
    by_worker = np.bincount([row["worker"] for row in trace.arrivals])
    assert by_worker[3] == 3  # two while the others do 200 each, and the one that is drained
    slow = [row for row in trace.arrivals if row["worker"] == 3 and row["status"] == USED]
    assert slow
    assert all(row["staleness"] > 250 for row in slow)


def test_a_late_worker_gets_the_newest_theta_at_once() -> None:
    made = coordinator([1, 1, 1, 7.5], mode="first", count=3)
    run(made, 20)
    late = [version for worker, _, version, _ in made.fleet.dispatched if worker == 3]
    assert late[0] == 0
    assert all(later - earlier >= 7 for earlier, later in pairwise(late))


def test_a_wasted_payload_is_counted_and_never_folded_in() -> None:
    made = coordinator([1, 1, 1, 7.5], mode="first", count=3, late="waste", rate=0.3)
    trace = run(made, 30)
    wasted = [row for row in trace.arrivals if row["status"] == WASTED]
    assert wasted
    assert {row["worker"] for row in wasted} == {3}
    assert all(row["n_used"] == 3 for row in trace.updates)


def test_what_is_out_at_the_stop_is_drained_not_used() -> None:
    made = coordinator([1, 1, 1, 7.5], mode="async", kind="adjoint", rate=0.01)
    trace = run(made, 10)
    assert made.version == 10
    drained = [row for row in trace.arrivals if row["status"] == DRAINED]
    assert {row["worker"] for row in drained} <= {0, 1, 2, 3}
    assert len(drained) == len(trace.arrivals) - 10


def test_who_is_out_at_the_stop_is_recalled_once() -> None:
    made = coordinator([1.0, 1.5, 3.0, 1000.0], mode="async")
    trace = run(made, updates=10)
    assert made.fleet.cancelled == sorted(row["worker"] for row in trace.arrivals if row["status"] == DRAINED)
    assert 3 in made.fleet.cancelled


def test_captured_waits_for_the_share_that_is_asked_for() -> None:
    made = coordinator([1, 2, 3, 4, 5, 6, 7, 8], mode="captured", fraction=0.5)
    trace = run(made, 10)
    assert all(row["captured"] >= 0.5 for row in trace.updates)


def test_steps_are_damped_by_the_staleness_of_their_payloads() -> None:
    plain = coordinator([1, 1, 1, 30.5], mode="async", kind="adjoint", rate=0.01)
    damped = coordinator([1, 1, 1, 30.5], mode="async", kind="adjoint", rate=0.01, staleness="inverse")
    norms = [np.array([row["step_norm"] for row in run(made, 12).updates]) for made in (plain, damped)]
    assert norms[1][0] == pytest.approx(norms[0][0])  # the first payload is fresh
    assert norms[1][1] == pytest.approx(norms[0][1] / 2)  # the second is one version late


def test_an_update_is_there_when_its_step_is_done() -> None:
    """So it is recorded then, and the observer sees it then."""
    made, asked = coordinator([10, 10], mode="all"), list[tuple[int, int]]()
    fleet = made.fleet
    assert isinstance(fleet, ScriptedFleet)

    def stepped() -> None:
        fleet._now_ns += 3 * MS

    def observe(now_ns: int, coordinator: Coordinator) -> str:
        asked.append((coordinator.version, now_ns))
        return "enough" if coordinator.version == 3 else ""

    fleet.stepped = stepped  # type: ignore[method-assign]
    made.run(observe)
    assert [row["t_ns"] for row in made.trace.updates] == [13 * MS, 26 * MS, 39 * MS]
    assert [dict(reversed(asked))[version] for version in range(4)] == [0, 13 * MS, 26 * MS, 39 * MS]
    assert made.t_stop_ns == 39 * MS


def test_tasks_in_flight_together_have_disjoint_rows() -> None:
    made = coordinator([1] * 8, mode="all")
    run(made, 10)
    rows = [row for _, _, _, row in made.fleet.dispatched]
    assert rows == list(range(80))


def test_a_reason_before_the_first_task_sends_none() -> None:
    made = coordinator([1, 1])
    assert made.run(lambda now_ns, c: "at once") == "at once"
    assert made.fleet.dispatched == []


def test_the_observer_is_asked_while_nothing_arrives() -> None:
    made = coordinator([10_000, 10_000])
    asked = []
    made.run(lambda now_ns, c: asked.append(now_ns) or ("late" if now_ns >= 200 * MS else ""))
    assert len(asked) >= 10
    assert made.roster.missing == [0, 1]
    assert (made.roster.fates[LOST], sum(made.roster.fates), made.roster.outstanding) == (2, 2, 0)


@pytest.mark.parametrize(("drain_ns", "waits_ms"), [(None, 1000), (300 * MS, 300), (0, 0)])
def test_a_stop_waits_for_nobody_longer_than_its_limit(drain_ns: int | None, waits_ms: float) -> None:
    """Worker 2 answers within all limits but the last, worker 1 within none."""
    made = coordinator([10, 1500, 60], drain_ns=drain_ns)
    made.run(lambda now_ns, c: "enough" if c.version >= 20 else "")
    left = [1] if drain_ns != 0 else sorted(made.roster.missing)
    assert made.roster.missing == left
    assert 1 in left
    assert waits_ms * MS <= made.fleet.now_ns() - made.t_stop_ns <= (waits_ms + 41) * MS
    rows = [row for row in made.trace.faults if row["kind"] == "missing"]
    assert [row["worker"] for row in rows] == left
    assert rows[-1]["message"].startswith(f"worker {left[-1]} had not answered task ")
    assert made.fleet.shut_down == {0, 1, 2} - set(left)


def test_long_tasks_are_waited_for_longer() -> None:
    """Four tasks of the median worker: 1.6 s."""
    made = coordinator([400, 400, 400, 1900, 2500])
    made.run(lambda now_ns, c: "enough" if now_ns >= 800 * MS else "")
    assert made.roster.missing == [4]


def test_an_interrupt_after_the_stop_ends_the_wait() -> None:
    made = coordinator([10, 10_000], drain_ns=60_000 * MS)

    def observe(now_ns: int, c: Coordinator) -> str:
        made.fleet.interrupted = now_ns >= 200 * MS
        return "enough" if c.version >= 5 else ""

    assert made.run(observe) == "enough"
    assert made.roster.missing == [1]
    assert 200 * MS <= made.fleet.now_ns() < 300 * MS


def test_one_that_was_the_reason_to_stop_does_not() -> None:
    made = coordinator([10, 900])
    made.fleet.interrupted = True
    assert made.run(lambda now_ns, c: "interrupted" if c.version >= 5 else "") == "interrupted"
    assert made.roster.missing == []


class Echo(ScriptedFleet):
    """One worker that answers at once with the payload that lies in its buffer."""

    def __init__(self, payloads: list[np.ndarray]) -> None:
        super().__init__(1, lambda worker, task: 1, lambda *task: payloads)
        self.arrival = Arrival.__new__(Arrival)
        self.arrival.payloads, self.arrival.finite, self.arrival.round = payloads, True, 0
        self.arrival.part, self.arrival.last = 0, True
        for name in ("t_start_ns", "t_compute_ns", "t_send_ns", "t_recv_ns", "injected_delay_ns", "loss"):
            setattr(self.arrival, name, 0)

    def dispatch(self, worker: int, task: int, version: int, order: Order, flags: int = 0) -> int:
        arrival = self.arrival
        arrival.codewords, arrival.bytes_up, arrival.bytes_down = order.codewords, 0, 0
        arrival.worker, arrival.task, arrival.version, arrival.row = worker, task, version, order.row
        return 0

    def events(self, timeout_ns: int, wake_ns: int | None = None) -> list[Event]:
        return [self.arrival]


class NoRows(Rows):
    def arrival(self, *values: float) -> None:
        pass

    update = arrival


def test_the_steady_state_allocates_no_arrays_of_payload_size() -> None:
    # A payload of 256 kB, θ of 4 MB: CPython 3.11 keeps up to 2,000 freed tuples of 20, the length of a row.
    layer = Blocks(0, "output", 16, 256, 4000, 0)
    code = codes.design("net", workers=16, blocks=16, weight=4)
    f4 = np.dtype("float32")
    layout = Layout([layer], [1], [4], f4)
    optimizer = optimizers.create({}, layout.parameters, f4)
    decoder = decoders.create("adjoint", 16, layer.shape, f4)
    theta, assignment = np.zeros(layout.parameters, f4), Rotating([layer], [1], f4, {16: code}, 1)
    state = Coded(theta, [layer], [decoder], optimizer, assignment)
    state.layouts, state.policy = [layout], UpdateTable.of({}).make(1)
    made = Coordinator(Echo([np.ones((1, layer.elements), f4)]), state, NoRows())

    peaks: dict[
        int, int
    ] = {}  # of each hundred updates: meanwhile a thread of pytest-xdist may receive a message

    def observe(now_ns: int, coordinator: Coordinator) -> str:
        hundred = coordinator.version // 100
        if hundred and hundred not in peaks:
            peaks[hundred - 1] = tracemalloc.get_traced_memory()[1]
            peaks[hundred] = 0
            tracemalloc.stop()
            tracemalloc.start()
        return "enough" if hundred == 6 else ""

    made.run(observe)
    tracemalloc.stop()
    assert min(peaks[hundred] for hundred in range(1, 6)) < layer.elements * 4 / 2
