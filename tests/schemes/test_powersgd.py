"""PowerSGD against the paper's algorithms by hand, and what a worker that misses a round does not lose."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st
from outcomes import refused

from pdcode.config import load as configfile
from pdcode.rivals.powersgd import FirstRound, PowerState, SecondRound
from pdcode.session.setup import prepare
from pdcode.trace.schema import REFUSED, WASTED
from pdcode.transport.layout import RETURNED, aligned

POWER = ["scheme.name=powersgd", "code.blocks=1", "workers.count=4"]
DOUBLE = ["problem.dtype=float64"]
UNEVEN = [1, 1.3, 1.7, 6]


def noted(made: Descent) -> list[list[np.ndarray]]:
    """The gradients that each worker will have computed."""
    found: list[list[np.ndarray]] = [[] for _ in made.workers]

    def note(
        own: list[np.ndarray], source: Callable[..., float], gradient: np.ndarray, *words: object
    ) -> float:
        loss = source(*words)
        own.append(gradient.copy())
        return loss

    for own, worker in zip(found, made.workers, strict=True):
        first = worker.encoders[0]
        source = first._source
        call = partial(note, own, source.__call__, source.gradient)
        first._source = type("Noted", (), {"__call__": staticmethod(call), "gradient": source.gradient})()
    return found


def gram_schmidt(matrix: np.ndarray) -> np.ndarray:
    out = matrix.copy()
    for column in range(out.shape[1]):
        before = out[:, :column]
        out[:, column] -= before @ (before.T @ out[:, column])
        out[:, column] /= np.linalg.norm(out[:, column])
    return out


@pytest.mark.parametrize("rank", [1, 2, 5])
@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("subtracted", ["own", "mean"])
def test_updates_are_those_of_the_paper(rank: int, axis: str, subtracted: str) -> None:
    """Algorithms 1 and 2, from the gradients of the run, with an error feedback for each worker.

    Q is subtracted as in the authors' package, or its mean, as in the code of their experiments and PyTorch.
    """
    sets = [f"scheme.options.rank={rank}", f"problem.axis={axis}", "stop.updates=8", "optimizer.rate=0.2"]
    made = Descent([*POWER, *DOUBLE, *sets], UNEVEN)
    gradients = noted(made)
    layers = made.components.problem.layers
    errors, qs = np.zeros((4, len(made.state.theta))), [q.T.copy() for q in made.state._q]
    made.run()
    for update in range(8):
        deltas = [error + own[update] for error, own in zip(errors, gradients, strict=True)]
        step = np.zeros_like(deltas[0])
        for number, layer in enumerate(layers):
            matrices = [layer.unbiased(delta) for delta in deltas]
            p = gram_schmidt(np.mean([matrix @ qs[number] for matrix in matrices], axis=0))
            own = [matrix.T @ p for matrix in matrices]
            qs[number] = np.mean(own, axis=0)
            for matrix, q in zip(matrices, own, strict=True):
                matrix -= p @ (q if subtracted == "own" else qs[number]).T
            layer.unbiased(step)[:] = p @ qs[number].T
            layer.biases(step)[:] = np.mean([layer.biases(delta) for delta in deltas], axis=0)
            for delta in deltas:
                layer.biases(delta)[:] = 0
        errors = np.array(deltas)
        np.testing.assert_allclose(
            made.thetas[update] - made.thetas[update + 1], 0.2 * step, rtol=0, atol=1e-12
        )
    residuals = np.array([worker.encoders[0]._residual.flat for worker in made.workers])
    np.testing.assert_allclose(residuals.sum(axis=0), errors.sum(axis=0), atol=1e-11)
    assert np.allclose(residuals, errors, atol=1e-11) == (subtracted == "own")


@pytest.mark.parametrize(
    "overrides", [["scheme.options.rank=64"], ["scheme.options.rank=10", "problem.hidden=[10]"]]
)
def test_the_full_rank_is_the_full_gradient(overrides: list[str]) -> None:
    """Also where single workers' gradients have parts outside the base of P: these add up to 0."""
    common = [*DOUBLE, "problem.batch=0", "stop.updates=20", "optimizer.rate=0.5", *overrides]
    made = Descent([*POWER, *common], UNEVEN)
    plain = [each for each in common if "rank" not in each]
    full = Descent(["scheme.name=uncoded", *POWER[1:], *plain, "update.mode=all"], UNEVEN)
    assert made.run() == full.run() == "enough"
    np.testing.assert_allclose(made.thetas, full.thetas, rtol=0, atol=1e-11)


def test_gradients_of_that_rank_are_exact() -> None:
    """A batch of one row has a gradient of rank one: one worker leaves nothing behind."""
    sets = ["workers.count=1", "problem.batch=1", "scheme.options.rank=1", "stop.updates=5"]
    sets.append("problem.standardise=false")
    made = Descent([*POWER, *DOUBLE, *sets], [1])
    gradients = noted(made)
    made.run()
    residual = made.workers[0].encoders[0]._residual.flat
    assert np.abs(residual).max() < 1e-15 < max(np.abs(gradients[0][-1]).max(), 1e-3)


