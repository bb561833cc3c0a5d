"""Messages: sizes, sections that do not overlap, and what is written is what is read."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.kernels import quantise
from pdcode.transport.layout import (
    CHECK,
    HEADER,
    RETURNED,
    ROUND_SHIFT,
    STOP,
    Agreement,
    Layout,
    buffer,
    buffer_sizes,
    ensure_sendable,
)
from pdcode.transport.messages import Order, Reply, Task, control_message
from pdcode.transport.units import ALIGNMENT, Blocks
from pdcode.util.errors import InputError

LAYERS = [
    Blocks(0, "output", 8, 61, 33, 0),
    Blocks(1, "input", 4, 62, 10, 2013),
    Blocks(2, "output", 1, 3, 11, 2633),
    Blocks(3, "input", 8, 16, 5, 2666),
]
SIZE = 2746
ERRORS = {"bfloat16": 0.03, "int8": 0.05, "int4": 0.5, "qsgd": 0.9, "int2": 3, "sign": 4}  # of normal numbers
DTYPES = ["float32", "float64"]
WIRES = {"float64": list(quantise.KINDS), "float32": list(quantise.KINDS)[1:]}
FORMATS = [(dtype, wire) for dtype in DTYPES for wire in WIRES[dtype]]
MIXED = ["int2", "float32", "int8", "sign"]
FORMATS += [(dtype, MIXED) for dtype in DTYPES]


def layout(dtype: str = "float32", rows: int = 3, **options: object) -> Layout:
    return Layout(LAYERS, [rows, rows, 1, rows], [4, 2, 1, 4], np.dtype(dtype), **options)


def words(made: Layout, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Unit codewords for each layer, all of them different."""
    random, pairs = np.random.default_rng(seed), []
    for layer, r, w in zip(made.units, made.rows, made.weights, strict=True):
        values = random.normal(size=(r, w))
        values = np.ones((1, 1)) if layer.uncoded else values / np.linalg.norm(values, axis=1, keepdims=True)
        indices = np.stack([random.permutation(layer.count)[:w] for _ in range(r)])
        pairs.append((indices.astype(np.int32), values.astype(made.dtype)))
    return pairs


@pytest.mark.parametrize(("dtype", "wire"), FORMATS)
@pytest.mark.parametrize("chosen", [False, True])
def test_sections_do_not_overlap_and_payloads_start_on_cache_lines(dtype, wire, chosen):
    made = layout(dtype, wire=wire, agreement=Agreement(chosen))
    message = buffer(made.reply_bytes)[0]
    reply = Reply(made, message)
    assert [view.shape for view in reply.payloads] == [(3, 8 * 33), (3, 16 * 10), (1, 33), (3, 2 * 5)]
    for number, view in enumerate(reply.payloads):
        view.fill(number + 1)
        assert view.ctypes.data % ALIGNMENT == 0
    assert all((view == number + 1).all() for number, view in enumerate(reply.payloads))
    if chosen:
        reply.write_codewords(words(made))
    assert reply.quantise(1, 2, 3)
    assert not message[: HEADER.size].any()
    ends = [(HEADER.size, HEADER.size + (made.codeword_bytes if chosen else 0))]
    ends += [(part.offset, part.offset + part.bytes) for part in made.fields]
    for (_, end), (at, _) in pairwise(ends):
        assert end <= at
        assert at % 8 == 0
    assert ends[-1][1] <= made.reply_bytes == len(reply.body) + HEADER.size


