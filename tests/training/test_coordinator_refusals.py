"""Payloads that are not finite: refused, counted, told to their worker, never in θ, and never the end of the
others' descent."""

from collections import Counter

import numpy as np
import pytest
from descents import MS, Descent

from pdcode.trace.schema import DRAINED, REFUSED, USED, WASTED
from pdcode.transport.base import Arrival
from pdcode.transport.layout import RETURNED
from pdcode.transport.messages import Task

MODES = {
    "async": ["update.mode=async"],
    "all": ["update.mode=all"],
    "first": ["update.mode=first", "update.count=3"],
    "captured": ["update.mode=captured", "update.fraction=0.2"],
    "waste": ["update.mode=first", "update.count=2", "update.late=waste"],
}
KINDS = {
    "worker": [],
    "none": ["memory.kind=none"],
    "least_squares": ["memory.kind=none", "decoder.kind=least_squares"],
    "difference": ["memory.kind=difference"],
    "coordinator": ["memory.kind=coordinator"],
    "energy": ["code.family=energy"],
    "matched": ["code.family=matched", "code.rows_per_task=2"],
    "int8": ["wire.dtype=int8"],
    "relay": ["downlink.kind=codewords", "wire.dtype=int8"],
}
BAD = ["workers.count=4", 'faults.events=[{kind="nan", worker=2, task=0}]']
TIMES_MS = [1, 1.3, 0.7, 6.1]

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the worker's arithmetic with NaN


@pytest.mark.parametrize(
    ("mode", "kind"),
    [(mode, kind) for mode in MODES for kind in KINDS if (mode, kind) != ("captured", "matched")],
)
def test_the_descent_goes_on_without_a_worker_that_always_sends_nan(mode: str, kind: str) -> None:
    made = Descent([*BAD, *MODES[mode], *KINDS[kind], "stop.updates=30"], TIMES_MS)
    flags: dict[int, list[int]] = {worker: [] for worker in range(4)}
    for worker in made.workers:
        perform = worker.perform

        def note(task: Task, perform=perform, worker=worker) -> float:
            flags[worker.worker].append(task.flags)
            return perform(task)

        worker.perform = note
    before = made.components.problem.loss(made.state.theta)
    assert made.run() == "enough"
    statuses = made.trace.column("status")
    bad = made.trace.column("worker") == 2
    assert (statuses[bad] == REFUSED).all()
    assert not (statuses[~bad] == REFUSED).any()
    assert made.coordinator.roster.refused == [0, 0, bad.sum(), 0]
    assert (made.trace.column("applied_version")[bad] == -1).all()
    assert [(row["kind"], row["worker"], row["task"]) for row in made.trace.faults] == [("refused", 2, 0)]
    assert "worker 2" in made.trace.faults[0]["message"]
    assert np.isfinite(made.state.theta).all()
    assert made.components.problem.loss(made.state.theta) < before
    assert made.coordinator.roster.outstanding == 0
    assert sum(row["n_used"] for row in made.trace.updates) == Counter(statuses)[USED]
    for worker, seen in flags.items():  # each task says what became of the payload before
        fate = statuses[made.trace.column("worker") == worker][: len(seen) - 1]
        expected = [0] + [RETURNED if status != USED else 0 for status in fate]
        assert [each & RETURNED for each in seen] == expected


@pytest.mark.parametrize("kind", ["worker", "difference", "least_squares", "relay"])
@pytest.mark.parametrize("mode", MODES)
def test_a_run_of_which_every_payload_is_refused_ends_as_a_failure(mode: str, kind: str) -> None:
    made = Descent([*MODES[mode], *KINDS[kind], "workers.count=3"], [1, 1.3, 6.1])
    for worker in made.workers:
        update = worker.replica.update
        worker.replica.update = lambda task, update=update: np.full_like(update(task), np.nan)
    theta = made.state.theta.copy()
    reason = made.run()
    assert reason == "diverged: every payload of update 0 was refused"
    assert made.coordinator.stuck
    np.testing.assert_array_equal(made.state.theta, theta)
    assert (made.trace.column("status") == REFUSED).all()
    assert len(made.trace.arrivals) == len(made.trace.faults) == 3


