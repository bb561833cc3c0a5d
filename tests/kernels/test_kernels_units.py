"""Calls for all units at a time against those for one, to the last bit; what does not fit is left alone."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pdcode.kernels.codewords import CodewordSections, read_codewords, write_codewords
from pdcode.kernels.headers import HEADER_BYTES, Received, read_task, write_task
from pdcode.kernels.payloads import Payload
from pdcode.kernels.records import ROW_BYTES, UPDATE_BYTES, Batch
from pdcode.kernels.replica import ENTRY_BYTES, Descents

from pdcode.kernels import decode, finite, optimize, quantise
from pdcode.trace.schema import ARRIVALS, UPDATES
from pdcode.transport.layout import HEADER
from pdcode.transport.log import STEP_HEAD

DTYPES = ["float32", "float64"]
WIRES = {"float64": list(quantise.KINDS), "float32": list(quantise.KINDS)[1:]}
FORMATS = [(dtype, wire) for dtype in DTYPES for wire in WIRES[dtype]]
BAD = st.sampled_from([None, np.nan, np.inf, -np.inf])
SIZES = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 40)), min_size=1, max_size=3)  # rows, elements


def test_headers_and_rows_are_as_long_as_declared() -> None:
    sizes = [np.dtype([(key, each.dtype) for key, each in table.items()]) for table in (ARRIVALS, UPDATES)]
    assert [each.itemsize for each in sizes] == [ROW_BYTES, UPDATE_BYTES]
    assert HEADER.size == HEADER_BYTES
    assert STEP_HEAD.size == ENTRY_BYTES


@pytest.mark.parametrize(("dtype", "wire"), FORMATS)
@given(sizes=SIZES, bad=BAD, seed=st.integers(0, 99))
def test_a_payload_is_read_as_its_units_are(dtype, wire, sizes, bad, seed):
    random, kind = np.random.default_rng(seed), quantise.KINDS[wire]
    fields, twins = [], []
    for number, (rows, elements) in enumerate(sizes):
        flat = random.normal(size=rows * elements).astype(dtype)
        if bad is not None and number == seed % len(sizes):
            flat[seed % len(flat)] = bad
        packed = np.zeros(quantise.size(kind, rows, elements), np.uint8)
        quantise.encode(kind, flat, packed, rows, seed, 1, 2, 3, number)
        mine, theirs = np.empty_like(flat), np.empty_like(flat)
        fields.append((mine, packed, kind, rows))
        twins.append((mine, theirs, quantise.decode(kind, packed, theirs, rows)))
    assert Payload(fields).read() == all(sound for _, _, sound in twins)
    for mine, theirs, _ in twins:
        assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@given(sizes=SIZES, bad=BAD, seed=st.integers(0, 99))
def test_a_payload_in_place_is_only_looked_at(dtype, sizes, bad, seed):
    random = np.random.default_rng(seed)
    flats = [random.normal(size=rows * elements).astype(dtype) for rows, elements in sizes]
    if bad is not None:
        flats[seed % len(sizes)][seed % len(flats[seed % len(sizes)])] = bad
    fields = [(flat, flat.view(np.uint8), -1, rows) for flat, (rows, _) in zip(flats, sizes, strict=True)]
    before = [flat.tobytes() for flat in flats]
    assert Payload(fields).read() == all(map(finite.all_finite, flats))
    assert [flat.tobytes() for flat in flats] == before


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ((np.zeros(6, "f4"), np.zeros(8, "u1"), quantise.KINDS["int8"], 4), "rows of equal length"),
        ((np.zeros(6, "f4"), np.zeros(8, "u1"), quantise.KINDS["float32"], 2), "not as many"),
        ((np.zeros((2, 3), "f4"), np.zeros(24, "u1"), -1, 2), "vectors"),
        ((np.zeros(6, "i4"), np.zeros(24, "u1"), -1, 2), "float32 and float64"),
        ((np.zeros(2, "f4"), np.zeros(16, "u1")[4:12], quantise.KINDS["float32"], 1), "multiple of 8"),
    ],
)
def test_payloads_that_do_not_fit_are_refused(field, message):
    with pytest.raises(ValueError, match=message):
        Payload([field])


def arrival(random, dtype, sizes, blocks=7, weight=3):
    """Random accumulators, codewords and payloads."""
    codewords = [
        (
            random.integers(0, blocks, (rows, weight)).astype(np.int32),
            random.normal(size=(rows, weight)).astype(dtype),
        )
        for rows, _ in sizes
    ]
    payloads = [random.normal(size=size).astype(dtype) for size in sizes]
    sums = [
        random.normal(size=blocks * elements - seed % 2).astype(dtype)
        for seed, (_, elements) in enumerate(sizes)
    ]
    return sums, codewords, payloads


@pytest.mark.parametrize("dtype", DTYPES)
@given(sizes=SIZES, seed=st.integers(0, 99))
def test_payloads_are_added_as_the_decode_kernel_does(dtype, sizes, seed):
    sums, codewords, payloads = arrival(np.random.default_rng(seed), dtype, sizes)
    twins = [each.copy() for each in sums]
    assert decode.Accumulators(sums).add(codewords, payloads)
    kernel = decode.adjoint_decode
    for mine, theirs, words, payload in zip(sums, twins, codewords, payloads, strict=True):
        kernel(theirs, *words, payload, 1.0)
        assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(
    "what", ["fewer", "rows", "weight", "integers", "wide", "swapped", "order", "list", "flat"]
)
def test_arrivals_that_do_not_fit_change_nothing(what):
    sums, codewords, payloads = arrival(np.random.default_rng(0), "float32", [(2, 8), (3, 5)])
    indices, values = codewords[1]
    twins = [each.copy() for each in sums]
    if what == "fewer":
        payloads.pop()
    codewords[1], payloads[-1] = {
        "fewer": (codewords[1], payloads[-1]),
        "rows": (codewords[1], payloads[-1][:2]),
        "weight": ((indices, values[:, :2].copy()), payloads[-1]),
        "integers": ((indices.astype(np.int64), values), payloads[-1]),
        "wide": ((indices, values.astype(np.float64)), payloads[-1]),
        "swapped": ((indices, values.astype(">f4")), payloads[-1]),
        "order": (codewords[1], np.asfortranarray(payloads[-1])),
        "list": (codewords[1], payloads[-1].tolist()),
        "flat": (codewords[1], payloads[-1].reshape(-1)),
    }[what]
    assert not decode.Accumulators(sums).add(codewords, payloads)
    assert [each.tobytes() for each in sums] == [each.tobytes() for each in twins]


@pytest.mark.parametrize("index", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=st.integers(1, 4), weight=st.integers(1, 6), seed=st.integers(0, 99))
def test_codewords_come_back(dtype, index, rows, weight, seed):
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, weight)).astype(dtype)
    indices = random.integers(0, min(np.iinfo(index).max, 2**31 - 1), (rows, weight)).astype(np.int32)
    sent, places = np.zeros((rows, weight), dtype), np.zeros((rows, weight), index)
    assert write_codewords(sent, places, indices, values)
    np.testing.assert_array_equal(places, indices)
    back = np.zeros_like(indices), np.zeros_like(values)
    assert read_codewords(sent, places, *back)
    assert back[0].tobytes() == indices.tobytes()
    assert back[1].tobytes() == values.tobytes()
    assert not write_codewords(sent, places, indices[:, 1:], values[:, 1:])
    assert not write_codewords(sent, places, indices, values.astype("f2"))
    assert not read_codewords(sent, places, indices.astype(np.int64), values)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    touched=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), max_size=4),
    short=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_steps_of_many_codewords_are_those_of_one_after_another(dtype, touched, short, seed):
    theta, gradient = np.random.default_rng(seed).normal(size=(2, 50 - short)).astype(dtype)
    theta, gradient = theta.copy(), gradient.copy()
    other, same, total = theta.copy(), gradient.copy(), 0.25
    lists = [np.array(each, np.int32)[None] for each in touched]
    for each in lists:
        total += optimize.sgd_blocks(other, same, each.ravel(), 5, 0.3)
    assert optimize.Descent(theta, gradient, 5).step(lists, 0.3, 0.25) == total
    assert (theta.tobytes(), gradient.tobytes()) == (other.tobytes(), same.tobytes())


def test_steps_that_do_not_fit_are_refused():
    theta = np.zeros(8, "f4")
    for arguments in ((theta, theta[:4], 2), (theta, np.zeros(8), 2), (theta, theta, 0)):
        with pytest.raises(ValueError, match="must be"):
            optimize.Descent(*arguments)
    with pytest.raises(ValueError, match="int32"):
        optimize.Descent(theta, theta.copy(), 2).step([np.zeros(2, np.int64)], 1.0, 0.0)


def test_a_task_that_does_not_fit_is_refused():
    message = np.zeros(100, np.uint8)
    assert write_task(message, 64, [np.ones(36, np.uint8)], 1, 2, 3, 4, 5, 6) == 100
    assert HEADER.unpack_from(message.data) == (1, 2, 36, 3, 4, 5, 6, 0, 0, 0, 0.0)
    assert message[64:].all()
    with pytest.raises(ValueError, match="no room"):
        write_task(message, 64, [np.ones(37, np.uint8)], 1, 2, 3, 4, 5, 6)
    with pytest.raises(OverflowError):
        write_task(message, 64, [], 1 << 16, 2, 3, 4, 5, 6)
    with pytest.raises(ValueError, match="header"):
        Received().read_header(message[:63], 0)
    with pytest.raises(ValueError, match="none of arrivals"):
        Batch(2, ROW_BYTES + 1).put(Received(), 0, 0, 0, 0, 0.0, 0)


@given(
    st.tuples(
        *[st.integers(0, 2**16 - 1)] * 2,
        *[st.integers(0, 2**32 - 1)] * 3,
        *[st.integers(-(2**63), 2**63 - 1)] * 2,
    )
)
def test_headers_of_tasks_come_back(fields):
    worker, flags, size, task, version, row, digest = fields
    packed = HEADER.pack(*fields, 0, 0, 0, 0.0)
    message = np.frombuffer(packed, np.uint8)
    assert read_task(message) == (flags, size, task, version, row, digest)
    mine = np.zeros(HEADER.size, np.uint8)
    write_task(mine, HEADER.size, [], worker, flags, task, version, row, digest)
    assert mine[:4].tobytes() + mine[8:].tobytes() == packed[:4] + packed[8:]
    reply = Received()
    times = [1 << 60, 2, -3, 4]
    reply.read_header(np.frombuffer(HEADER.pack(*fields[:6], *times, 0.5), np.uint8), 5)
    assert (reply.worker, reply.task, reply.version, reply.row) == (worker, task, version, row)
    assert (reply.t_start_ns, reply.t_compute_ns, reply.t_send_ns) == (times[0] - 5, -3, -8)
    assert (reply.injected_delay_ns, reply.loss) == (4, 0.5)
    with pytest.raises(ValueError, match="header"):
        read_task(message[:63])


@pytest.mark.parametrize("dtype", DTYPES)
@given(shapes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), max_size=3), seed=st.integers(0, 99))
def test_codewords_of_all_sections_are_read_as_those_of_each(dtype, shapes, seed):
    random, sections, twins = np.random.default_rng(seed), [], []
    for number, shape in enumerate(shapes):
        narrow = ["u1", "u2", "u4"][(seed + number) % 3]
        sent, places = random.normal(size=shape).astype(dtype), random.integers(0, 200, shape).astype(narrow)
        sections.append((sent, places, np.zeros(shape, "i4"), np.zeros(shape, dtype)))
        twins.append((np.zeros(shape, "i4"), np.zeros(shape, dtype)))
    units = range(len(shapes))[::-1]
    other = SimpleNamespace(write=lambda views, indices, values: views[0].fill(indices))
    words = CodewordSections([(*each, unit, other) for each, unit in zip(sections, units, strict=True)])
    for (sent, places, *mine), theirs in zip(sections, twins, strict=True):
        sent *= 2
        assert read_codewords(sent, places, *theirs)
        assert (mine[1] != theirs[1]).any()
    assert words.read() is True
    for (_, _, *mine), theirs in zip(sections, twins, strict=True):
        assert [each.tobytes() for each in mine] == [each.tobytes() for each in theirs]
    written = [tuple(each.copy() for each in pair) for pair in twins]
    for sent, places, *_ in sections:
        sent[:] = places[:] = 0
    words.write([written[unit] for unit in units], 3)
    for (sent, places, *_), (indices, values) in zip(sections, written, strict=True):
        np.testing.assert_array_equal(places, indices)
        assert sent.tobytes() == values.tobytes()
    if sections:
        words.write([(5, None)] * len(sections))
        assert (sections[0][0] == 5).all()
        with pytest.raises(ValueError, match="the shape and types"):
            CodewordSections([(*sections[0][:3], sections[0][3][:0], 0, other)])


def log(rows=2, block=5, kind="int8"):
    """Arguments of `Descents` for one unit of 4 blocks, and the log of an arrival with its step."""
    kind, payload = quantise.KINDS[kind], np.ones(rows * block, "f4")
    wire = np.zeros(quantise.size(kind, rows, block), "u1")
    quantise.encode(kind, payload, wire, rows, 1, 2, 3, 4)
    entry = np.zeros(16 + len(wire), "u1")
    theta, words = np.zeros(4 * block, "f4"), (np.arange(rows, dtype="i4")[:, None], np.ones((rows, 1), "f4"))
    unit = theta, 0.5, entry[16:], kind, rows
    pieces = STEP_HEAD.pack(0, 0.0), bytes(16), wire.tobytes(), STEP_HEAD.pack(1, 1.0)
    return [[unit], [(4, block)], entry, 16, lambda: True, [words]], np.frombuffer(b"".join(pieces), "u1")


def test_a_log_is_taken_in_up_to_what_is_not_an_arrival_and_its_step():
    arguments, body = log()
    theta, descents = arguments[0][0][0], Descents(*arguments)
    assert descents.take(body, 0, 2.0) == len(body)
    assert theta.tolist() == [-1] * 10 + [0] * 10
    both = np.concatenate([body, body])
    assert descents.take(both, len(body), 2.0) == len(both)
    assert theta.tolist() == [-2] * 10 + [0] * 10
    two = np.concatenate([body, body[:-16], body])  # an arrival without a step
    assert descents.take(two, 0, -2.0) == len(body)
    assert theta.tolist() == [-1] * 10 + [0] * 10
    for rest, at in ((body[:-8], 0), (body, 4), (body, -8), (body, len(body)), (np.zeros(4, "i4"), 0)):
        assert descents.take(rest, at, 1.0) == at
    arguments[-1][0] = arguments[-1][0][0], np.ones((2, 1))  # codewords of another type
    assert descents.take(body, 0, 1.0) == 0
    assert theta.tolist() == [-1] * 10 + [0] * 10


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((0, 0, 0), np.zeros(21, "f4"), "no longer than their blocks"),
        ((0, 0, 0), np.zeros((4, 5), "f4"), "vectors of one type"),
        ((0, 0, 2), np.zeros(8, "u1"), "not as many"),
        ((0, 0, 2), np.zeros(24, "u1"), "must lie in the entry"),
        ((0, 0, 3), quantise.KINDS["float32"], "format of codes"),
        ((0, 0, 4), 3, "not as many"),
        ((1,), [], "must have shapes"),
        ((2,), np.zeros(8, "f4"), "array of bytes"),
        ((3,), 99, "no room for codewords"),
    ],
)
def test_logs_that_do_not_fit_are_refused(place, value, message):
    arguments, _ = log()
    if len(place) == 1:
        arguments[place[0]] = value
    else:
        arguments[0][0] = tuple(
            value if number == place[2] else old for number, old in enumerate(arguments[0][0])
        )
    with pytest.raises(ValueError, match=message):
        Descents(*arguments)
