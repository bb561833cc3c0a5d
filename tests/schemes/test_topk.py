"""The largest elements, with error feedback: what is sent, what stays, and runs of every mode."""

from math import ceil

import numpy as np
import pytest
import reference
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from outcomes import refused
from sides import UNEVEN, Sides, assert_learns

from pdcode.config import load as configfile
from pdcode.schemes.topk import LargestElements
from pdcode.session.setup import prepare
from pdcode.trace.schema import REFUSED
from pdcode.transport.codewords import Chunks

TOPK = ["scheme.name=topk", "code.blocks=1", "workers.count=4"]
SPARSE = [
    "problem.kind=least-squares", "problem.data=synthetic", "problem.features=30", "problem.density=0.1",
    "problem.samples=200", "optimizer.rate=0.02",
]  # fmt: skip


@given(
    arrays.arrays(
        np.float32, st.integers(1, 40), elements=st.sampled_from([0, 1, -1, 2, 1e-30, -1e30, 3e38])
    ),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_the_elements_of_largest_size_are_chosen(residual: np.ndarray, size: int, most: int) -> None:
    before, chunks = residual.copy(), Chunks(size, most)
    places, values = LargestElements(len(residual), chunks, residual.dtype).select(residual)
    np.testing.assert_array_equal(residual, before)
    np.testing.assert_array_equal(places[:, 0], reference.largest(residual, size, most))
    np.testing.assert_array_equal(values, np.ones(places.shape))


@given(
    st.lists(st.sampled_from([1, 2, 3, 17, 300, 70_000]), min_size=1, max_size=4),
    st.sampled_from([1e-12, 0.01, 0.3, 1.0]),
    st.sampled_from([None, 16, 4096]),
    st.sampled_from([
        "float32 float32", "float32 int8", "float64 float64", "float64 bfloat16", "float32 int2",
        "float64 sign",
    ]),
    st.booleans(),
)  # fmt: skip
def test_nothing_is_lost(lengths, share, chunk, formats, ties):
    """The sum of what is decoded and what stays is that of the gradients; layers of one element are sent
    whole; a gradient that is no number leaves nothing behind."""
    dtype, wire = formats.split()
    sets = [f"scheme.options.share={share}", f"problem.dtype={dtype}", f"wire.dtype={wire}"]
    sides = Sides([*TOPK, *sets, *([f"scheme.options.chunk={chunk}"] if chunk else [])], lengths)
    random = np.random.default_rng(len(lengths))
    assert sides.layout.rows == tuple(rows_by_hand(share, size, chunk) for size in lengths)
    total, decoded = np.zeros(sum(lengths)), np.zeros(sum(lengths))
    for task in range(5):
        gradient = random.integers(-1, 2, sum(lengths)) if ties else random.standard_normal(sum(lengths))
        gradient = gradient.astype(dtype)
        if task == 2:
            sound, out = sides.turn(np.where(np.arange(len(gradient)) == 0, np.nan, gradient))
            assert not sound
            continue
        sound, out = sides.turn(gradient)
        assert sound
        total += gradient
        decoded += out
    scale = np.abs(total).max() + 5
    tolerance = {"float32": 1e-6, "float64": 1e-13}[dtype] * scale
    np.testing.assert_allclose(decoded + sides.memory.residual, total, rtol=0, atol=tolerance)
    if wire == dtype:
        for unit in sides.units:
            if unit.uncoded:
                assert sides.memory.residual[unit.offset] == 0


def rows_by_hand(share: float, length: int, chunk: int | None) -> int:
    """Elements that a task sends of a layer."""
    size = min(chunk or length, length)
    most = max(1, ceil(share * size - 1e-9))
    return sum(min(most, length - start, size) for start in range(0, length, size))


@given(st.integers(2, 300), st.floats(0.001, 1), st.sampled_from([None, 7, 64]), st.integers(0, 2**32))
def test_it_contracts_as_stich_et_al_say(length: int, share: float, chunk: int | None, seed: int) -> None:
    """‖x - top_k(x)‖² ≤ (1 - k/d)‖x‖², the property that their theorem needs, in each chunk too."""
    sets = [f"scheme.options.share={share}", "problem.dtype=float64", "wire.dtype=float64"]
    sides = Sides([*TOPK, *sets, *([f"scheme.options.chunk={chunk}"] if chunk else [])], [length])
    x = np.random.default_rng(seed).standard_normal(length) ** 3
    sides.turn(x)
    size = min(chunk or length, length)
    most = max(1, ceil(share * size - 1e-9))
    for start in range(0, length, size):
        part = slice(start, min(length, start + size))
        left, count = sides.memory.residual[part], part.stop - part.start
        assert left @ left <= (1 - min(most, count) / count) * (x[part] @ x[part]) * (1 + 1e-9) + 1e-12


def test_a_payload_that_is_not_used_comes_back() -> None:
    sides = Sides([*TOPK, "scheme.options.share=0.1", "problem.dtype=float64", "wire.dtype=float64"], [50, 1])
    gradient = np.arange(51.0)
    sides.turn(gradient)
    sides.memory.rollback()
    np.testing.assert_allclose(sides.memory.residual, gradient, atol=1e-12)


def test_all_elements_are_a_full_gradient_but_for_rounding() -> None:
    """Each value is rounded to a multiple of 1/127 of the largest of 1,024; what is lost stays."""
    sides = Sides([*TOPK, "scheme.options.share=1", "problem.dtype=float64"], [300, 40])
    gradient = np.random.default_rng(1).standard_normal(340)
    _, out = sides.turn(gradient)
    for unit in sides.units:
        part = slice(unit.offset, unit.offset + unit.length)
        step = np.abs(gradient[part]).max() / 127
        assert np.abs(out[part] - gradient[part]).max() <= 1.02 * step
    sets = ["update.mode=all", "problem.dtype=float64"]
    full = Descent(["scheme.name=uncoded", *TOPK[1:], *sets], UNEVEN)
    assert full.run() == "enough"
    moved = np.linalg.norm(full.state.theta - full.thetas[0])
    for wire, tolerance in (("int8", 0.02), ("float64", 1e-12)):
        made = Descent([*TOPK, "scheme.options.share=1", f"wire.dtype={wire}", *sets], UNEVEN)
        assert made.run() == "enough"
        assert np.linalg.norm(made.state.theta - full.state.theta) < tolerance * moved


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bytes_of_a_reply_by_hand(dtype: str) -> None:
    """Of a layer of 785 · 64 weights, biases included."""
    job = [
        *TOPK, f"problem.dtype={dtype}", "problem.kind=least-squares", "problem.data=synthetic",
        "problem.features=784", "problem.outputs=64", "stop.updates=1",
    ]  # fmt: skip
    layout = prepare(configfile.resolve({}, job)).layout  # 50,240 weights: 16 bits an index
    assert layout.reply_bytes == 64 + (1008 + 0) + 512  # 503 · 16 bits; a scale and 503 bytes
    assert layout.task_bytes == layout.header_bytes + layout.gradient_bytes
    for wire, size in (("int2", 8 + 126 + 2), ("sign", 4 + 63 + 5), ("int4", 4 + 252), ("float16", 1008)):
        assert prepare(configfile.resolve({}, [*job, f"wire.dtype={wire}"])).layout.payload_bytes == size
    sparseloco = [*job, "scheme.options.chunk=4096", "scheme.options.share=0.015625", "wire.dtype=int2"]
    layout = prepare(configfile.resolve({}, sparseloco)).layout  # 12 chunks, and one of 1,088
    assert layout.rows == (13 * 64,)
    assert layout.codeword_bytes == 13 * 64 * 12 // 8
    assert layout.payload_bytes == 8 + 13 * 64 * 2 // 8


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
        ["scheme.options.chunk=64", "wire.dtype=int2", "downlink.kind=codewords", "downlink.check=1"],
        ["wire.dtype=sign", "update.mode=all"],
        ['wire.dtype=["int4","float32"]'],
        SPARSE,
        [*SPARSE, "downlink.kind=codewords", "downlink.check=1", "problem.dtype=float64"],
    ],
)  # fmt: skip
def test_it_learns(overrides: list[str]) -> None:
    assert_learns([*TOPK, "scheme.options.share=0.1", *overrides])


@pytest.mark.parametrize(
    "downlink", [["downlink.kind=full"], ["downlink.kind=codewords", "downlink.check=1"]]
)
def test_gradients_that_are_no_numbers_are_refused(downlink: list[str]) -> None:
    made = Descent([*TOPK, 'faults.events=[{kind="nan", worker=1, task=3}]', *downlink], UNEVEN)
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
        (["scheme.options.chunk=0"], ["scheme.options.chunk", "0"]),
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
    with refused(*words):
        configfile.resolve({}, ["scheme.name=topk", *overrides])