@pytest.mark.parametrize(("dtype", "wire"), FORMATS)
@pytest.mark.parametrize("chosen", [False, True])
def test_both_ends_have_the_same_rounded_payload(dtype, wire, chosen):
    made = layout(dtype, wire=wire, agreement=Agreement(chosen))
    sent, received = (Reply(made, buffer(made.reply_bytes)[0]) for _ in range(2))
    sent.payload[:] = np.random.default_rng(4).normal(size=sent.payload.shape)
    before = sent.payload.copy()
    if chosen:
        sent.write_codewords(words(made, 5))
    assert sent.quantise(1, 2, 3)
    received.body[:] = sent.body
    assert received.read()
    for mine, theirs, view, name in zip(
        sent.payloads, received.payloads, made.offsets, made.wires, strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
        exact = before[view : view + mine.size].reshape(mine.shape)
        np.testing.assert_allclose(mine, exact, atol=ERRORS.get(name, 4e-3))
    if chosen:
        for mine, theirs, (indices, values) in zip(
            sent.codewords, received.codewords, words(made, 5), strict=True
        ):
            np.testing.assert_array_equal(mine[0], theirs[0])
            np.testing.assert_array_equal(mine[1], theirs[1])
            np.testing.assert_array_equal(theirs[0], indices)
            np.testing.assert_allclose(theirs[1], values, atol=0.01)


@pytest.mark.parametrize(("dtype", "wire"), FORMATS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_payload_that_is_not_finite_is_detected_at_both_ends(dtype, wire, bad):
    made = layout(dtype, wire=wire)
    for layer in range(4):
        sent, received = (Reply(made, buffer(made.reply_bytes)[0]) for _ in range(2))
        sent.payload.fill(1)
        sent.payloads[layer][-1, -1] = bad
        assert not sent.quantise(1, 2, 3)
        received.body[:] = sent.body
        assert not received.read()


def test_the_messages_of_a_reply_are_rounded_by_random_numbers_of_their_own() -> None:
    made = layout(wire="int8", messages=2)
    first, second = Reply(made, buffer(made.buffer_bytes)[0]).parts
    for part in (first, second):
        part.payload[:] = np.random.default_rng(4).normal(size=part.payload.shape)
        assert part.quantise(1, 2, 3)
    for one, other in zip(first.payloads, second.payloads, strict=True):
        assert (one != other).any()


def test_each_unit_has_the_bytes_of_its_format() -> None:
    """By hand: 3 rows of 264 elements at 2 bits and 2 scales, 3 · 160 float32, 33 bytes and a scale, 3 · 10
    signs and a scale a row; to multiples of 8."""
    made = layout(wire=MIXED)
    assert [part.bytes for part in made.fields] == [3 * (8 + 66) + 2, 4 * 480, 4 + 33 + 3, 3 * (4 + 2) + 6]
    assert not made.exact
    assert layout(wire=["float32"] * 4).exact
    with pytest.raises(InputError, match=r"wire\.dtype: .* has 2 entries, but there are 4 layers"):
        layout(wire=["int2", "int8"])


def test_codewords_of_blocks_that_do_not_exist_are_detected() -> None:
    made = layout(agreement=Agreement(worker_selected=True))
    reply = Reply(made, buffer(made.reply_bytes)[0])
    reply.write_codewords(words(made))
    assert reply.read()
    reply.body[: made.codeword_bytes] = 255
    assert not reply.read()


@given(dtype=st.sampled_from(DTYPES), rows=st.integers(1, 4), apart=st.booleans(), seed=st.integers(0, 99))
def test_a_worker_reads_the_task_that_rank_0_wrote(dtype: str, rows: int, apart: bool, seed: int) -> None:
    made = layout(dtype, rows, agreement=Agreement(separate=apart))
    message = buffer(made.task_bytes)[0]
    order, task = Task([made], message), Task([made], message.copy())
    given, theta = words(made, seed), np.random.default_rng(seed).normal(size=SIZE).astype(dtype)
    if not apart:
        given[3] = given[0]  # equally many blocks
    parts = [theta.view(np.uint8)[:1000], theta.view(np.uint8)[1000:]]
    size = order.write(7, 2**31, 3, Order(2**40, given, parts, CHECK, -5), RETURNED)
    assert size == made.task_bytes
    task.message[:] = message
    task.read()
    assert (task.task, task.version, task.row, task.flags, task.digest) == (2**31, 3, 2**40, 10, -5)
    np.testing.assert_array_equal(task.body.view(dtype), theta)
    for (indices, values), expected in zip(task.codewords[:2], given[:2], strict=True):
        np.testing.assert_array_equal(indices, expected[0])
        np.testing.assert_array_equal(values, expected[1])
    np.testing.assert_array_equal(task.codewords[3][0], given[3][0])
    np.testing.assert_array_equal(task.codewords[3][1], given[3][1])
    assert [array.tolist() for array in task.codewords[2]] == [[[0]], [[1]]]


def test_each_round_of_an_update_has_messages_of_its_own() -> None:
    rounds = [
        layout(),
        Layout([Blocks(0, "output", 1, 3, 5, 0)], [1], [1], np.dtype("float32"), body_bytes=40),
    ]
    message = buffer(buffer_sizes(rounds)[0])[0]
    order, task = Task(rounds, message), Task(rounds, message)
    for number, made in enumerate(rounds):
        body = np.arange(made.task_bytes - made.body_offset).astype(np.uint8)
        given = words(made) if number == 0 else ()
        size = order.write(7, 1, 3, Order(0, given, [body], CHECK, round=number), RETURNED)
        task.read()
        assert (size, task.round, task.flags) == (made.task_bytes, number, RETURNED | CHECK)
        np.testing.assert_array_equal(task.body, body)
        assert len(task.codewords) == len(made.units)
        reply = Reply(made, buffer(made.reply_bytes)[0])
        reply.write_header(7, task, 10, 20, 30, 40, 0.5)
        assert HEADER.unpack_from(reply.header)[:4] == (7, number << ROUND_SHIFT, made.payload_bytes, 1)


def test_layers_with_equally_many_blocks_share_their_codewords_in_a_task_unless_they_differ() -> None:
    assert layout().codeword_sections == [0, 1, -1, 0]
    for agreement in (Agreement(separate=True), Agreement(worker_selected=True)):
        made = layout(agreement=agreement)
        assert made.codeword_sections == [0, 1, -1, 2]
        assert made.codeword_bytes > layout(agreement=agreement._replace(separate=False)).codeword_bytes - 1
    assert layout(agreement=Agreement(separate=True)).codeword_bytes > layout().codeword_bytes


def test_a_task_has_the_length_of_its_body_and_the_last_one_only_a_header() -> None:
    made = layout()
    order = Task([made], buffer(made.task_bytes)[0])
    for length in (0, 16, 800, 16):
        body = np.arange(length, dtype=np.uint8)
        parts = [body[: length // 2], body[length // 2 :]]
        assert order.write(0, 1, 2, Order(3, words(made), parts), 0) == made.body_offset + length
        order.read()
        np.testing.assert_array_equal(order.body, body)
    order.message.fill(255)
    order.message[: HEADER.size] = control_message(1, STOP)
    order.read()
    assert order.flags & STOP
    assert len(order.body) == 0


def test_codewords_are_in_the_task_or_in_the_reply() -> None:
    given, chosen = layout(), layout(agreement=Agreement(worker_selected=True))
    assert chosen.task_bytes < given.task_bytes
    assert chosen.reply_bytes > given.reply_bytes
    assert given.task_bytes >= HEADER.size + given.codeword_bytes + 4 * SIZE


def test_a_payload_is_a_kth_of_the_gradient_and_padding() -> None:
    made = Layout([Blocks(0, "output", 16, 1000, 100, 0)], [1], [4], np.dtype("float32"))
    assert made.gradient_bytes == 400_000
    assert made.payload_bytes == 63 * 100 * 4 + 16  # 62.5 rows, rounded up to rows and to 64 bytes
    assert made.reply_bytes == made.payload_bytes + HEADER.size == made.payload_bytes + 64


def test_int8_payloads_take_a_quarter_of_the_bytes() -> None:
    layer = Blocks(0, "output", 256, 256, 785, 0)  # one hidden unit of 784 inputs a block
    sizes = [
        Layout([layer], [32], [4], np.dtype("float32"), wire).payload_bytes for wire in ("float32", "int8")
    ]
    assert sizes[0] >= 3.9 * sizes[1]


def test_messages_that_mpi_cannot_count_are_refused() -> None:
    layer = Blocks(0, "output", 16, 20_000, 30_000, 0)
    layout = Layout([layer], [1], [4], np.dtype("float32"))
    with pytest.raises(InputError, match=r"^problem\.kind: a task of 2\.40 GB is more than MPI's 2 GiB a m"):
        ensure_sendable("problem.kind", layout.task_bytes, layout.reply_bytes)
    for task, reply, said in ((2**31 - 1, 5, "a task of 2.15 GB"), (7, 3 * 10**9, "a reply of 3.00 GB")):
        with pytest.raises(InputError, match=said):
            ensure_sendable("problem.kind", task, reply)
    ensure_sendable("problem.kind", 2**31 - 2, 2**31 - 2)


def test_buffers_start_at_cache_lines() -> None:
    rows = buffer(100, 5)
    assert rows.shape == (5, 128)
    assert rows.ctypes.data % ALIGNMENT == 0
    assert not rows.any()
