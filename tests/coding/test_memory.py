"""What workers keep: with a memory, nothing of a gradient is lost, whatever is rounded, refused or wasted."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from allocations import allocated
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes, problems
from pdcode.coding.ahead import LookAhead
from pdcode.coding.memory import CodewordSelector, MemoryEncoder, PayloadEncoder, StatelessEncoder
from pdcode.coding.source import BatchGradient
from pdcode.config import load as configfile
from pdcode.problems import GradientPlan, Problem
from pdcode.schemes import coded_state, make_scheme
from pdcode.transport.layout import Agreement, Layout, Pair, buffer
from pdcode.transport.messages import Reply
from pdcode.util.errors import InputError

pytestmark = pytest.mark.slow

WIRES = {
    "float32": ["float32", "bfloat16", "float16", "int8"],
    "float64": ["float64", "float32", "bfloat16", "float16", "int8"],
}
FORMATS = [(dtype, wire) for dtype, wires in WIRES.items() for wire in wires]
BATCH = 7


@cache
def problem_of(dtype: str, axis: str) -> Problem:
    table = {"kind": "mlp", "data": "digits", "hidden": [13], "axis": axis, "batch": BATCH, "l2": 0.01}
    return problems.create(table | {"dtype": dtype}, blocks=[4, 1])


class Given:
    """A task with given rows and codewords."""

    task = version = 0

    def draw(self, task: int) -> np.ndarray:
        return self.rows

    def key(self, task: int) -> tuple[int, ...]:
        return (task,)

    def __call__(self, rows: np.ndarray, codewords: list[Pair]) -> Any:
        self.rows, self.codewords = rows, codewords
        return self


def make_encoder(
    kind: str, plan: GradientPlan, reply: Reply, given: Given,
    selectors: list[CodewordSelector | None] | None = None, keep: float = 1, ahead: float = 0,
) -> PayloadEncoder:  # fmt: skip
    """A worker's side with the memory of a kind, whose batches are `given`."""
    source: Any = BatchGradient(plan, given)
    if kind in ("none", "coordinator") and selectors is None:
        return StatelessEncoder(source, reply)
    point = LookAhead(ahead, lambda version: 1.0, len(plan.full_gradient), plan.dtype) if ahead else None
    return MemoryEncoder(source, reply, kind, selectors or [None] * len(reply.payloads), keep, point)


class Largest:
    """Chooses the w blocks of largest norm, by values in proportion: unit vectors that change every time."""

    def __init__(self, blocks: int, elements: int, rows: int, weight: int, dtype: str) -> None:
        self.shape, self.rows, self.weight, self.dtype = (blocks, elements), rows, weight, dtype

    def select(self, residual: np.ndarray) -> Pair:
        full = np.zeros(self.shape)
        full.reshape(-1)[: len(residual)] = residual
        norms = np.linalg.norm(full, axis=1) + 1e-30
        order = np.argsort(-norms)
        indices = np.stack([np.roll(order, -row)[: self.weight] for row in range(self.rows)])
        values = norms[indices] / np.linalg.norm(norms[indices], axis=1, keepdims=True)
        return indices.astype(np.int32), values.astype(self.dtype)


class Pairing:
    """A worker's memory and what rank 0 makes of its messages."""

    def __init__(
        self, kind: str, dtype: str, wire: str, chosen: bool, axis: str = "auto", rows: int = 2,
        weight: float = 1, keep: float = 1, ahead: float = 0,
    ) -> None:  # fmt: skip
        self.keep = keep
        self.problem = problem = problem_of(dtype, axis)
        counts = [rows, 1]
        self.layout = layout = Layout(problem.layers, counts, [2, 1], problem.dtype, wire, Agreement(chosen))
        self.sent, self.received = (Reply(layout, buffer(layout.reply_bytes)[0]) for _ in range(2))
        plan = problem.plan(BATCH, counts, self.sent.payload, weight)
        layer = problem.layers[0]
        selectors = [Largest(4, layer.elements, rows, 2, dtype), None]
        self.given = Given()
        chooses = selectors if chosen else None
        self.encoder = make_encoder(kind, plan, self.sent, self.given, chooses, keep, ahead)
        self.reference = problem.plan(BATCH, weight=weight)
        self.code = codes.design("random", workers=12, blocks=4, weight=2)
        self.task, self.theta, self.returned = 0, problem.initial(1), False
        self.words = np.zeros((rows, 2), np.int32), np.zeros((rows, 2), dtype)
        self.decoded = np.zeros(problem.size)  # all that rank 0 has folded in
        self.gradients = np.zeros(problem.size)  # all that the worker has seen
        self.last = np.zeros(problem.size)

    def turn(self, theta: np.ndarray | None = None, use: bool = True) -> bool:
        """A task; return whether rank 0 can use the payload."""
        indices, values = self.code.rows(self.task * self.layout.rows[0], self.layout.rows[0])
        self.words[0][:], self.words[1][:] = indices, values  # where the last task's were, as in a message
        words = [self.words, self.layout.uncoded]
        batch = np.random.default_rng(self.task).integers(0, self.problem.rows, BATCH)
        theta = self.theta if theta is None else theta
        if self.returned:  # the worker hears of it with its next task
            self.encoder.rollback()
        loss = self.encoder.encode(theta, self.given(batch, words))
        expected = self.reference.gradient(theta, batch)
        assert loss == pytest.approx(expected, rel=1e-5, nan_ok=True)
        if np.isfinite(self.reference.full_gradient).all():
            self.last = self.reference.full_gradient.astype(np.float64)
            self.gradients = self.keep * self.gradients + self.last
            self.decoded *= self.keep
        self.encoder.quantise((3, 1, self.task))
        self.task += 1
        self.received.body[:] = self.sent.body
        sound, self.returned = self.received.read(), False
        if sound and use:
            for layer, pair, payload in zip(
                self.problem.layers,
                self.received.codewords if self.layout.worker_selected else words,
                self.received.payloads,
                strict=True,
            ):
                dense = np.zeros((len(pair[0]), layer.count))
                np.add.at(dense, (np.arange(len(pair[0]))[:, None], pair[0]), pair[1])
                part = slice(layer.offset, layer.offset + layer.length)
                self.decoded[part] += (dense.T @ payload).reshape(-1)[: layer.length]
        else:
            self.returned = True
        return sound

    def check(self, kind: str) -> None:
        """What the memory promises, once the worker knows what became of its payload."""
        if self.returned:
            self.words[0][:] += 1
            self.words[0][:] %= 4
            self.encoder.rollback()
            self.returned = False
        kept = self.encoder.residual.astype(np.float64)
        expected = self.gradients if kind == "worker" else self.last
        tolerance = (1e-10 if self.layout.dtype == np.float64 else 2e-5) * max(1, np.abs(expected).max())
        np.testing.assert_allclose(self.decoded + kept, expected, atol=tolerance)


