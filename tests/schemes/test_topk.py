"""The largest elements, with error feedback: what is sent, what stays, and runs of every mode."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pdcode.coding.memory import MemoryEncoder
from pdcode.coding.replica import MirroredReplica
from pdcode.config import load as configfile
from pdcode.problems.partition import Unit
from pdcode.schemes import make_scheme
from pdcode.schemes.topk import Largest
from pdcode.trace.schema import REFUSED
from pdcode.training.setup import prepare
from pdcode.transport.layout import Layout, buffer
from pdcode.transport.messages import Reply
from pdcode.util.errors import InputError

TOPK = ["scheme.name=topk", "code.blocks=1", "workers.count=4"]
UNEVEN = [1, 1.3, 1.7, 6]
SPARSE = [
    "problem.kind=least-squares", "problem.data=synthetic", "problem.features=30", "problem.density=0.1",
    "problem.samples=200", "optimizer.rate=0.02",
]  # fmt: skip


class Stub:
    """Gradients that are given, in place of a source; and the task that asks for them."""

    def __init__(self, layout: Layout) -> None:
        size, dtype = layout.parameters, layout.dtype
        self.codewords = [layout.whole] * len(layout.units)
        self.gradient = np.zeros(size, dtype)

    def __call__(self, theta: np.ndarray, task: object) -> float:
        self.gradient[:] = theta
        return 0.0


class Side:
    """A worker's memory, and rank 0's reading of its replies."""

    def __init__(self, lengths: list[int], share: float, dtype: str, wire: str) -> None:
        sets = [f"scheme.options.share={share}", f"problem.dtype={dtype}"]
        scheme = make_scheme(configfile.resolve({}, [*TOPK, *sets]))
        starts = np.cumsum([0, *lengths[:-1]])
        self.units = [Unit(int(at), size, size) for at, size in zip(starts, lengths, strict=True)]
        assignment = scheme.assignment(self.units)
        self.counts = assignment.weights
        layout = Layout(self.units, scheme.rows(self.units), self.counts, np.dtype(dtype), wire, chosen=True)
        self.sent, self.received = (Reply(layout, buffer(layout.reply_bytes)[0]) for _ in range(2))
        self.stub = Stub(layout)
        self.memory = MemoryEncoder(self.stub, self.sent, "worker", scheme.selectors(self.units, 0))
        self.tasks = 0

    def turn(self, gradient: np.ndarray) -> tuple[bool, np.ndarray]:
        """A task; return whether rank 0 can use it, and what it decodes, in float64."""
        self.memory(gradient, self.stub)
        self.memory.quantise((1, 0, self.tasks))
        self.tasks += 1
        self.received.body[:] = self.sent.body
        sound, out = self.received.read(), np.zeros(len(gradient))
        if sound:
            for unit, (places, values), payload in zip(
                self.units, self.received.codewords, self.received.payloads, strict=True
            ):
                if unit.whole:
                    out[unit.offset : unit.offset + unit.length] = payload[0]
                else:
                    np.add.at(out, unit.offset + places[0], np.float64(values[0]) * payload[0])
        return sound, out


@given(
    arrays.arrays(
        np.float32, st.integers(1, 40), elements=st.sampled_from([0, 1, -1, 2, 1e-30, -1e30, 3e38])
    ),
    st.integers(1, 40),
)
def test_the_elements_of_largest_size_are_chosen(residual: np.ndarray, count: int) -> None:
    count = min(count, len(residual))
    before = residual.copy()
    places, values = Largest(len(residual), count, residual.dtype).select(residual)
    np.testing.assert_array_equal(residual, before)
    assert places.shape == values.shape == (1, count)
    assert (np.diff(places[0]) > 0).all()
    np.testing.assert_array_equal(np.sort(np.abs(residual[places[0]])), np.sort(np.abs(residual))[-count:])
    norm = np.linalg.norm(values.astype(np.float64))
    assert norm == pytest.approx(1, rel=1e-6) if residual.any() else norm == 0
    largest = np.abs(residual).max()
    if largest > 0:
        parallel = residual[places[0]].astype(np.float64) / largest
        np.testing.assert_allclose(values[0], parallel / np.linalg.norm(parallel), atol=1e-6)


@given(
    st.lists(st.sampled_from([1, 2, 3, 17, 300, 70_000]), min_size=1, max_size=4),
    st.sampled_from([1e-12, 0.01, 0.3, 1.0]),
    st.sampled_from(["float32 float32", "float32 int8", "float64 float64", "float64 bfloat16"]),
    st.booleans(),
)  # fmt: skip
def test_nothing_is_lost(lengths: list[int], share: float, formats: str, ties: bool) -> None:
    """The sum of what is decoded and what stays is that of the gradients; layers of one element are sent
    whole; a gradient that is no number leaves nothing behind."""
    dtype, wire = formats.split()
    side, random = Side(lengths, share, dtype, wire), np.random.default_rng(len(lengths))
    assert side.counts == [max(1, ceil(share * size - 1e-9)) for size in lengths]
    total, decoded = np.zeros(sum(lengths)), np.zeros(sum(lengths))
    for task in range(5):
        gradient = random.integers(-1, 2, sum(lengths)) if ties else random.standard_normal(sum(lengths))
        gradient = gradient.astype(dtype)
        if task == 2:
            sound, out = side.turn(np.where(np.arange(len(gradient)) == 0, np.nan, gradient))
            assert not sound
            continue
        sound, out = side.turn(gradient)
        assert sound
        total += gradient
        decoded += out
    scale = np.abs(total).max() + 5
    tolerance = {"float32": 1e-6, "float64": 1e-13}[dtype] * scale
    np.testing.assert_allclose(decoded + side.memory.residual, total, rtol=0, atol=tolerance)
    if wire == dtype:
        for unit in side.units:
            if unit.whole:
                assert side.memory.residual[unit.offset] == 0


def test_a_payload_that_is_not_used_comes_back() -> None:
    side = Side([50, 1], 0.1, "float64", "float64")
    gradient = np.arange(51.0)
    side.turn(gradient)
    side.memory.rollback()
    np.testing.assert_allclose(side.memory.residual, gradient, atol=1e-12)


def test_all_elements_are_a_full_gradient_but_for_rounding() -> None:
    """Each value is rounded to a multiple of 1/127 of the layer's largest; what is lost stays."""
    side = Side([300, 40], 1.0, "float64", "float64")
    gradient = np.random.default_rng(1).standard_normal(340)
    _, out = side.turn(gradient)
    for unit in side.units:
        part = slice(unit.offset, unit.offset + unit.length)
        step = np.abs(gradient[part]).max() / 127
        assert np.abs(out[part] - gradient[part]).max() <= 1.02 * step
    made = Descent([*TOPK, "scheme.options.share=1", "update.mode=all", "problem.dtype=float64"], UNEVEN)
    full = Descent(["scheme.name=uncoded", *TOPK[1:], "update.mode=all", "problem.dtype=float64"], UNEVEN)
    assert made.run() == full.run() == "enough"
    moved = np.linalg.norm(full.state.theta - full.thetas[0])
    assert 0 < np.linalg.norm(made.state.theta - full.state.theta) < 0.02 * moved


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("share", [1e-9, 0.01, 0.5])
def test_a_reply_is_as_long_as_was_promised(dtype: str, share: float) -> None:
    """A byte and an index for each element, a scale and a payload for each layer."""
    config = configfile.resolve(
        {}, [*TOPK, f"scheme.options.share={share}", f"problem.dtype={dtype}", "stop.updates=1"]
    )
    layout = prepare(config).layout
    expected = 0
    for layer in prepare(config).problem.layers:
        count = max(1, ceil(share * layer.length))
        expected += 4 + count * (1 + np.min_scalar_type(layer.length - 1).itemsize)
    assert expected <= layout.codeword_bytes <= expected + 16 * len(layout.units)
    assert layout.payload_bytes <= 64 * len(layout.units)
    assert layout.task_bytes == layout.header_bytes + layout.gradient_bytes