class Side:
    """A worker and rank 0 by themselves, for gradients that are given."""

    def __init__(self, rank: int, wire: str, dtype: str = "float64") -> None:
        made = Descent(
            [*POWER, f"problem.dtype={dtype}", f"wire.dtype={wire}", f"scheme.options.rank={rank}"], UNEVEN
        )
        self.state, self.layers = made.state, made.components.problem.layers
        assert isinstance(self.state, PowerState)
        self.first, self.second = made.workers[0].encoders
        assert isinstance(self.first, FirstRound)
        assert isinstance(self.second, SecondRound)
        self.task, self.source = 0, self.first._source
        self.first._source = self
        self.given = self.gradient = np.zeros(len(self.state.theta), dtype)

    def __call__(self, theta: np.ndarray, task: object) -> float:
        self.gradient[:] = self.given
        return 0.0

    @property
    def residual(self) -> np.ndarray:
        return self.first._residual.flat

    def round(self, number: int) -> list[np.ndarray]:
        """Perform a task of a round; return its payloads."""
        body = np.concatenate(self.state._bodies[number]).view(self.gradient.dtype)
        encoder = (self.first, self.second)[number]
        encoder.encode(body, None)
        encoder.quantise((1, 0, self.task))
        self.task += 1
        return encoder._reply.payloads


@given(st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1e-3, 0.0]))
def test_p_is_orthonormal_and_what_is_sent_only_gets_shorter(rank: int, seed: int, tail: float) -> None:
    """Without a rounding error ‖M - P Qᵀ‖² = ‖M‖² - ‖Q‖² for each layer, whatever rank M has."""
    side, random = Side(rank, "float64"), np.random.default_rng(seed)
    for layer in side.layers:
        shape = layer.outputs, layer.inputs
        one = np.outer(random.standard_normal(shape[0]), random.standard_normal(shape[1]))
        layer.unbiased(side.given)[:] = one + tail * random.standard_normal(shape)
        layer.biases(side.given)[:] = random.standard_normal(shape[0])
    for total, payload in zip(side.state._sums[0], side.round(0), strict=True):
        total += payload
    assert side.state.step(1.0) is None
    for p in side.state._p:
        np.testing.assert_allclose(p @ p.T, np.eye(len(p)), atol=1e-12)
    before = [np.sum(layer.unbiased(side.residual) ** 2) for layer in side.layers]
    sent = [np.sum(q**2) for q in side.round(1)]
    for layer, m, q in zip(side.layers, before, sent, strict=True):
        left = np.sum(layer.unbiased(side.residual) ** 2)
        assert left == pytest.approx(m - q, abs=1e-9 * m)
        assert left <= (1 - 1e-6) * m  # P holds the one dominant direction of M
        assert not layer.biases(side.residual).any()


@pytest.mark.parametrize("wire", ["int8", "bfloat16", "float16"])
@pytest.mark.parametrize("rank", [1, 4, 10])
def test_rounding_errors_stay_with_the_worker_and_do_not_grow(wire: str, rank: int) -> None:
    """What is left stays bounded, and with what was sent adds up to the gradients."""
    side, random = Side(rank, wire), np.random.default_rng(rank)
    total, sent, norms = np.zeros_like(side.given), np.zeros_like(side.given), []
    for _ in range(60):
        side.given[:] = random.standard_normal(len(side.given))
        total += side.given
        first = [payload.copy() for payload in side.round(0)]
        for summed, payload in zip(side.state._sums[0], first, strict=True):
            summed += 4 * payload  # four workers alike
        side.state.step(1.0)
        second = side.round(1)
        for summed, payload in zip(side.state._sums[1], second, strict=True):
            summed += 4 * payload
        side.state.step(1.0)
        for number, layer in enumerate(side.layers):
            layer.unbiased(sent)[:] += side.state._p[number].T @ second[number]
            layer.biases(sent)[:] += first[2 * number + 1][0]
        norms.append(np.linalg.norm(side.residual))
    np.testing.assert_allclose(sent + side.residual, total, atol=1e-11 * np.abs(total).max())
    assert max(norms[40:]) < 1.2 * max(norms[20:40])
    assert 0 < np.abs(side.layers[0].biases(side.residual)).max() < 0.1