@pytest.mark.every(3)
@pytest.mark.parametrize("chosen", [False, True], ids=["given", "chosen"])
@pytest.mark.parametrize(("dtype", "wire"), FORMATS)
@pytest.mark.parametrize("kind", ["worker", "difference"])
@given(
    rows=st.sampled_from([1, 2, 3]),
    axis=st.sampled_from(["output", "input"]),
    unused=st.integers(0, 31),
    keep=st.sampled_from([1.0, 0.9]),
)
def test_decoded_payloads_and_residual_add_up(kind, dtype, wire, chosen, rows, axis, unused, keep):
    """With a memory that decays by a factor a task, what was decoded counts less by it, too."""
    pairing = Pairing(kind, dtype, wire, chosen, axis, rows, keep=keep if kind == "worker" else 1)
    for task in range(5):
        used = not unused >> task & 1  # rank 0 refuses or wastes some payloads
        assert pairing.turn(use=used)
        pairing.theta += 0.01 * np.random.default_rng(task).standard_normal(pairing.problem.size).astype(
            dtype
        )
        pairing.check(kind)
    assert np.linalg.norm(pairing.encoder.residual) <= 1.5 * np.linalg.norm(pairing.gradients) + 1


@pytest.mark.parametrize("chosen", [False, True], ids=["given", "chosen"])
@pytest.mark.parametrize("kind", ["none", "coordinator"])
def test_without_a_memory_of_the_workers_each_payload_is_of_its_own_gradient(kind: str, chosen: bool) -> None:
    first, second = (Pairing(kind, "float64", "float64", chosen) for _ in range(2))
    for task in range(3):
        assert first.turn(use=task != 1)
    second.task = 2
    assert second.turn()
    for mine, theirs in zip(first.received.payloads, second.received.payloads, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    if chosen:  # a projection: what is sent and what is left are orthogonal, and add up to the gradient
        kept = first.encoder.residual
        np.testing.assert_allclose(second.decoded + kept, second.last, atol=1e-9)
        whole = first.problem.layers[1]
        assert not kept[whole.offset :].any()


@pytest.mark.parametrize("chosen", [False, True], ids=["given", "chosen"])
@pytest.mark.parametrize(("dtype", "wire"), FORMATS)
@pytest.mark.parametrize("kind", ["none", "worker", "difference", "coordinator"])
def test_a_gradient_that_is_not_finite_leaves_the_memory_unchanged(kind, dtype, wire, chosen):
    pairing = Pairing(kind, dtype, wire, chosen)
    assert pairing.turn()
    kept = getattr(pairing.encoder, "residual", np.zeros(1)).copy()
    for bad in (np.nan, np.inf):
        theta = pairing.theta.copy()
        theta[5] = bad
        with np.errstate(invalid="ignore"):
            assert not pairing.turn(theta)
        if kind in ("worker", "difference"):
            np.testing.assert_array_equal(pairing.encoder.residual, kept)
    assert pairing.turn()
    if kind in ("worker", "difference"):
        pairing.check(kind)


@pytest.mark.parametrize("chosen", [False, True], ids=["given", "chosen"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["worker", "difference"])
def test_a_payload_beyond_the_range_of_float16_returns_to_the_memory(kind, dtype, chosen):
    pairing = Pairing(kind, dtype, "float16", chosen, weight=1e6)
    for _ in range(3):
        assert not pairing.turn()
        pairing.check(kind)
    assert not pairing.decoded.any()


@pytest.mark.parametrize(("kind", "chosen"), [("worker", False), ("difference", False), ("none", False)])
@pytest.mark.parametrize("wire", ["float32", "int8"])
def test_the_steady_state_allocates_no_arrays(kind: str, chosen: bool, wire: str) -> None:
    problem = problems.create({"kind": "mlp", "data": "digits", "hidden": [256], "batch": 8}, blocks=[16, 1])
    layout = Layout(problem.layers, [2, 1], [4, 1], problem.dtype, wire)
    reply = Reply(layout, buffer(layout.reply_bytes)[0])
    given = Given()
    encoder = make_encoder(kind, problem.plan(8, [2, 1], reply.payload), reply, given)
    words, theta = codes.design("net", workers=16, blocks=16, weight=4), problem.initial(1)
    pair = np.ascontiguousarray(words.indices[:2]), np.ascontiguousarray(words.values[:2], np.float32)
    batch = np.arange(8)

    def turn() -> None:
        encoder.encode(theta, given(batch, [pair, layout.uncoded]))
        encoder.quantise((1, 2, 3))
        encoder.rollback()

    turn()
    _, peak = allocated(turn, 20)
    assert peak < 16_384 < theta.nbytes


@pytest.mark.parametrize("kind", ["none", "coordinator"])
def test_given_codewords_without_memory_need_no_full_gradient(kind: str) -> None:
    problem = problems.create({"data": "digits", "hidden": [16]}, blocks=8)
    layout = Layout(problem.layers, [1, 1], [4, 4], problem.dtype)
    reply = Reply(layout, buffer(layout.reply_bytes)[0])
    plan = problem.plan(8, 1, reply.payload)
    given = Given()
    encoder = make_encoder(kind, plan, reply, given)
    code = codes.design("net", workers=8, blocks=8, weight=4)
    pair = np.ascontiguousarray(code.indices[:1]), np.ascontiguousarray(code.values[:1], np.float32)
    assert np.isfinite(encoder.encode(problem.initial(0), given(np.arange(8), [pair, pair])))
    assert "full_gradient" not in vars(plan)
    assert np.isfinite(reply.payload).all()
    assert reply.payload.any()


@pytest.mark.parametrize("chosen", [False, True], ids=["given", "chosen"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["worker", "difference"])
def test_look_ahead_evaluates_gradients_at_theta_less_a_fraction_of_the_residual(kind, dtype, chosen):
    """Also with a payload that is taken back, and θ itself is not touched."""
    plain, ahead = (Pairing(kind, dtype, dtype, chosen, ahead=share) for share in (0, 0.3))
    for task in range(4):
        kept = ahead.encoder.residual.copy()
        if ahead.returned:
            ahead.encoder.rollback()
            kept, ahead.returned = ahead.encoder.residual.copy(), False
        before = ahead.theta.copy()
        indices, values = ahead.code.rows(task * 2, 2)
        ahead.words[0][:], ahead.words[1][:] = indices, values
        batch = np.random.default_rng(task).integers(0, ahead.problem.rows, BATCH)
        loss = ahead.encoder.encode(ahead.theta, ahead.given(batch, [ahead.words, ahead.layout.uncoded]))
        point = (before - 0.3 * kept.astype(np.float64)).astype(dtype)
        assert loss == pytest.approx(plain.reference.gradient(point, batch), rel=1e-5)
        np.testing.assert_allclose(
            ahead.encoder.source.gradient,
            plain.reference.full_gradient,
            atol=1e-5 if dtype == "float32" else 1e-12,
        )
        np.testing.assert_array_equal(ahead.theta, before)
        ahead.encoder.quantise((3, 1, task))
        ahead.returned = task == 1
    assert kept.any()


def test_the_look_ahead_is_relative_to_the_learning_rate_and_refused_without_one() -> None:
    settings = ["memory.kind=worker", "memory.lookahead=0.2", "optimizer.rate=1.5", "code.blocks=[4,1]"]
    scheme = make_scheme(configfile.resolve({"problem": {"data": "digits", "hidden": [13]}}, settings))
    problem = problem_of("float32", "auto")
    layout = coded_state(scheme, problem, scheme.assignment(problem.layers)).layouts[0]
    (encoder,) = scheme.encoders(problem, 0, problem.rows, [Reply(layout, buffer(layout.reply_bytes)[0])])
    assert encoder._ahead.share == pytest.approx(0.3)
    for more, message in [
        (
            "optimizer.kind=adam",
            "optimizer.kind: 'adam' does not go with memory.lookahead 0.2, which is a share of a step",
        ),
        (
            "optimizer.kind=orthogonal",
            "optimizer.kind: 'orthogonal' .* is a share of a step whose length workers know",
        ),
        ("memory.kind=none", "memory.lookahead: kind 'none' has no such key .* 'worker' and 'difference'"),
        ("memory.kind=coordinator", "memory.lookahead: kind 'coordinator' has no such key"),
    ]:
        with pytest.raises(InputError, match=message):
            configfile.resolve({"problem": {"data": "digits"}}, [*settings, more])
