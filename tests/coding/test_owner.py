"""Owners of ranges of elements: the algorithm by hand, what no rounding loses, and ranges that fit."""

from typing import Any

import numpy as np
import pytest
import reference
from descents import Rows
from hypothesis import given
from hypothesis import strategies as st
from outcomes import refused
from pdcode.kernels.quantise import KINDS

from pdcode.config import load as configfile
from pdcode.session.setup import prepare
from pdcode.trace.schema import USED, WASTED
from pdcode.transport.layout import Layout
from pdcode.transport.messages import Reply
from pdcode.transport.sums import Mean, exchanged_bytes, owned_fields
from pdcode.transport.units import Unit, cut
from pdcode.util.rng import WIRE
from pdcode.virtual.simulation import Simulation

JOB = [
    "scheme.name=lwpd", "scheme.preset=sharded", "problem.hidden=[40]", "problem.batch=8", "workers.count=5",
    "stop.updates=20", "seed=7", "optimizer.rate=0.5", "optimizer.momentum=0.6",
    "optimizer.nesterov=true", "memory={kind='worker',lookahead=0.2}",
]  # fmt: skip
DOUBLE = ["problem.dtype=float64", "code.whiten=none"]
HALF = ["code.family=uncoded", "code.blocks=units", "code.share=0.5", "code.rotate=true"]


class Recorded:
    """A source that keeps the sum of its gradients."""

    def __init__(self, source: Any) -> None:
        self.source, self.gradient, self.total = source, source.gradient, np.zeros_like(source.gradient)

    def __call__(self, theta: np.ndarray, task: Any) -> float:
        loss = self.source(theta, task)
        self.total += self.gradient
        return loss


class Numbered:
    """A task of which a source reads the number only."""

    def __init__(self, task: int) -> None:
        self.task = task


