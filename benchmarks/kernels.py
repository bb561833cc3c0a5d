"""Benchmarks of kernels against their limits: copy bandwidth, or numpy and scipy.

A kernel limited by memory moves a number of bytes: it reads each element once, writes each result once, and
reads a result first if it accumulates. It is compared with numpy's copy of half as many bytes, which moves
the same number. Both are timed in turn; the fraction is the median over the rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from math import inf

import numpy as np

from pdcode import codes
from pdcode.bench.machine import processor
from pdcode.kernels import (
    activation,
    combine,
    decode,
    encode,
    field,
    finite,
    fold,
    loss,
    optimize,
    order,
    proximal,
    quantise,
    selection,
)
from pdcode.schemes.common.assignments import group_by_support

from . import products
from .material import F4, Case, K, W, array, codeword, plan
from .timing import Work, ratio, time_in_turn

LARGE = 1 << 22  # elements of a block larger than most caches: 16 MiB
WIDE = 1 << 24  # elements of a payload, which is read once: 64 MiB
KEYS = 1, 2, 3, 4  # keys of rounding
SAMPLES, CLASSES = 1 << 20, 16  # sizes for activations and losses


def copy_case(name: str, moved: int, work: Work) -> Case:
    """Make a case of a kernel that moves `moved` bytes, against a copy."""
    source = np.ones(moved // 8, F4)
    return Case(name, 1e-9 * moved, work, partial(np.copyto, np.empty_like(source), source))


def encoding() -> Iterator[Case]:
    """Yield cases of encoding factors larger than cache: cut evenly, and with a short last block."""
    indices, values = codeword()
    for rows, columns, remark in (4096, 8192, ""), (1 << 15, 1025, ", by input"):
        size = -(-columns // K)
        small = np.empty((rows, size), F4)
        read = sum(min(size, columns - int(j) * size) for j in indices[0])
        work = plan(encode.encode, array(rows, columns), indices, values, size, small)
        yield copy_case(
            f"encode, factor {rows} × {columns}{remark}", F4.itemsize * rows * (read + size), work
        )


def decoding() -> Iterator[Case]:
    """Yield cases of decoding and error feedback on blocks larger than cache."""
    words, blocks, payload, gradient = codeword(), array(K * LARGE), array(1, LARGE), array(K * LARGE)
    moved = payload.nbytes * (1 + 2 * W)
    yield copy_case("adjoint decode", moved, plan(decode.adjoint_decode, blocks, *words, payload, 1e-3))
    yield copy_case("tracking decode", moved, plan(decode.tracking_decode, blocks, *words, payload, 0.5))
    work = plan(encode.feedback_encode, blocks, gradient, *words, LARGE, payload)
    yield copy_case("error feedback and encode", payload.nbytes * (3 * K + 1), work)
    # Reading alone is half of a copy's traffic.
    yield copy_case("look for NaN and infinity", blocks.nbytes, plan(finite.all_finite, blocks))


def ordering() -> Iterator[Case]:
    """Yield cases of the median of payloads, element by element, together larger than cache."""
    for count in 5, 15:
        payloads, out = array(count, LARGE), np.empty(LARGE, F4)
        addresses = np.empty(count, np.uint64)
        combine.locate(payloads, addresses, 0)
        work = plan(order.middle_mean, addresses, count // 2, count // 2 + 1, out, array(count, order.TILE))
        yield copy_case(f"median of {count} payloads", payloads.nbytes + out.nbytes, work)


def counting() -> Iterator[Case]:
    """Yield cases of products modulo a prime with data larger than cache: of a worker, and of encoding."""
    rows, columns = 1 << 14, 512
    data = np.random.default_rng(1).integers(0, 2**31 - 1, (rows, columns), np.uint64)
    left = data.reshape(1, -1)[:, :rows]
    for bits in 31, 61:
        prime, right = (1 << bits) - 1, data[:1]
        # Reading alone is half of a copy's traffic.
        work = plan(field.product_transposed, data, right, prime, np.empty((rows, 1), np.uint64))
        yield copy_case(f"X θ modulo 2^{bits} - 1", data.nbytes, work)
        work = plan(field.product, left, data, prime, np.empty((1, columns), np.uint64))
        yield copy_case(f"Xᵀ r modulo 2^{bits} - 1", data.nbytes, work)


def selecting() -> Iterator[Case]:
    """Yield cases of finding the largest elements of a vector, or of chunks, and of packing their indices."""
    vector = array(WIDE)
    for chunk, most, remark in (WIDE, WIDE // 100, "hundredth"), (4096, 64, "64 of each 4096"):
        out, room = np.empty(WIDE // chunk * most, np.int32), 4 * most + chunk // 64 + 256
        scratch = np.empty(room, F4), np.empty(room, np.int32)
        work = plan(selection.largest, vector, chunk, most, out, *scratch)
        yield copy_case(f"find the largest {remark}", vector.nbytes, work)
    packed = np.empty(selection.size(WIDE, 12), np.uint8)
    numbers = np.random.default_rng(1).integers(0, 4096, WIDE, np.int32)
    moved = numbers.nbytes + packed.nbytes
    yield copy_case("pack indices in 12 bits", moved, plan(selection.pack, numbers, 12, packed))
    yield copy_case("unpack them", moved, plan(selection.unpack, packed, 12, numbers))


def rounding() -> Iterator[Case]:
    """Yield cases of rounding payloads larger than cache to each wire format and back."""
    payload, decoded = array(WIDE), array(WIDE)
    for name, kind in quantise.KINDS.items():
        if kind <= quantise.KINDS["float32"]:  # no rounding
            continue
        wire = np.empty(quantise.size(kind, 1, WIDE), np.uint8)
        moved = payload.nbytes + wire.nbytes
        work = plan(quantise.encode, kind, payload, wire, 1, *KEYS)
        yield copy_case(f"round to {name}", moved, work)
        yield copy_case(f"read {name}", moved, plan(quantise.decode, kind, wire, decoded, 1))


def folding() -> Iterator[Case]:
    """Yield cases of a message of the 784-256-10 net, in cache: by one fused kernel, and by separate ones.

    A hidden unit is a block; r = 32 of k = 256 codewords of weight 4. All have the traffic of the fused
    kernel.
    """
    k, rows, block = 256, 32, 785
    code = codes.design("net", workers=k, blocks=k, weight=W)
    orders = group_by_support(code.indices, k, rows)[:rows], np.arange(rows)
    words = [(code.indices[order].astype(np.int32), code.values[order].astype(F4)) for order in orders]
    sets, apart = words  # the four codewords of a set of blocks, and one of each set
    theta, memory, gradient, payload = (
        array(k * block),
        array(k * block),
        array(k * block),
        array(rows, block),
    )
    accumulator, lost, flat = np.zeros_like(theta), np.empty_like(payload), payload.reshape(-1)
    for name in "int2", "int8":
        kind = quantise.KINDS[name]
        wire = np.empty(quantise.size(kind, rows, block), np.uint8)
        quantise.encode(kind, flat, wire, rows, *KEYS)
        for pair, remark in (sets, "sets"), (apart, "no sets"):
            touched = np.unique(pair[0])
            moved = wire.nbytes + 2 * payload.nbytes * len(touched) // rows
            work = chained(
                plan(quantise.decode, kind, wire, flat, rows),
                plan(decode.adjoint_decode, accumulator, *pair, payload, 1.0),
                plan(optimize.sgd_blocks, theta, accumulator, touched, block, 1e-9),
            )
            yield timed_case(f"step by {name}, {remark}, 3 kernels", moved, work)
            work = plan(fold.decode, theta, *pair, block, kind, wire, 1e-9)
            yield timed_case(f"step by {name}, {remark}, fold", moved, work)
        moved = wire.nbytes + 3 * theta.nbytes
        work = chained(
            plan(encode.feedback_encode, memory, gradient, *sets, block, payload),
            partial(np.copyto, lost, payload),
            plan(quantise.encode, kind, flat, wire, rows, *KEYS, 0, flat),
            partial(np.subtract, lost, payload, out=lost),
            plan(decode.adjoint_decode, memory, *sets, lost, 1.0),
        )
        yield timed_case(f"feedback to {name}, 5 kernels", moved, work)
        work = plan(fold.encode, memory, gradient, *sets, block, kind, wire, payload, *KEYS)
        yield timed_case(f"feedback to {name}, fold", moved, work)


def timed_case(name: str, moved: int, work: Work) -> Case:
    """Make a case whose name has the time of a call."""
    return copy_case(f"{name}: {1e6 * statistics.median(time_in_turn([work])[0]):.1f} µs", moved, work)


def chained(*works: Work) -> Work:
    """Return one call of several works."""

    def call() -> None:
        for work in works:
            work()

    return call


def stepping() -> Iterator[Case]:
    """Yield cases of optimizer steps on models larger than cache."""
    theta, first, second, gradient = (np.abs(array(K * LARGE)) for _ in range(4))
    work = plan(optimize.sgd_step, theta, first, gradient, 1e-9, 1e-3, 0.9, 1.0, 0.0, 1.0, False)
    yield copy_case("sgd with momentum", 5 * theta.nbytes, work)
    work = plan(optimize.sgd_blocks, theta, gradient, codeword()[0][0], LARGE, 1e-9)
    yield copy_case(f"sgd on {W} of {K} blocks", 4 * theta.nbytes * W // K, work)
    work = plan(optimize.adam_step, theta, first, second, gradient, 1e-9, 1e-3, 0.9, 0.999, 1e-8, 10, False)
    yield copy_case("adam", 7 * theta.nbytes, work)
    rows = theta.reshape(K, -1)[:, :-1]  # without biases
    work = plan(proximal.shrink, rows, 1e-9, 1.0, -inf, inf)
    yield copy_case("proximal operator of l1", 2 * rows.nbytes, work)


def activating() -> Iterator[Case]:
    """Yield cases of activations on batches larger than cache."""
    scores, out = array(SAMPLES, CLASSES), array(SAMPLES, CLASSES)
    for name, kind in activation.KINDS.items():
        forward = plan(activation.forward, kind, scores, out)
        yield copy_case(f"{name}, forward", 2 * scores.nbytes, forward)
        backward = plan(activation.backward, kind, scores, out, np.ones_like(out))
        yield copy_case(f"{name}, backward", 4 * scores.nbytes, backward)


def losing() -> Iterator[Case]:
    """Yield cases of losses and errors in one pass, on batches larger than cache."""
    scores, out, labels = array(SAMPLES, CLASSES), array(SAMPLES, CLASSES), np.zeros(SAMPLES, np.int32)
    softmax = plan(loss.softmax_loss, scores, labels, out, 1.0)
    yield copy_case(f"softmax loss, {CLASSES} classes", 2 * scores.nbytes + labels.nbytes, softmax)
    columns, labels = (scores.reshape(-1, 1), out.reshape(-1, 1)), np.zeros(scores.size, np.int32)
    logistic = plan(loss.logistic_loss, columns[0], labels, columns[1], 1.0)
    yield copy_case("logistic loss", 2 * scores.nbytes + labels.nbytes, logistic)
    squared = plan(loss.squared_loss, scores, np.ones_like(scores), out, 1.0)
    yield copy_case("squared loss", 3 * scores.nbytes, squared)
    poisson = plan(loss.poisson_loss, scores, np.ones_like(scores), out, 1.0)
    yield copy_case("Poisson loss", 3 * scores.nbytes, poisson)


def run() -> int:
    """Measure, and print the tables."""
    print("One thread, float32; the median of rounds in turn. " + processor())
    groups = (
        *(encoding, decoding, ordering, counting, folding),
        *(selecting, rounding, stepping, activating, losing),
    )
    table("copy", "GB/s", chain.from_iterable(group() for group in groups))
    table("scipy", "GFLOP/s", products.multiplying())
    table("numpy", "million/s", products.drawing())
    products.derivative()
    products.solution()
    return 0


def table(limit: str, unit: str, cases: Iterable[Case]) -> None:
    """Print a line per case: speed, limit, and their ratio."""
    print(f"\n{'kernel':40}{unit:>11}{f'{limit} {unit}':>17}{f'share of {limit}':>16}")
    for case in cases:
        mine, bound = time_in_turn([case.work, case.limit])
        speed, most = (case.amount / statistics.median(times) for times in (mine, bound))
        print(f"{case.name:40}{speed:11.1f}{most:17.1f}{100 * ratio(bound, mine):14.0f} %", flush=True)
