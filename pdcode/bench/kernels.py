"""Each kernel beside its limit: copy bandwidth for what moves data, numpy's GEMM for what computes.

A kernel that moves so many bytes (each touched element read once, each result written once, and read first
where it is added to) is compared with numpy's copy of half as many, which also moves that many. Both are
timed in turn; the share is the median over the rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from .. import codes, decoders
from ..kernels import activation, decode, encode, loss, optimize, specialise
from ..problems.layers import DenseLayer
from ..problems.partition import Blocks
from .timing import Work, in_turn, processor, ratio

F4 = np.dtype("float32")
K, W = 8, 4
BATCH, WIDTH = 256, 1024  # of the coded derivative
LARGE = 1 << 22  # elements of a block that no cache holds: 16 MiB
SAMPLES, CLASSES = 1 << 20, 16  # of activations and losses


class Case(NamedTuple):
    """A kernel, how many bytes it moves, and its work."""

    name: str
    moved: int
    work: Work


def codeword() -> tuple[np.ndarray, np.ndarray]:
    """One of weight 4 over 8 blocks."""
    indices, values = codes.design("net", workers=K, blocks=K, weight=W).rows(0)
    return np.ascontiguousarray(indices), np.ascontiguousarray(values, F4)


def array(*shape: int) -> np.ndarray:
    """Normal numbers, every page touched."""
    return np.random.default_rng(1).standard_normal(shape, F4)


def plan(kernel: Callable[..., object], *arguments: object) -> Work:
    """The call that is timed."""
    return partial(specialise(kernel, F4), *arguments)


def encoding() -> Iterator[Case]:
    """Factors larger than cache."""
    rows, columns = 4096, 8192
    small = np.empty((rows, columns // K), F4)
    work = plan(encode.encode, array(rows, columns), *codeword(), columns // K, small)
    yield Case(f"encode, factor {rows} × {columns}", small.nbytes * (W + 1), work)


def decoding() -> Iterator[Case]:
    """Blocks larger than cache."""
    words, blocks, payload, gradient = codeword(), array(K * LARGE), array(1, LARGE), array(K * LARGE)
    moved = payload.nbytes * (1 + 2 * W)
    yield Case("adjoint decode", moved, plan(decode.adjoint_decode, blocks, *words, payload, 1e-3))
    yield Case("tracking decode", moved, plan(decode.tracking_decode, blocks, *words, payload, 0.5))
    work = plan(encode.feedback_encode, blocks, gradient, *words, LARGE, payload)
    yield Case("error feedback and encode", payload.nbytes * (3 * K + 1), work)


def stepping() -> Iterator[Case]:
    """Models larger than cache."""
    theta, first, second, gradient = (np.abs(array(K * LARGE)) for _ in range(4))
    work = plan(optimize.sgd_step, theta, first, gradient, 1e-9, 1e-3, 0.9, False)
    yield Case("sgd with momentum", 5 * theta.nbytes, work)
    work = plan(optimize.adam_step, theta, first, second, gradient, 1e-9, 1e-3, 0.9, 0.999, 1e-8, 10, False)
    yield Case("adam", 7 * theta.nbytes, work)


def activating() -> Iterator[Case]:
    """Batches larger than cache."""
    scores, out, labels = array(SAMPLES, CLASSES), array(SAMPLES, CLASSES), np.zeros(SAMPLES, np.int32)
    for name, kind in activation.KINDS.items():
        yield Case(f"{name}, forward", 2 * scores.nbytes, plan(activation.forward, kind, scores, out))
        backward = plan(activation.backward, kind, scores, out, np.ones_like(out))
        yield Case(f"{name}, backward", 4 * scores.nbytes, backward)
    softmax = plan(loss.softmax_loss, scores, labels, out, 1.0)
    yield Case(f"softmax loss and errors, {CLASSES} classes", 2 * scores.nbytes, softmax)


def run() -> int:
    """Print the tables."""
    print("One thread, float32; the median of rounds in turn. " + processor())
    print(f"\n{'kernel':40}{'GB/s':>9}{'copy GB/s':>11}{'share of copy':>15}")
    for cases in (encoding, decoding, stepping, activating):
        for case in cases():
            against_copy(case)
    derivative()
    solution()
    return 0


def against_copy(case: Case) -> None:
    """Print one line."""
    source = np.ones(case.moved // 8, F4)
    mine, copy = in_turn([case.work, partial(np.copyto, np.empty_like(source), source)])
    speed, limit = (case.moved / statistics.median(times) * 1e-9 for times in (mine, copy))
    print(f"{case.name:40}{speed:9.1f}{limit:11.1f}{100 * ratio(copy, mine):13.0f} %", flush=True)


def derivative() -> None:
    """The coded derivative of one layer against a GEMM of the reduced shape and the way through the
    gradient."""
    words = codeword()
    blocks = Blocks(layer=0, axis="output", count=K, rows=WIDTH, width=WIDTH + 1, offset=0)
    inputs, errors, reduced = array(BATCH, WIDTH + 1), array(BATCH, WIDTH), array(BATCH, WIDTH // K)
    layer = DenseLayer(blocks, inputs)
    layer.attach(errors, 1)
    payload, product = (np.empty((blocks.size, blocks.width), F4) for _ in range(2))
    full, combined = np.empty((blocks.rows, blocks.width), F4), np.empty((1, blocks.elements), F4)
    combine = plan(encode.encode, full.reshape(1, -1), *words, blocks.elements, combined)

    def through_the_gradient() -> None:
        np.matmul(errors.T, inputs, out=full)
        combine()

    coded_work = partial(layer.coded, *words, payload)
    gemm_work = partial(np.matmul, reduced.T, inputs, out=product)
    coded, gemm, whole = in_turn([coded_work, gemm_work, through_the_gradient])
    error = float(np.abs(payload.ravel() - combined.ravel()).max() / np.abs(combined).max())
    work = 2e-9 * BATCH * blocks.length / K
    print(
        f"\nCoded derivative, layer {WIDTH} × {WIDTH} with bias, B = {BATCH}, k = {K}, w = {W}; "
        f"the ways agree to {error:.0e}"
    )
    for name, times, remark in (
        ("encode, then GEMM of 1/k the size", coded, ""),
        (
            "numpy GEMM of the reduced shape",
            gemm,
            f"the coded one reaches {100 * ratio(gemm, coded):.0f} %",
        ),
        ("full gradient, then combine", whole, f"the coded one is {ratio(whole, coded):.1f}× faster"),
    ):
        middle_s = statistics.median(times)
        rate = "" if times is whole else f"{work / middle_s:6.1f} GFLOP/s"
        print(f"{name:40}{1e6 * middle_s:7.0f} µs {rate:17}{remark}")


def solution() -> None:
    """Least squares, arrivals and gradient, against a GEMM of its shape."""
    k, elements = 64, 1 << 16
    code = codes.design("net", workers=k, blocks=k, weight=W)
    decoder = decoders.create("least_squares", blocks=k, block_shape=(elements,), dtype="float32")
    values = np.ascontiguousarray(code.values, F4)
    words = [(code.indices[row : row + 1], values[row : row + 1]) for row in range(k)]
    payloads, coefficients, result = array(k, 1, elements), array(k, k), np.empty((k, elements), F4)

    def solve() -> None:
        decoder.reset()
        for pair, payload in zip(words, payloads, strict=True):
            decoder.add_sparse(*pair, payload)
        decoder.solve()

    mine, gemm = in_turn([solve, partial(np.matmul, coefficients, payloads[:, 0], out=result)])
    print(
        f"\nLeast squares, k = {k}, blocks of {elements}: {k} arrivals and the gradient "
        f"{1e3 * statistics.median(mine):.1f} ms, its GEMM alone {1e3 * statistics.median(gemm):.1f} ms: "
        f"{100 * ratio(gemm, mine):.0f} % of it reached"
    )