def rounded(wire: str, vector: np.ndarray, *keys: int) -> np.ndarray:
    bits = {"int8": 8, "int4": 4, "int2": 2}[wire]
    groups = -(-len(vector) // 1024)
    size = 4 * groups * (2 if wire == "int2" else 1) + -(-len(vector) * bits // 8)
    message, decoded = np.zeros(-(-size // 8) * 8, np.uint8), np.empty_like(vector)
    reference.quantise_encode(KINDS[wire], vector, message, 1, 7, WIRE, *keys)
    reference.quantise_decode(KINDS[wire], message, decoded, 1)
    return decoded


@pytest.mark.parametrize("wire", ["int2", "int4", "int8"])
def test_theta_is_that_of_the_algorithm_by_hand(wire: str) -> None:
    """DoubleSqueeze with look-ahead and Nesterov's momentum; int8 with the same random numbers."""
    config = configfile.resolve({}, [*JOB, "problem.dtype=float64", f"wire.dtype={wire}"])
    simulation, components = Simulation(prepare(config)), prepare(config)
    theta, layers = components.state.theta.copy(), components.problem.layers
    n, size = 5, len(theta)
    ends = {size * part // n for part in range(n + 1)} | {layer.offset for layer in layers}
    pieces = [slice(*pair) for pair in np.lib.stride_tricks.sliding_window_view(sorted(ends), 2)]
    owners = [piece.start * n // size for piece in pieces]
    scheme, data = components.scheme, components.source
    shards = [scheme.placement.build_problem(scheme.placement.worker_data(data, i), i) for i in range(n)]
    sources = [scheme.source(shard, i, components.total_rows) for i, shard in enumerate(shards)]
    own, mean_error, velocity = np.zeros((n, size)), np.zeros(size), np.zeros(size)
    for task in range(20):
        sent, step = np.zeros((n, size)), np.zeros(size)
        for i in range(n):
            sources[i](theta - 0.2 * 0.5 * own[i], Numbered(task))
            own[i] += sources[i].gradient
            for number, piece in enumerate(pieces):
                sent[i, piece] = rounded(wire, own[i, piece], i, task, number)
            own[i] -= sent[i]
        mean_error += sent.mean(axis=0)
        for number, (piece, owner) in enumerate(zip(pieces, owners, strict=True)):
            step[piece] = rounded(wire, mean_error[piece], n + owner, task, number - owners.index(owner))
        mean_error -= step
        velocity = 0.6 * velocity + step
        theta = theta - 0.5 * (step + 0.6 * velocity)
    descent, _ = simulation.run(Rows())
    np.testing.assert_allclose(descent.coordinator.theta, theta, atol=1e-6)  # scales are of type float32


FIRST = [
    *JOB, "scheme.preset=sharded-first", "update.count=3", "stragglers.kind=shifted-exponential",
    "stragglers.mean_s=0.01",
]  # fmt: skip


@pytest.mark.parametrize("wire", ["int2", "int8"])
def test_theta_of_the_first_payloads_is_that_of_the_algorithm_by_hand(wire: str) -> None:
    """Late gradients are dropped; owners have a memory for each range that they have owned."""
    config = configfile.resolve({}, [*FIRST, "problem.dtype=float64", f"wire.dtype={wire}"])
    simulation, components, rows = Simulation(prepare(config)), prepare(config), Rows()
    theta, layers = components.state.theta.copy(), components.problem.layers
    n, q, size = 5, 3, len(theta)
    ends = {size * part // q for part in range(q + 1)} | {layer.offset for layer in layers}
    pieces = [slice(*pair) for pair in np.lib.stride_tricks.sliding_window_view(sorted(ends), 2)]
    ranges = [(piece.start + piece.stop) * q // (2 * size) for piece in pieces]
    scheme, data = components.scheme, components.source
    shards = [scheme.placement.build_problem(scheme.placement.worker_data(data, i), i) for i in range(n)]
    sources = [scheme.source(shard, i, components.total_rows) for i, shard in enumerate(shards)]
    own, mean_errors, velocity = np.zeros((n, size)), np.zeros((n, size)), np.zeros(size)
    thetas, payloads, sets = [theta], dict[int, np.ndarray](), set()
    descent, _ = simulation.run(rows)
    for row in rows.arrivals:
        i, task, sent = row["worker"], row["task"], np.zeros(size)
        if row["status"] not in (USED, WASTED):
            continue
        sources[i](thetas[row["version"]] - 0.2 * 0.5 * own[i], Numbered(task))
        if row["status"] == WASTED:
            continue
        own[i] += sources[i].gradient
        for number, piece in enumerate(pieces):
            sent[piece] = rounded(wire, own[i, piece], i, task, number)
        own[i] -= sent
        payloads[i] = sent
        if len(payloads) < q:
            continue
        version, step, members = len(thetas) - 1, np.zeros(size), sorted(payloads)
        left = iter(worker for worker in members if worker >= q)
        owners = [number if number in members else next(left) for number in range(q)]
        mean = sum(payloads[worker] for worker in members) / q
        for number, (piece, each) in enumerate(zip(pieces, ranges, strict=True)):
            total = mean_errors[owners[each], piece] + mean[piece]
            step[piece] = rounded(wire, total, n + each, version, number - ranges.index(each))
            mean_errors[owners[each], piece] = total - step[piece]
        velocity = 0.6 * velocity + step
        thetas.append(thetas[-1] - 0.5 * q / n * (step + 0.6 * velocity))  # fewer than update.full_step
        sets.add(tuple(members))
        payloads.clear()
    assert len(sets) > 5
    assert len(thetas) == 21
    np.testing.assert_allclose(descent.coordinator.theta, thetas[-1], atol=1e-6)
    for (
        worker
    ) in simulation.fleet.executor.local_workers:  # who has replied has the last θ, or the one before
        distances = [np.abs(worker.replica._state.theta - each).max() for each in thetas]
        assert min(distances) < 1e-6


@pytest.mark.parametrize("wire", ["int2", "sign", "int8", "float16", "float32"])
@pytest.mark.parametrize("coded", [[], HALF])
def test_gradients_are_what_was_applied_and_the_memories(wire: str, coded: list[str]) -> None:
    """θ moves by the mean gradient of all tasks, but for the residuals of workers and owners."""
    plain = ["optimizer.momentum=0", "optimizer.nesterov=false", "memory.lookahead=0", f"wire.dtype={wire}"]
    simulation = Simulation(prepare(configfile.resolve({}, [*JOB, *DOUBLE, *coded, *plain])))
    encoders = [worker.encoders[0] for worker in simulation.fleet.executor.local_workers]
    for encoder in encoders:
        encoder.source = Recorded(encoder.source)
    state, rows = simulation.components.state, Rows()
    before = state.theta.copy()
    simulation.run(rows)
    at_owners = np.concatenate([own._encoders[0].residual for own in state._owners])
    at_workers = np.mean([encoder.residual for encoder in encoders], axis=0)
    total = np.mean([encoder.source.total for encoder in encoders], axis=0)
    np.testing.assert_allclose(before - state.theta, 0.5 * (total - at_workers - at_owners), atol=1e-13)
    assert min(np.abs(at_owners).max(), np.abs(at_workers).max()) > 1e-12
    assert len({row["code_row"] for row in rows.arrivals}) == (20 if coded else 1)


def test_blocks_are_sent_in_turn() -> None:
    """The cut leaves odd numbers of blocks."""
    state = prepare(configfile.resolve({}, [*JOB, *HALF, "workers.count=3"])).state
    counts = {unit.count for unit in state.layouts[0].units if not unit.uncoded}
    assert any(count % 2 for count in counts)
    pairs = [state.order(0, task).codewords for task in range(10)]
    for number, unit in enumerate(state.layouts[0].units):
        for first, second in zip(pairs[::2], pairs[1::2], strict=True):
            sent = {*first[number][0].ravel(), *second[number][0].ravel()}
            assert sent == set(range(unit.count))


def test_unrounded_means_are_those_of_an_allreduce_to_rounding() -> None:
    """Of float64 in float32, and without a memory."""
    thetas = []
    for wire in ("float64", "float32"):
        overrides = ["scheme.preset=ring", *DOUBLE, f"wire.dtype={wire}"]
        simulation = Simulation(prepare(configfile.resolve({}, [*JOB, *overrides])))
        assert bool(simulation.components.config.reduction.owners) == (wire == "float32")
        thetas.append(simulation.run(Rows())[0].coordinator.theta)
    np.testing.assert_allclose(thetas[0], thetas[1], rtol=1e-4, atol=2e-6)
    assert thetas[0].tobytes() != thetas[1].tobytes()


units = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9)), min_size=1, max_size=4)


@given(units, st.integers(1, 7))
def test_every_element_has_one_owner_and_ranges_are_even(sizes, workers):
    made, offset = [], 0
    for blocks, width in sizes:
        made.append(Unit(offset, blocks * width, blocks if width > 1 else 1))
        offset += blocks * width
    pieces = cut(made, workers)
    ends = [piece.offset + piece.length for piece in pieces]
    assert [piece.offset for piece in pieces] == [0, *ends[:-1]]
    assert ends[-1] == offset
    layout = Layout(pieces, [1] * len(pieces), [1] * len(pieces), np.dtype("float32"), "int4")
    owned = owned_fields(layout, workers)
    assert [own.start for own in owned] == [0, *(own.stop for own in owned[:-1])]
    assert owned[-1].stop == len(pieces)
    lengths = [sum(piece.length for piece in pieces[own]) for own in owned]
    assert max(lengths) <= offset / workers + max(width for _, width in sizes) + 1
    mean, reply = Mean(layout, 0, workers), Reply(layout, np.zeros(layout.buffer_bytes, np.uint8))
    for payload in mean.reply.payloads:
        payload[:] = np.arange(payload.size)
    mean.reply.quantise(1, 0, 0)
    mean.divide()
    mean.request(False, True)
    reply.payload[:], mean.reply.payload[:] = mean.reply.payload, 0
    mean.reply.body[:] = 0
    mean.assemble()
    assert mean.reply.payload.tobytes() == reply.payload.tobytes()
    assert (mean.is_finite, mean.requested) == (True, (False, True))
    if workers > 1:
        assert exchanged_bytes(layout, workers) >= 2 * (workers - 1) / workers * layout.payload_bytes


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["memory.kind=difference"], ["memory.kind: 'difference'", "owners round the mean again"]),
        (["wire.dtype=['int2','int4']"], ["wire.dtype: 'int2'", "one format for all layers"]),
        (["code.blocks=units", "code.rows_per_task=auto"], ["code.rows_per_task: 'auto'", "code.share"]),
        (["wire.dtype=qsgd"], ["wire.dtype: 'qsgd'", "contraction"]),
        (["code.family=matched", "code.blocks=units", "code.share=0.5"], ["has workers choose"]),
    ],
)
def test_what_owners_cannot_average_is_refused(overrides: list[str], words: list[str]) -> None:
    with refused(*words):
        prepare(configfile.resolve({}, [*JOB, *overrides]))
