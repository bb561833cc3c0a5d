"""Payload formats against their numpy twins, and the laws of stochastic rounding."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_kernels_encode import DTYPES, read_only

from pdcode.kernels import quantise, reference, specialise

KINDS = quantise.KINDS
LOSSY = ["bfloat16", "float16", "int8"]
WORD = st.integers(0, 2**64 - 1)
KEYS = (1, 2, 3, 4)


def encoded(name, source, rows=1, keys=KEYS, part=0, decoded=None):
    """Bytes of a payload, and whether it is finite."""
    out = numpy.full(quantise.size(KINDS[name], rows, source.size // max(rows, 1)), 255, "u1")
    finite = quantise.encode(KINDS[name], source, out, rows, *keys, part, decoded)
    return out, finite


def decoded(name, payload, like, rows=1):
    """Numbers of a payload, and whether they are finite."""
    out = numpy.empty_like(like)
    return out, quantise.decode(KINDS[name], payload, out, rows)


def values(seed, shape, dtype, spread):
    """Normal numbers over many magnitudes, some of them zero."""
    random = numpy.random.default_rng(seed)
    x = random.normal(size=shape) * 10.0 ** random.uniform(-spread, 0, size=shape)
    return (x * (random.uniform(size=shape) > 0.1)).astype(dtype).ravel()


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("dtype", DTYPES)
@given(
    rows=st.integers(1, 4),
    elements=st.sampled_from([0, 1, 3, 16, 785, 1023, 1024, 1025, 2100]),
    spread=st.sampled_from([0, 3, 9, 40]),
    scale=st.sampled_from([1e-30, 1.0, 3e4, 5e37]),
    keys=st.tuples(WORD, WORD, WORD, WORD),
    part=WORD,
    seed=st.integers(0, 2**32),
)
def test_bytes_are_those_of_the_twin(name, dtype, rows, elements, spread, scale, keys, part, seed):
    source = (values(seed, (rows, elements), "float64", spread) * scale).astype(dtype)
    kernel = specialise(quantise.encode, dtype)
    out = numpy.empty(quantise.size(KINDS[name], rows, elements), "u1")
    expected = numpy.empty_like(out)
    kernel(KINDS[name], read_only(source), out, rows, *keys, part)
    with numpy.errstate(all="ignore"):
        reference.quantise_encode(KINDS[name], source, expected, rows, *keys, part)
    numpy.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "elements"), [(1, 1), (4, 785), (2, 2049), (3, 0), (0, 0)])
def test_what_encode_says_is_decoded_is_decoded(name, dtype, rows, elements):
    """Error feedback keeps what the other end will not see: both must agree on every bit."""
    source = values(5, (rows, elements), dtype, 6)
    here = source.copy()
    payload, finite = encoded(name, here, rows, decoded=here)
    there, also = decoded(name, read_only(payload), source, rows)
    assert finite
    assert also
    assert here.tobytes() == there.tobytes()
    again, _ = encoded(name, source, rows)
    assert again.tobytes() == payload.tobytes()


@pytest.mark.parametrize("name", ["float16", "int8"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_decode_equals_its_twin(name, dtype):
    source = values(6, (3, 2100), dtype, 8)
    payload, _ = encoded(name, source, 3)
    expected = numpy.empty_like(source)
    reference.quantise_decode(KINDS[name], payload, expected, 3)
    numpy.testing.assert_array_equal(decoded(name, payload, source, 3)[0], expected)


def test_every_float16_is_decoded_as_numpy_does():
    halves = numpy.arange(2**16, dtype="<u2")
    out = numpy.empty(2**16, "f4")
    assert not quantise.decode(KINDS["float16"], halves.view("u1"), out, 1)
    numpy.testing.assert_array_equal(out, halves.view("<f2").astype("f4"))


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_numbers_of_the_format_stay_as_they_are(name):
    patterns = numpy.arange(2**16, dtype="u4")
    numbers = (
        (patterns << 16).view("f4") if name == "bfloat16" else patterns.astype("u2").view("f2").astype("f4")
    )
    numbers = numbers[numpy.isfinite(numbers)]
    out, finite = decoded(name, encoded(name, numbers)[0], numbers)
    assert finite
    assert out.tobytes() == numbers.tobytes()


def spread_out(name):
    """Values to round: many magnitudes, denormal ones, near the largest, and just beside a step."""
    random = numpy.random.default_rng(7)
    wide = random.normal(size=200) * 10.0 ** random.uniform(-4, 0, size=200)
    if name == "int8":
        return numpy.concatenate([wide / abs(wide).max(), [1.0, -1, 1e-7, 0.9999, 0.5 / 127, 0]]).astype("f4")
    tiny, huge = {"bfloat16": (2.0**-126, 3.3e38), "float16": (2.0**-14, 65504)}[name]
    ends = [tiny * 0.999, tiny / 777, -tiny / 90, huge, huge * 0.99951, -huge * 0.9987, 1 + 1e-6, 0]
    return numpy.concatenate([wide, random.uniform(size=50) * tiny, ends]).astype("f4")


@pytest.mark.parametrize("name", LOSSY)
def test_the_mean_of_roundings_is_the_value(name):
    x, count = spread_out(name), 10_000
    total, here = numpy.zeros(x.size), numpy.empty_like(x)
    out = numpy.empty(quantise.size(KINDS[name], 1, x.size), "u1")
    low, high = numpy.full(x.size, numpy.inf), numpy.full(x.size, -numpy.inf)
    for task in range(count):
        quantise.encode(KINDS[name], x, out, 1, 11, 2, 3, task, 0, here)
        total += here
        low, high = numpy.minimum(low, here), numpy.maximum(high, here)
    exact = x.astype("f8")
    if name == "int8":
        step = numpy.full(x.size, numpy.abs(x).max() / 127, "f8")
    else:
        digits, lowest = {"bfloat16": (7, -133), "float16": (10, -24)}[name]
        step = numpy.exp2(numpy.maximum(numpy.frexp(exact)[1] - 1.0 - digits, lowest))
    assert (high - low <= 1.001 * step).all()  # never but to one of the two neighbours
    fraction = numpy.abs(exact) / step % 1
    error = step * numpy.sqrt(fraction * (1 - fraction) / count)
    assert (abs(total / count - exact) <= 4 * error + 2.0**-17 * step).all()


@pytest.mark.parametrize("name", LOSSY)
def test_roundings_are_keyed_by_everything_and_independent(name):
    """Errors under keys that differ in one place do not correlate; neither do those of neighbours."""
    x = numpy.random.default_rng(8).uniform(0.5, 1, size=20_000).astype("f4")
    base = (1, 2, 3, 4, 0)
    keys = [base] + [tuple(b + (i == j) for j, b in enumerate(base)) for i in range(5)]
    errors = [decoded(name, encoded(name, x, 1, k[:4], k[4])[0], x)[0] - x for k in keys]
    errors.append(numpy.roll(errors[0], 1))
    correlation = numpy.corrcoef(errors) - numpy.eye(7)
    assert abs(correlation).max() < 5 / numpy.sqrt(x.size)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf, -numpy.inf])
@pytest.mark.parametrize("place", [0, 1030, 1569])
def test_what_is_not_finite_is_seen_at_the_other_end(name, dtype, bad, place):
    source = values(9, (2, 785), dtype, 2)
    source[place] = bad
    payload, finite = encoded(name, source, 2)
    out, also = decoded(name, payload, source, 2)
    assert not finite
    assert not also
    assert not numpy.isfinite(out[place])
    assert numpy.isfinite(out).any()


@pytest.mark.parametrize(
    ("name", "largest"),
    [("float16", 65504), ("bfloat16", 3.3895313892515355e38), ("int8", 3.4028234663852886e38)],
)
def test_the_largest_number_is_kept_and_more_is_refused(name, largest):
    """No overflow at random, no silent clipping."""
    for task in range(50):
        source = numpy.array([largest, -largest, 1.0])
        payload, finite = encoded(name, source, keys=(1, 2, 3, task))
        out, also = decoded(name, payload, source)
        assert finite
        assert also
        numpy.testing.assert_allclose(out[:2], source[:2], rtol=1e-6)
    assert not encoded(name, source * 1.0001)[1]


def test_int8_sends_zeros_for_a_row_of_zeros_and_keeps_the_largest():
    source = numpy.concatenate([numpy.zeros(785), numpy.full(785, 1e-37), values(1, 785, "f8", 1)]).astype(
        "f4"
    )
    out, finite = decoded("int8", encoded("int8", source, 3)[0], source, 3)
    assert finite
    assert (out[:1570] == 0).all()
    top = abs(source).argmax()
    assert out[top] == pytest.approx(source[top], rel=1e-6)


def test_sizes_on_the_wire():
    sizes = [quantise.size(kind, 4, 785) for kind in KINDS.values()]
    assert sizes == [25120, 12560, 6280, 6280, 3160]
    assert sizes[1] / sizes[4] > 3.97
    assert quantise.size(KINDS["int8"], 3, 2049) == 6184  # 3 * (3 * 4 + 2049) = 6183
    payload, _ = encoded("int8", numpy.ones(3 * 2049, "f4"), 3)
    assert payload[-1] == 0
    with pytest.raises(ValueError, match="kind is 5"):
        quantise.size(5, 1, 1)
    with pytest.raises(ValueError, match="negative"):
        quantise.size(4, 1, -1)


def test_what_does_not_fit_is_refused():
    x, out = numpy.ones(6, "f4"), numpy.zeros(17, "u1")
    with pytest.raises(ValueError, match="4 rows"):
        quantise.encode(2, x, out[:16], 4, *KEYS)
    with pytest.raises(ValueError, match="0 rows"):
        quantise.encode(2, x, out[:16], 0, *KEYS)
    with pytest.raises(ValueError, match="16 bytes: must have 24"):
        quantise.encode(1, x, out[:16], 2, *KEYS)
    with pytest.raises(ValueError, match="multiple of 8"):
        quantise.encode(2, x, out[1:], 2, *KEYS)
    with pytest.raises(ValueError, match="as long as"):
        quantise.encode(2, x, out[:16], 2, *KEYS, 0, numpy.ones(5, "f4"))
    with pytest.raises(ValueError, match="kind is -1"):
        quantise.decode(-1, out[:16], x, 2)
    with pytest.raises(ValueError):
        quantise.decode(2, out[:16], read_only(x), 2)
    with pytest.raises(OverflowError):
        quantise.encode(2, x, out[:16], 2, -1, 2, 3, 4)
