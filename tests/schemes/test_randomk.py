"""Random elements: the same at both ends without indices; unbiased without a memory, contracting with one."""

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from outcomes import refused
from sides import Sides, assert_learns

from pdcode.config import load as configfile
from pdcode.session.setup import prepare

RANDOMK = ["scheme.name=randomk", "code.blocks=1", "workers.count=4"]
EXACT = ["problem.dtype=float64", "wire.dtype=float64"]


@given(
    st.lists(st.sampled_from([1, 2, 3, 17, 300, 70_000]), min_size=1, max_size=4),
    st.sampled_from([1e-12, 0.01, 0.3, 1.0]),
    st.sampled_from(["float32", "int8", "int2"]),
)
def test_nothing_is_lost(lengths: list[int], share: float, wire: str) -> None:
    sides = Sides([*RANDOMK, f"scheme.options.share={share}", f"wire.dtype={wire}"], lengths)
    assert sides.layout.rows == tuple(max(1, ceil(share * size - 1e-9)) for size in lengths)
    random = np.random.default_rng(len(lengths))
    total, decoded = np.zeros(sum(lengths)), np.zeros(sum(lengths))
    for _ in range(4):
        gradient = random.standard_normal(sum(lengths)).astype("f4")
        sound, out = sides.turn(gradient)
        assert sound
        total += gradient
        decoded += out
    np.testing.assert_allclose(decoded + sides.memory.residual, total, rtol=0, atol=1e-5)


@given(st.integers(2, 300), st.floats(0.01, 1), st.integers(0, 2**32))
def test_without_a_memory_the_estimate_is_unbiased(length: int, share: float, seed: int) -> None:
    """What is sent is scaled by d/k. All sets are equally likely (tests/kernels), so that each element is
    sent with probability k/d: the expectation is the gradient."""
    sides = Sides([*RANDOMK, f"scheme.options.share={share}", "memory.kind=none", *EXACT], [length])
    (decoder,) = sides.scheme.decoders(sides.units, None)
    x = np.random.default_rng(seed).standard_normal(length)
    sides.turn(x)
    ((places, values),) = sides.words
    decoder.add_sparse(places, values, sides.received.payloads[0])
    expected, sent = np.zeros(length), places[:, 0]
    expected[sent] = length / len(sent) * x[sent]
    np.testing.assert_allclose(decoder.gradient().ravel(), expected, rtol=1e-12)
    assert not sides.memory.residual[sent].any()


def test_the_mean_of_many_estimates_is_the_gradient() -> None:
    length, tasks = 40, 4000
    sides = Sides([*RANDOMK, "scheme.options.share=0.2", "memory.kind=none", *EXACT], [length])
    (decoder,) = sides.scheme.decoders(sides.units, None)
    x = np.random.default_rng(1).standard_normal(length)
    for task in range(tasks):
        sides.turn(x, task % 4)
        decoder.add_sparse(*sides.words[0], sides.received.payloads[0].copy())
    error = np.abs(x) * np.sqrt((length / 8 - 1) / tasks)  # standard deviation
    assert (np.abs(decoder.gradient().ravel() - x) <= 4.5 * error).all()


def test_it_contracts_on_average_as_stich_et_al_say() -> None:
    """E‖x - rand_k(x)‖² = (1 - k/d)‖x‖²."""
    sides = Sides([*RANDOMK, "scheme.options.share=0.2", *EXACT], [40])
    x, left = np.random.default_rng(1).standard_normal(40), []
    for _ in range(2000):
        sides.memory.residual.fill(0)
        sides.turn(x)
        left.append(sides.memory.residual @ sides.memory.residual / (x @ x))
    assert np.mean(left) == pytest.approx(0.8, abs=4 * np.std(left) / 2000**0.5)


def test_elements_are_keyed_by_seed_worker_task_and_layer() -> None:
    def drawn(seed: int, worker: int, task: int) -> list[bytes]:
        sides = Sides([*RANDOMK, f"seed={seed}", "scheme.options.share=0.1"], [300, 300])
        rows = [sides.assignment.row(worker) for _ in range(task + 1)]
        return [places.tobytes() for places, _ in sides.assignment.codewords(rows[-1])]

    made = [*drawn(1, 0, 0), *drawn(2, 0, 0), *drawn(1, 1, 0), *drawn(1, 0, 1)]
    assert len(set(made)) == 8
    assert drawn(1, 3, 5) == drawn(1, 3, 5)


def test_no_index_is_sent() -> None:
    """By hand: 785 · 64 weights of which 503, a byte each, and a scale; a task has eight bytes of a key."""
    job = [
        *RANDOMK, "problem.kind=least-squares", "problem.data=synthetic", "problem.features=784",
        "problem.outputs=64", "stop.updates=1",
    ]  # fmt: skip
    layout = prepare(configfile.resolve({}, job)).layout
    assert layout.reply_bytes == 64 + 4 + 503 + 5
    assert layout.codeword_bytes == 8
    assert layout.task_bytes == 128 + layout.gradient_bytes


@pytest.mark.parametrize(
    "overrides",
    [
        ["update.mode=async"],
        ["update.mode=first", "update.late=waste", "wire.dtype=int2"],
        ["update.mode=all", *EXACT, "memory.kind=none"],
        ["downlink.kind=codewords", "downlink.check=1", "update.mode=first", "optimizer.momentum=0.5"],
        ["memory.kind=none", "downlink.kind=codewords", "downlink.check=1", "optimizer.rate=0.1"],
        ["memory.kind=difference", "problem.batch=0", "update.mode=all"],
        ["memory.kind=coordinator", "problem.batch=0", "update.mode=all"],
    ],
)
def test_it_learns(overrides: list[str]) -> None:
    assert_learns([*RANDOMK, "scheme.options.share=0.2", *overrides])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["scheme.options.share=0"], ["scheme.options.share", "0"]),
        (["scheme.options.chunk=3"], ["scheme.options.chunk: scheme 'randomk' has no such key"]),
        (["code.blocks=4"], ["code.blocks: 4 has no effect"]),
        (["update.mode=captured"], ["update.mode: 'captured'"]),
        (["memory.kind=none", "decoder.kind=least_squares"], ["decoder.kind: 'least_squares'", "tracking"]),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], words: list[str]) -> None:
    with refused(*words):
        configfile.resolve({}, ["scheme.name=randomk", *overrides])