@pytest.mark.parametrize("mode", MODES)
def test_so_does_one_in_which_workers_go_wrong_one_after_the_other(mode: str) -> None:
    made = Descent([*MODES[mode], "workers.count=3", "stop.updates=100000"], [1, 1.3, 6.1])
    for worker in made.workers:
        update = worker.replica.update

        def broken(task: Task, update=update, worker=worker) -> np.ndarray:
            theta = update(task)
            return np.full_like(theta, np.nan) if task.task >= 3 + 4 * worker.worker else theta

        worker.replica.update = broken
    reason = made.run()
    assert reason == f"diverged: every payload of update {made.coordinator.version} was refused"
    assert made.coordinator.version > 3
    assert np.isfinite(made.state.theta).all()
    assert [row["worker"] for row in made.trace.faults] == sorted(row["worker"] for row in made.trace.faults)


def test_a_payload_that_comes_back_to_life_is_used() -> None:
    made = Descent(["update.mode=all", "workers.count=2", "stop.updates=20"], [1, 1.3])
    update = made.workers[1].replica.update

    def spell(task: Task) -> np.ndarray:
        theta = update(task)
        return np.full_like(theta, np.inf) if 5 <= task.task < 9 else theta

    made.workers[1].replica.update = spell
    assert made.run() == "enough"
    mine = made.trace.column("worker") == 1
    fates = made.trace.column("status")[mine]
    np.testing.assert_array_equal(np.flatnonzero(fates == REFUSED), [5, 6, 7, 8])
    assert [row["n_used"] for row in made.trace.updates] == [2] * 5 + [1] * 4 + [2] * 11


@pytest.mark.parametrize("wire", ["float32", "int8"])
def test_what_was_wasted_is_sent_again_with_what_comes_later(wire: str) -> None:
    """Error feedback: of a worker's gradients, all that is not in θ's sums is in its memory."""
    made = Descent(
        [
            *MODES["waste"], "workers.count=3", f"wire.dtype={wire}",
            "problem.dtype=float64" if wire != "float32" else "problem.l2=0.0", "stop.updates=40",
        ],
        lambda worker, task: round(MS * (1 + 0.3 * worker if worker < 2 else 5.7 if task % 3 else 0.2)),
    )  # fmt: skip
    worker, size = made.workers[2], made.components.problem.size
    gradients, folded = np.zeros(size), np.zeros(size)
    (encoder,) = worker.encoders
    source, fold = encoder.source, made.state.fold

    class Watched:
        gradient = source.gradient

        def __call__(self, theta: np.ndarray, task: Task) -> float:
            nonlocal gradients
            loss = source(theta, task)
            gradients += source.gradient
            return loss

    def arrived(arrival: Arrival) -> float:
        if arrival.worker == 2:
            for layer, pair, payload in zip(
                made.components.layout.units, arrival.codewords, arrival.payloads, strict=True
            ):
                dense = np.zeros((len(pair[0]), layer.count))
                np.add.at(dense, (np.arange(len(pair[0]))[:, None], pair[0]), pair[1])
                decoded = (dense.T @ payload).reshape(-1)[: layer.length]
                folded[layer.offset : layer.offset + layer.length] += decoded
        return fold(arrival)

    encoder.source, made.state.fold = Watched(), arrived
    assert made.run() == "enough"
    fates = made.trace.column("status")[made.trace.column("worker") == 2]
    counts = Counter(fates)
    assert counts[WASTED] >= 5 <= counts[USED]
    assert counts[DRAINED] <= 1
    if fates[-1] != USED:  # no later task says so
        encoder.rollback()
    np.testing.assert_allclose(
        folded + encoder.residual, gradients, atol=2e-5 if wire == "float32" else 1e-11
    )
