"""DeMo: the transform, and runs against the authors' algorithm by hand, with the rounding that is ours."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from descents import Descent
from hypothesis import given
from hypothesis import strategies as st
from outcomes import refused

from pdcode.config import load as configfile
from pdcode.problems import partition
from pdcode.rivals.demo import LargestOfChunks, SenderMean, Transform, dct, largest_divisor
from pdcode.session.setup import prepare
from pdcode.trace.schema import REFUSED
from pdcode.util.errors import InputError

DEMO = ["scheme.name=demo", "code.blocks=1", "workers.count=4"]
UNEVEN = [1, 1.3, 1.7, 6]
SIGN = 'optimizer={kind="sign",rate=0.002}'
sizes = st.integers(1, 70)


@pytest.mark.parametrize("size", [1, 2, 3, 16, 64])
def test_the_matrix_is_the_orthonormal_dct(size: int) -> None:
    matrix, ramp = dct(size), np.arange(1.0, size + 1)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-13)
    for number in range(size):
        term = [x * np.cos(np.pi * (2 * i + 1) * number / (2 * size)) for i, x in enumerate(ramp)]
        scale = np.sqrt((1 if number == 0 else 2) / size)
        assert (matrix @ ramp)[number] == pytest.approx(scale * sum(term), abs=1e-11)


@pytest.mark.parametrize(
    ("length", "expected"), [(1, 1), (10, 10), (64, 64), (784, 56), (97, 1), (65, 13), (4096, 64), (130, 26)]
)
def test_sides_are_the_largest_divisors_up_to_64(length: int, expected: int) -> None:
    assert largest_divisor(length, 64) == expected


@given(
    st.lists(st.tuples(sizes, sizes), min_size=1, max_size=3),
    st.sampled_from(["output", "input"]),
    st.sampled_from([1, 4, 64]),
)
def test_the_transform_is_orthonormal_chunk_by_chunk(shapes, axis, most):
    layers = partition(shapes, axis)
    transform, size = Transform(layers, most, np.dtype("float64")), sum(layer.length for layer in layers)
    random = np.random.default_rng(size)
    flat, other, back = random.standard_normal(size), random.standard_normal(size), np.empty(size)
    coefficients, others = np.full(size, np.nan), np.empty(size)
    transform.forward(flat, coefficients)
    transform.forward(other, others)
    assert coefficients @ others == pytest.approx(flat @ other, abs=1e-9)
    transform.inverse(coefficients, back)
    np.testing.assert_allclose(back, flat, atol=1e-12)
    for number, layer in enumerate(layers):
        chosen, biases = transform.units[2 * number : 2 * number + 2]
        assert biases.offset + biases.length == layer.offset + layer.length
        first = layer.weights(flat)[
            : largest_divisor(layer.outputs, most), : largest_divisor(layer.inputs, most)
        ]
        down, across = dct(len(first)), dct(first.shape[1])
        part = coefficients[chosen.offset : chosen.offset + first.size]
        np.testing.assert_allclose(part.reshape(first.shape), down @ first @ across.T, atol=1e-12)


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))
def test_the_largest_of_each_chunk_are_chosen(chunks: int, size: int, count: int, seed: int) -> None:
    count, random = min(count, size), np.random.default_rng(seed)
    residual = random.integers(-3, 4, (chunks, size)).astype(np.float32)
    before = residual.copy()
    places, values = LargestOfChunks(size, count).select(residual.reshape(-1))
    np.testing.assert_array_equal(residual, before)
    assert places.shape == values.shape == (chunks, count)
    for number, (row, some, words) in enumerate(
        zip(residual, places - size * np.arange(chunks)[:, None], values, strict=True)
    ):
        assert len(set(some)) == count, number
        np.testing.assert_array_equal(np.sort(np.abs(row[some])), np.sort(np.abs(row))[-count:])
        norm = np.linalg.norm(row[some])
        np.testing.assert_allclose(words * norm, row[some], atol=1e-5)
        assert np.linalg.norm(words) == (pytest.approx(1, rel=1e-6) if norm else 0)


@given(st.integers(1, 6), st.integers(0, 99))
def test_an_element_is_the_mean_over_those_that_sent_it(arrivals: int, seed: int) -> None:
    random, decoder = np.random.default_rng(seed), SenderMean(8, (1,), "float64", length=8)
    sent = np.full((arrivals, 8), np.nan)
    for row in sent:
        places = random.permutation(8)[:3].astype(np.int32).reshape(1, 3)
        values = random.choice([-0.6, 0.0, 0.8], (1, 3))
        payload = random.standard_normal((1, 1))
        decoder.add_sparse(places, values, payload)
        row[places[values != 0]] = (values * payload)[values != 0]
    counts = np.isfinite(sent).sum(axis=0)
    expected = np.where(counts, np.nansum(sent, axis=0) / np.maximum(counts, 1), 0)
    np.testing.assert_allclose(decoder.gradient()[:, 0], expected, atol=1e-14)
    decoder.reset()
    assert not decoder.gradient().any()


def rounded(values: np.ndarray) -> np.ndarray:
    """What arrives of the coefficients of a chunk: the projection on their direction in whole numbers."""
    codes = np.rint(127 * values / np.abs(values).max())
    word = np.float64(np.float32(codes) * np.float32(1 / np.linalg.norm(codes)))
    return word * (word @ values)


@pytest.mark.parametrize(("chunk", "ahead"), [(64, 0.0), (8, 0.0), (8, 0.6)])
def test_updates_are_those_of_the_authors(chunk: int, ahead: float) -> None:
    """Momentum, transform, selection, subtraction, mean over senders, inverse transform, sign.

    With look-ahead the gradients are those at θ less a share of a step along the momentum.
    """
    sets = ["problem.dtype=float64", f"scheme.options={{chunk={chunk},largest=5}}", SIGN, "memory.keep=0.9"]
    sets += [f"memory.lookahead={ahead}"]
    made = Descent([*DEMO, *sets, "stop.updates=6"], UNEVEN)
    layers = made.components.problem.layers
    found: list[list[np.ndarray]] = [[] for _ in made.workers]
    points: list[np.ndarray] = []

    def note(own: list[np.ndarray], source: Callable[..., float], theta: np.ndarray, task: object) -> float:
        loss = source(theta, task)
        own.append(source.gradient.copy())
        points.append(theta.copy())
        return loss

    for own, worker in zip(found, made.workers, strict=True):
        outer = worker.encoders[0].source
        inner = outer._source
        call = staticmethod(partial(note, own, inner))
        outer._source = type("Noted", (), {"__call__": call, "gradient": inner.gradient})()
    made.run()
    size = len(made.state.theta)
    momenta = [np.zeros(size) for _ in made.workers]
    for update in range(6):
        step = np.zeros(size)
        for number, (momentum, own) in enumerate(zip(momenta, found, strict=True)):
            point = made.thetas[update].copy()
            for layer in layers:
                for columns in (slice(0, -1), slice(-1, None)):
                    view = layer.weights(momentum)[:, columns]
                    scale = 0.002 * ahead / (np.sqrt(np.mean(view**2)) or 1)
                    layer.weights(point)[:, columns] -= scale * view
            np.testing.assert_allclose(points[4 * update + number], point, atol=1e-12)
            momentum *= 0.9
            momentum += own[update]
        for layer in layers:
            for columns in (slice(0, -1), slice(-1, None)):
                views = [layer.weights(momentum)[:, columns] for momentum in momenta]
                out = layer.weights(step)[:, columns]
                high, wide = (largest_divisor(length, chunk) for length in views[0].shape)
                down, across = dct(high), dct(wide)
                for top in range(0, views[0].shape[0], high):
                    for left in range(0, views[0].shape[1], wide):
                        here = slice(top, top + high), slice(left, left + wide)
                        total, count = np.zeros((2, high, wide))
                        for view in views:
                            flat = (down @ view[here] @ across.T).reshape(-1)
                            places = np.argsort(-np.abs(flat))[: min(5, flat.size)]
                            kept = np.zeros_like(flat)
                            whole = layer.outputs == columns.stop  # one element is sent as it is
                            kept[places] = flat[places] if whole else rounded(flat[places])
                            total += kept.reshape(high, wide)
                            count += kept.reshape(high, wide) != 0
                            view[here] -= down.T @ kept.reshape(high, wide) @ across
                        out[here] = down.T @ (total / np.maximum(count, 1)) @ across
        sent = made.thetas[update] - made.thetas[update + 1]
        sure = np.abs(step) > 1e-12
        np.testing.assert_allclose(sent[sure], 0.002 * np.sign(step)[sure], atol=1e-15)
        assert sure.mean() > 0.5
    transform = Transform(layers, chunk, np.dtype("float64"))
    for momentum, worker in zip(momenta, made.workers, strict=True):
        expected = np.empty(size)
        transform.forward(momentum, expected)
        np.testing.assert_allclose(worker.encoders[0].residual, expected, atol=1e-13)


def test_a_reply_is_as_long_as_counted_by_hand() -> None:
    """64 → 96 → 10: 3 chunks of 32 × 64 and 32 × 10, of which 32 are sent, and biases in 3 and one."""
    sets = ["problem.hidden=[96]", "scheme.options={chunk=32,largest=20}", "stop.updates=1"]
    layout = prepare(configfile.resolve({}, [*DEMO, *sets])).layout
    chunks, sent = [3 * 2, 3, 3, 1], [20, 20, 20, 10]
    assert (list(layout.rows), list(layout.weights)) == (chunks, sent)
    expected = 0
    for r, w, bits in zip(chunks, sent, [13, 7, 10, 4], strict=True):
        values = 4 * r + r * w  # a scale a chunk and a byte a coefficient
        expected += -(-(values + -(-bits * r * w // 8)) // 8) * 8
    assert layout.codeword_bytes == expected
    assert layout.reply_bytes == 64 * -(-(64 + expected) // 64) + 4 * 64  # the norms, a cache line a unit


@pytest.mark.every(3)
@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["update.mode=async"],
        ["update.mode=first", "update.late=waste", "wire.dtype=bfloat16", "problem.dtype=float64"],
        ["downlink.kind=codewords", "downlink.check=1", "scheme.options={chunk=16,largest=2}"],
        ["downlink.kind=codewords", "downlink.check=1", "update.mode=first", "wire.dtype=int8"],
        [
            "problem.kind=least-squares", "problem.data=diabetes", "problem.standardise=true",
            'optimizer={kind="sign",rate=1.0}',
        ],
    ],
)  # fmt: skip
def test_it_learns(overrides: list[str]) -> None:
    made = Descent([*DEMO, 'optimizer={kind="sign",rate=0.005}', "stop.updates=150", *overrides], UNEVEN)
    assert made.loss_ratio() < 0.8


def test_gradients_that_are_no_numbers_are_refused() -> None:
    made = Descent([*DEMO, 'faults.events=[{kind="nan", worker=1, task=3}]'], UNEVEN)
    assert made.run() == "enough"
    assert {row["worker"] for row in made.trace.arrivals if row["status"] == REFUSED} == {1}
    assert np.isfinite(made.state.theta).all()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["scheme.options.chunk=0"], ["scheme.options.chunk", "0"]),
        (["scheme.options.largest=0.5"], ["scheme.options.largest", "0.5"]),
        (["scheme.options.k=3"], ["scheme.options.k: unknown key (value 3)", "chunk, largest"]),
        (["code.blocks=4"], ["code.blocks: 4 has no effect"]),
        (["memory.kind=difference"], ["memory.kind: 'difference'", "'worker'"]),
        (["memory.keep=1.5"], ["memory.keep", "1.5"]),
        (["optimizer.kind=sgd"], ["optimizer.kind: 'sgd'", "'sign'"]),
        (["optimizer.momentum=0.5"], ["optimizer.momentum: kind 'sign' has no such key (value 0.5); 'sgd'"]),
        (["update.mode=captured"], ["update.mode: 'captured'"]),
    ],
)
def test_what_cannot_work_is_refused(overrides: list[str], words: list[str]) -> None:
    with refused(*words):
        configfile.resolve({}, ["scheme.name=demo", *overrides])


def test_an_optimizer_of_another_kind_is_refused_with_a_way_out() -> None:
    tables = {"scheme": {"name": "demo"}, "optimizer": {"rate": 0.1}}
    assert configfile.resolve(tables).optimizer.kind == "sign"
    with pytest.raises(InputError, match=r"optimizer\.kind: 'sgd'.*needs 'sign'"):
        configfile.resolve(tables, ["optimizer.kind=sgd"])
