"""Payload formats against their numpy twins, and the laws of rounding: means, errors, contraction."""

import numpy
import pytest
import reference
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_kernels_encode import DTYPES, read_only

from pdcode.config import kinds
from pdcode.kernels import quantise

FORMATS = {name: kinds.find("wires", name) for name in kinds.KINDS["wires"]}
KINDS = quantise.KINDS
STOCHASTIC = [name for name, wire in FORMATS.items() if wire.rounding == "stochastic"]
NEAREST = [name for name, wire in FORMATS.items() if wire.rounding == "nearest"]
LOSSY = STOCHASTIC + NEAREST
SCALED = [name for name in LOSSY if KINDS[name] in reference.CODE_BITS]
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
    rows=st.integers(1, 4), elements=st.sampled_from([0, 1, 3, 16, 785, 1023, 1024, 1025, 2100]),
    offset=st.integers(0, 3), spread=st.sampled_from([0, 3, 9, 40]),
    scale=st.sampled_from([1e-30, 1.0, 3e4, 5e37]), keys=st.tuples(WORD, WORD, WORD, WORD), part=WORD,
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_bytes_are_those_of_the_twin(name, dtype, rows, elements, offset, spread, scale, keys, part, seed):
    source = numpy.zeros(offset + rows * elements, dtype)[offset:]  # wherever it begins in memory
    source[:] = values(seed, (rows, elements), "float64", spread) * scale
    kernel = quantise.encode
    out = numpy.empty(quantise.size(KINDS[name], rows, elements), "u1")
    expected = numpy.empty_like(out)
    kernel(KINDS[name], read_only(source), out, rows, *keys, part)
    with numpy.errstate(all="ignore"):
        reference.quantise_encode(KINDS[name], source, expected, rows, *keys, part)
    numpy.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("name", SCALED)
def test_bytes_of_every_length_are_those_of_the_twin(name):
    source = values(4, 2100, "float32", 2)
    for elements in [*range(1, 140), *range(1000, 1060), *range(2040, 2060)]:
        out, _ = encoded(name, source[:elements])
        expected, back = numpy.empty_like(out), numpy.empty(elements, "f4")
        reference.quantise_encode(KINDS[name], source[:elements], expected, 1, *KEYS)
        numpy.testing.assert_array_equal(out, expected)
        reference.quantise_decode(KINDS[name], expected, back, 1)
        numpy.testing.assert_array_equal(decoded(name, out, back)[0], back)


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


@pytest.mark.parametrize("name", ["float16", *SCALED])
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
    out, usable = decoded(name, encoded(name, numbers)[0], numbers)
    assert usable == (name == "float16")  # bfloat16 goes beyond what a payload may have
    numbers = numbers[numpy.abs(numbers) < 2.0**60]
    out, usable = decoded(name, encoded(name, numbers)[0], numbers)
    assert usable
    assert out.tobytes() == numbers.tobytes()


def spread_out(name):
    """Values to round: many magnitudes, denormal ones, near the largest, and just beside a step."""
    random = numpy.random.default_rng(7)
    wide = random.normal(size=200) * 10.0 ** random.uniform(-4, 0, size=200)
    if name in ("int8", "qsgd"):
        return numpy.concatenate([wide / abs(wide).max(), [1.0, -1, 1e-7, 0.9999, 0.5 / 127, 0]]).astype("f4")
    tiny, huge = {"bfloat16": (2.0**-126, 3.3e38), "float16": (2.0**-14, 65504)}[name]
    ends = [tiny * 0.999, tiny / 777, -tiny / 90, huge, huge * 0.99951, -huge * 0.9987, 1 + 1e-6, 0]
    return numpy.concatenate([wide, random.uniform(size=50) * tiny, ends]).astype("f4")