@pytest.mark.parametrize(
    "overrides",
    [
        ["update.mode=async"],
        ["update.mode=first", "update.late=waste"],
        ["update.mode=all", "problem.dtype=float64"],
        ["downlink.kind=codewords", "downlink.check=1"],
        [
            "downlink.kind=codewords", "downlink.check=1", "update.mode=first", "wire.dtype=int8",
            "optimizer.momentum=0.5",
        ],
        ["memory.kind=difference", "problem.batch=0", "update.mode=all"],
        ["memory.kind=none"],
        SPARSE,
        [*SPARSE, "downlink.kind=codewords", "downlink.check=1", "problem.dtype=float64"],
    ],
)  # fmt: skip
def test_it_learns(overrides: list[str]) -> None:
    made = Descent(
        [*TOPK, "scheme.options.share=0.1", "optimizer.rate=0.3", "stop.updates=150", *overrides], UNEVEN
    )
    before = made.components.problem.loss(made.state.theta)
    assert made.run() == "enough"
    assert made.components.problem.loss(made.state.theta) < 0.7 * before
    if "downlink.kind=codewords" in overrides:  # each task's digest of θ was that of rank 0
        assert all(isinstance(worker.replica, MirroredReplica) for worker in made.workers)


@pytest.mark.parametrize(
    "downlink", [["downlink.kind=full"], ["downlink.kind=codewords", "downlink.check=1"]]
)
def test_gradients_that_are_no_numbers_are_refused(downlink: list[str]) -> None:
    made = Descent([*TOPK, "faults.nan_worker=1", "faults.nan_task=3", *downlink], UNEVEN)
    assert made.run() == "enough"
    refused = [row for row in made.trace.arrivals if row["status"] == REFUSED]
    assert len(refused) > 3
    assert {row["worker"] for row in refused} == {1}
    assert np.isfinite(made.state.theta).all()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["scheme.options.share=0"], ["scheme.options.share", "0"]),
        (["scheme.options.share=1.5"], ["scheme.options.share", "1.5"]),
        (["scheme.options.share=nan"], ["scheme.options.share", "nan"]),
        (["scheme.options.k=3"], ["scheme.options.k: unknown key (value 3)", "share"]),
        (['scheme={name="topk",options="big"}'], ["scheme.options", "'big'"]),
        (["scheme.preset=default"], ["scheme.preset", "'default'"]),
        (["code.blocks=4"], ["code.blocks: 4 has no effect"]),
        (["code.family=energy"], ["code.family: 'energy' has no effect"]),
        (["update.mode=captured"], ["update.mode: 'captured'"]),
        (["memory.kind=coordinator"], ["memory.kind: 'coordinator'"]),
        (["memory.kind=none", "decoder.kind=least_squares"], ["decoder.kind: 'least_squares'"]),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        configfile.resolve({}, ["scheme.name=topk", *overrides])
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