@given(
    st.sampled_from(["all", "first", "async"]),
    st.lists(st.floats(0.1, 9), min_size=4, max_size=4),
    st.sampled_from(["float64", "int8"]),
)
def test_a_worker_that_misses_a_round_loses_nothing(mode: str, times: list[float], wire: str) -> None:
    """Updates by all, the residuals, and nothing else, add up to the gradients that were computed."""
    sets = [f"update.mode={mode}", f"wire.dtype={wire}", "stop.updates=7", "optimizer.rate=0.1"]
    made = Descent([*POWER, *DOUBLE, *sets], times)
    gradients = noted(made)
    assert made.run() == "enough"
    for worker, returned in zip(made.workers, made.coordinator.roster.flags, strict=True):
        if returned == RETURNED:
            worker.rollback()
    moved = (made.thetas[0] - made.state.theta) / 0.1
    left = sum(worker.encoders[0]._residual.flat for worker in made.workers)
    computed = sum(np.sum(own, axis=0) for own in gradients if own)
    np.testing.assert_allclose(4 * moved + left, computed, rtol=0, atol=1e-11)


def test_a_late_reply_of_either_round_is_wasted() -> None:
    """One that is missing in round 1 but was in round 0, and the other way about."""
    made = Descent([*POWER, "update.mode=first", "update.count=3", "stop.updates=30"], [1, 1, 1, 2.5])
    made.run()
    wasted = [row["round"] for row in made.trace.arrivals if row["status"] == WASTED]
    assert set(wasted) == {0, 1}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rank", [1, 3, 16])
def test_messages_are_as_long_as_counted_by_hand(dtype: str, rank: int) -> None:
    """64 → 16 → 10 units; each unit of a reply starts on a cache line."""
    common = [*POWER, "problem.hidden=[16]", "stop.updates=1"]
    sets = [f"problem.dtype={dtype}", f"scheme.options.rank={rank}"]
    item, first, second = np.dtype(dtype).itemsize, min(rank, 16), min(rank, 10)
    up = [[first * 16, 16, second * 10, 10], [first * 64, second * 16]]
    down = [16 * 65 + 10 * 17 + sum(up[1]), first * 16 + second * 10]
    components = prepare(configfile.resolve({}, [*common, *sets]))
    for layout, vectors, body in zip(components.layouts, up, down, strict=True):
        assert layout.reply_bytes == 64 + sum(aligned(item * size) for size in vectors)
        assert layout.task_bytes == 64 + item * body
    small = prepare(configfile.resolve({}, [*common, "wire.dtype=int8"]))
    sizes = [-(-(rows * (4 + length)) // 8) * 8 for rows, length in ((4, 16), (1, 16), (4, 10), (1, 10))]
    assert small.layout.reply_bytes == 64 + sum(sizes)  # a scale for each column of P


@pytest.mark.parametrize(
    "overrides",
    [
        ["update.mode=all"],
        ["update.mode=first", "wire.dtype=int8"],
        ["update.mode=async", "stop.updates=400"],
        [*DOUBLE, "wire.dtype=bfloat16", "problem.l2=1e-3", "scheme.options.rank=1"],
        ["optimizer.momentum=0.5"],
        ["optimizer.kind=adam", "optimizer.rate=0.01"],
        [
            "problem.kind=least-squares", "problem.data=synthetic", "problem.features=30",
            "problem.density=0.1", "problem.samples=200", "problem.outputs=3", "optimizer.rate=0.1",
        ],
    ],
)  # fmt: skip
def test_it_learns(overrides: list[str]) -> None:
    made = Descent([*POWER, "optimizer.rate=0.3", "stop.updates=120", *overrides], UNEVEN)
    assert made.loss_ratio() < 0.7


def test_gradients_that_are_no_numbers_are_refused() -> None:
    made = Descent([*POWER, 'faults.events=[{kind="nan", worker=1, task=3}]'], UNEVEN)
    assert made.run() == "enough"
    refused = [row for row in made.trace.arrivals if row["status"] == REFUSED]
    assert {row["worker"] for row in refused} == {1}
    assert {row["round"] for row in refused} == {0, 1}
    assert np.isfinite(made.state.theta).all()
    assert all(np.isfinite(worker.encoders[0]._residual.flat).all() for worker in made.workers)


def test_a_residual_out_of_range_is_dropped() -> None:
    side = Side(2, "float32", "float32")
    for _ in range(2):
        side.given[:] = 3e38
        with np.errstate(all="ignore"):
            side.round(0)
    assert not side.residual.any()
    side.given[:] = 1.0
    assert all(np.isfinite(payload).all() for payload in side.round(0))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["scheme.options.rank=0"], ["scheme.options.rank", "0"]),
        (["scheme.options.rank=1.5"], ["scheme.options.rank", "1.5"]),
        (["scheme.options.r=3"], ["scheme.options.r: unknown key (value 3)", "rank"]),
        (["code.blocks=4"], ["code.blocks: 4 has no effect"]),
        (["memory.kind=none"], ["memory.kind: 'none'", "'worker'"]),
        (["update.mode=captured"], ["update.mode: 'captured'"]),
        (["update.late=use"], ["update.late: 'use'", "several rounds"]),
        (["downlink.kind=codewords"], ["downlink.kind: 'codewords'", "sends θ"]),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], words: list[str]) -> None:
    with refused(*words):
        prepare(configfile.resolve({}, ["scheme.name=powersgd", "stop.updates=1", *overrides]))