@pytest.mark.parametrize("name", STOCHASTIC)
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
    if name in ("int8", "qsgd"):
        step = numpy.full(x.size, numpy.abs(x).max() / {"int8": 127, "qsgd": 7}[name], "f8")
    else:
        digits, lowest = {"bfloat16": (7, -133), "float16": (10, -24)}[name]
        step = numpy.exp2(numpy.maximum(numpy.frexp(exact)[1] - 1.0 - digits, lowest))
    assert (high - low <= 1.001 * step).all()  # never but to one of the two neighbours
    fraction = numpy.abs(exact) / step % 1
    error = step * numpy.sqrt(fraction * (1 - fraction) / count)
    assert (abs(total / count - exact) <= 4 * error + 2.0**-16 * step + 2.0**-22 * abs(exact)).all()


def test_the_expectation_over_all_random_numbers_is_the_value():
    """To half of one of the steps between two neighbours: what the twin does for each element."""
    for levels in (7, 127):
        x = numpy.float32([1, -1, 0.3, -0.25, 1e-6, -0.999999, 0.5 / levels, 1 / levels])
        codes = numpy.array(
            [
                reference.levels_at_random(x, numpy.float32(1), numpy.full(8, lane), levels)
                for lane in range(2**15)
            ]
        )[:, :4]  # of the other half of the elements the upper 15 bits count
        numpy.testing.assert_allclose(codes.mean(axis=0), levels * x[:4], rtol=2.0**-22, atol=2.0**-16)
        assert (codes.max(axis=0) - codes.min(axis=0) <= 1).all()
        assert abs(codes).max() == levels
    lanes = numpy.arange(65536)
    for x in numpy.float32([0, 1e-7, 0.3, 0.49999, 0.5, 2.00001, 6.9999, 7]):
        rounded = reference.round_at_random(numpy.full(65536, x), numpy.float32(1), lanes)
        assert set(numpy.unique(rounded)) <= {numpy.floor(x), numpy.floor(x) + 1}
        assert rounded.mean(dtype="f8") == pytest.approx(float(x), rel=0, abs=2.0**-17)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000 00000000 00000000",
         "531c7e4f 39491ee5 2c855a92 3d6abf9a"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff ffffffff ffffffff",
         "c4189358 1c9cc83a d5881c67 6a0a89e0"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0 082efa98 ec4e6c89",
         "4aa71d8f 734738c2 431fc6a8 ae6debf1"),
    ],
)  # fmt: skip
def test_threefry_gives_the_values_that_its_authors_publish(counter, key, words):
    """Those of kat_vectors in Random123, for 13 rounds."""
    counter, key, words = (numpy.array([int(word, 16) for word in text.split()], "u4")
                           for text in (counter, key, words))  # fmt: skip
    numpy.testing.assert_array_equal(reference.threefry(key, counter[1:], counter[:1])[:, 0], words)


@pytest.mark.parametrize("name", NEAREST)
def test_what_is_rounded_to_nearest_needs_no_key(name):
    x = values(2, 1500, "float32", 1)
    payload, _ = encoded(name, x)
    assert encoded(name, x, keys=(5, 6, 7, 8), part=9)[0].tobytes() == payload.tobytes()


def squares(x):
    """Squared norm in float64."""
    return float((numpy.asarray(x, "f8") ** 2).sum())


def error(name, x):
    """Expected squared norm of the error of a group."""
    if FORMATS[name].rounding == "nearest":
        return squares(numpy.float64(decoded(name, encoded(name, x)[0], x)[0]) - x)
    scale = max(float(numpy.abs(x).max()) / {"int8": 127, "qsgd": 7}[name], 1e-99)
    up = numpy.abs(x.astype("f8")) / scale % 1  # the chance
    return scale**2 * float((up * (1 - up)).sum())


ROWS = arrays.arrays(
    numpy.float32,
    st.integers(1, 1024),
    elements=st.one_of(
        st.floats(-1, 1, width=32),
        st.sampled_from([0, 1, -1, 1e-3, 0.03125, 100]),
        st.floats(0.5, 0.75, width=32),
    ),
)  # fmt: skip


@given(ROWS, st.sampled_from([1e-25, 1.0, 1e30]))
def test_int4_is_within_half_a_step_and_contracts(x, scale):
    x = (x * scale).astype("f4")
    assume(numpy.abs(x).max() >= 2.0**-104 or not x.any())  # else it is sent as zeros
    back, _ = decoded("int4", encoded("int4", x)[0], x)
    assert (numpy.abs(numpy.float64(back) - x) <= 0.50001 * float(numpy.abs(x).max()) / 7 + 1e-44).all()
    assert error("int4", x) <= (1 - (1 - 1e-4) / x.size) * squares(x) + 1e-70


@given(ROWS, st.sampled_from([1e-25, 1.0, 1e30]))
def test_sign_contracts_as_karimireddy_et_al_say(x, scale):
    """‖Q(x) - x‖² = ‖x‖² - ‖x‖₁²/d."""
    x = (x * scale).astype("f4")
    assume(numpy.abs(x).max() >= 2.0**-104 or not x.any())
    exact = squares(x) - numpy.abs(x.astype("f8")).sum() ** 2 / x.size
    assert error("sign", x) == pytest.approx(exact, rel=1e-4, abs=1e-6 * squares(x) + 1e-70)


@given(ROWS, st.sampled_from([1e-25, 1.0, 1e30]))
def test_int2_sends_the_mean_magnitudes_of_two_bins(x, scale):
    """A projection, better than that onto the signs alone."""
    x = (x * scale).astype("f4")
    assume(numpy.abs(x).max() >= 2.0**-104 or not x.any())
    payload, _ = encoded("int2", x)
    back, _ = decoded("int2", payload, x)
    codes = reference.unpack(payload[8 : 8 + -(-x.size // 4)], x.size, 2)
    unit = numpy.abs(x.astype("f8")).max() * 2.0**-19
    if unit > 0:
        numpy.testing.assert_array_equal(codes >> 1, numpy.signbit(x))
    bins = [numpy.abs(x[codes % 2 == b]) for b in range(2)]
    if all(len(some) for some in bins):
        assert bins[0].max() <= bins[1].min()
    for b, some in enumerate(bins):
        if len(some):
            means = numpy.abs(back[codes % 2 == b])
            numpy.testing.assert_allclose(means, some.mean(dtype="f8"), rtol=1e-6, atol=unit)
    bound = squares(x) - numpy.abs(x).sum(dtype="f8") ** 2 / x.size
    assert error("int2", x) <= bound + 1e-5 * squares(x) + 1e-70


def equal_bins(x):
    """Means of four equal bins over six standard deviations, as in SparseLoCo's public code."""
    width = 6 * x.std(ddof=1) / 4
    bins = numpy.clip(numpy.round((x - x.mean()) / width + 2), 0, 3)
    return sum((bins == b) * x[bins == b].mean() for b in range(4) if (bins == b).any())


@pytest.mark.parametrize(
    ("draw", "ours", "equal"),
    [
        (lambda random: random.normal(size=1024), 0.1175, 0.178),
        (lambda random: random.laplace(size=1024), 0.18, 0.21),
        (lambda random: largest_of(random.normal(size=(16, 4096)), 64), 0.0054, 0.012),
    ],
)
def test_the_bins_of_int2_lose_less_than_equal_ones(draw, ours, equal):
    random = numpy.random.default_rng(1)
    rows = [draw(random).astype("f4") for _ in range(50)]
    assert numpy.mean([error("int2", x) / squares(x) for x in rows]) == pytest.approx(ours, rel=0.1)
    assert numpy.mean([squares(x - equal_bins(x)) / squares(x) for x in rows]) == pytest.approx(
        equal, rel=0.1
    )


def largest_of(x, count):
    """The largest elements of each row, in one row."""
    return numpy.take_along_axis(x, numpy.argsort(-abs(x), axis=1)[:, :count], axis=1).ravel()


@given(ROWS)
def test_int8_contracts_and_qsgd_keeps_its_bound(x):
    """E‖Q(x) - x‖² ≤ min(d/s², √d/s)‖x‖² for QSGD with s levels: the bound of Alistarh et al., which the
    largest magnitude in place of the 2-norm keeps."""
    assert error("int8", x) <= 0.13 * squares(x)
    assert error("qsgd", x) <= min(x.size / 49, x.size**0.5 / 7) * squares(x)


def test_qsgd_is_no_contraction():
    x = numpy.full(1024, 1 / 32, "f4")
    x[0] = 1
    assert error("qsgd", x) > 1.7 * squares(x)
    found = [squares(numpy.float64(decoded("qsgd", encoded("qsgd", x, keys=(1, 2, 3, t))[0], x)[0]) - x)
             for t in range(200)]  # fmt: skip
    assert numpy.mean(found) == pytest.approx(error("qsgd", x), rel=0.05)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_roundings_are_keyed_by_everything_and_independent(name):
    """Errors under keys that differ in one place do not correlate; neither do those of neighbours."""
    x = numpy.random.default_rng(8).uniform(0.5, 1, size=20_000).astype("f4")
    x[::1024] = 1  # the scale of a group, if it has one, is not its error's
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
    [
        ("float16", 65504), ("bfloat16", 3.3895313892515355e38),
        *((name, 3.4028234663852886e38) for name in ("int8", "qsgd", "int4", "int2")),
    ],
)  # fmt: skip
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


@pytest.mark.parametrize("name", SCALED)
def test_a_row_of_zeros_is_sent_as_zeros_and_the_largest_is_kept(name):
    source = numpy.concatenate([numpy.zeros(785), numpy.full(785, 1e-37), values(1, 785, "f8", 1)]).astype(
        "f4"
    )
    out, finite = decoded(name, encoded(name, source, 3)[0], source, 3)
    assert finite
    assert (out[:1570] == 0).all()
    top = abs(source).argmax()
    if name in ("int8", "int4", "qsgd"):
        assert out[top] == pytest.approx(source[top], rel=1e-6)
    else:
        assert numpy.sign(out[top]) == numpy.sign(source[top])


def test_the_mean_of_the_largest_numbers_is_finite():
    source = numpy.full(1500, -3.4028234663852886e38)
    for name in ("sign", "int2"):
        out, finite = decoded(name, encoded(name, source)[0], source)
        assert finite
        numpy.testing.assert_allclose(out, source, rtol=1e-6)


def test_sizes_on_the_wire():
    sizes = {name: quantise.size(kind, 4, 785) for name, kind in KINDS.items()}
    assert sizes == {
        "float64": 25120, "float32": 12560, "bfloat16": 6280, "float16": 6280,
        "int8": 3160,  # 4 * (4 + 785) = 3156
        "int4": 1592, "qsgd": 1592,  # 4 * (4 + 393) = 1588
        "int2": 824,  # 4 * (8 + 197) = 820
        "sign": 416,  # 4 * (4 + 99) = 412
    }  # fmt: skip
    assert list(KINDS) == list(FORMATS)
    assert sizes["float32"] / sizes["int8"] > 3.97
    assert quantise.size(KINDS["int2"], 2, 1027) == 552  # 2 * (2 * 8 + 257) = 546
    assert quantise.size(KINDS["int8"], 3, 2049) == 6184  # 3 * (3 * 4 + 2049) = 6183
    payload, _ = encoded("int8", numpy.ones(3 * 2049, "f4"), 3)
    assert payload[-1] == 0
    with pytest.raises(ValueError, match="kind is 9"):
        quantise.size(9, 1, 1)
    with pytest.raises(ValueError, match="elements is -1"):
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
    with pytest.raises(ValueError, match=r"arrays do not fit encode\("):
        quantise.encode(2, x, out[:16], 2, *KEYS, 0, numpy.ones(5, "f4"))
    with pytest.raises(ValueError, match="kind is -1"):
        quantise.decode(-1, out[:16], x, 2)
    with pytest.raises(ValueError):
        quantise.decode(2, out[:16], read_only(x), 2)
    with pytest.raises(OverflowError):
        quantise.encode(2, x, out[:16], 2, -1, 2, 3, 4)
