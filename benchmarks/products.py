"""Benchmarks of compute-bound kernels against numpy and scipy on the same data."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial

import numpy as np

from pdcode import codes, decoders
from pdcode.kernels import encode, factor, philox, sparse
from pdcode.problems.layers import DenseLayer
from pdcode.transport.units import Blocks

from .material import F4, Case, K, W, array, codeword, csr, plan
from .timing import ratio, time_in_turn

BATCH, WIDTH = 256, 1024  # sizes of the coded derivative
INPUTS, ENTRIES, UNITS = 1 << 15, 64, 64  # sizes of a sparse layer, as for text
NUMBERS = 1 << 16
MANY = 64  # blocks for least squares


def multiplying() -> Iterator[Case]:
    """Yield cases of sparse products against scipy's on prebuilt matrices: batched, transposed, combined.

    csr_outer writes rows as long as a row of A; scipy's product writes the transpose.
    """
    from scipy.sparse import csr_array

    x, (indices, values) = csr(8 * BATCH, INPUTS, ENTRIES), codeword()
    batch = np.random.default_rng(3).integers(len(x), size=BATCH)
    mine, part = (x.indptr, x.columns, x.data, batch), x[batch]
    theirs = csr_array((part.data, part.columns, part.indptr), part.shape)
    amount, size = 2e-9 * BATCH * ENTRIES * UNITS, INPUTS // K

    weights, delta, scores = array(INPUTS, UNITS), array(BATCH, UNITS), np.empty((BATCH, UNITS), F4)
    work = plan(sparse.csr_forward, *mine, weights, scores)
    yield checked(Case("csr_forward", amount, work, lambda: theirs @ weights), scores)

    outer, transposed = np.empty((UNITS, INPUTS), F4), theirs.T.tocsr()
    work = plan(sparse.csr_outer, *mine, delta, outer)
    yield checked(Case("csr_outer", amount, work, lambda: transposed @ delta), outer.T)

    words, coded = np.zeros((1, K), F4), np.empty((size, UNITS), F4)
    words[0, indices[0]] = values[0]
    combined = sum(words[0, j] * transposed[j * size : (j + 1) * size] for j in indices[0])
    work = plan(sparse.csr_coded, *mine, delta, words, size, coded)
    amount *= combined.nnz / theirs.nnz
    yield checked(Case("csr_coded", amount, work, lambda: combined @ delta), coded)


def checked(case: Case, result: np.ndarray) -> Case:
    """Return the case, after checking that both methods give the same result."""
    case.work()
    np.testing.assert_allclose(result, np.asarray(case.limit()), rtol=1e-4, atol=1e-4)
    return case


def drawing() -> Iterator[Case]:
    """Yield cases of random numbers against numpy's Philox."""
    bits, whole, real = np.random.Philox(key=[1, 2]), np.empty(NUMBERS, np.int64), np.empty(NUMBERS)
    work = partial(philox.integers, 1, 2, 3, 4, 1000, whole)
    yield Case("philox integers (numpy: raw)", 1e-6 * NUMBERS, work, partial(bits.random_raw, NUMBERS))
    work = partial(philox.uniforms, 1, 2, 3, 4, real)
    limit = partial(np.random.Generator(bits).random, out=np.empty(NUMBERS))
    yield Case("philox uniforms", 1e-6 * NUMBERS, work, limit)


def derivative() -> None:
    """Measure a layer's coded derivative against a GEMM of the reduced shape, and the full gradient."""
    words = codeword()
    blocks = Blocks(layer=0, axis="output", count=K, rows=WIDTH, width=WIDTH + 1, offset=0)
    inputs, errors, reduced = array(BATCH, WIDTH + 1), array(BATCH, WIDTH), array(BATCH, WIDTH // K)
    layer = DenseLayer(blocks, inputs)
    payload, product = (np.empty((blocks.size, blocks.width), F4) for _ in range(2))
    layer.attach(errors, 1, payload)
    full, combined = np.empty((blocks.rows, blocks.width), F4), np.empty((1, blocks.elements), F4)
    combine = plan(encode.encode, full.reshape(1, -1), *words, blocks.elements, combined)

    def through_the_gradient() -> None:
        np.matmul(errors.T, inputs, out=full)
        combine()

    coded_work = partial(layer.coded, *words)
    gemm_work = partial(np.matmul, reduced.T, inputs, out=product)
    coded, gemm, whole = time_in_turn([coded_work, gemm_work, through_the_gradient])
    error = float(np.abs(payload.ravel() - combined.ravel()).max() / np.abs(combined).max())
    work = 2e-9 * BATCH * blocks.length / K
    print(
        f"\nCoded derivative, layer {WIDTH} × {WIDTH} with bias, B = {BATCH}, k = {K}, w = {W}; "
        f"the methods agree to {error:.0e}"
    )
    for name, times, remark in (
        ("encode, then GEMM of 1/k the size", coded, ""),
        ("numpy GEMM of the reduced shape", gemm, f"the coded one reaches {100 * ratio(gemm, coded):.0f} %"),
        ("full gradient, then combine", whole, f"the coded one is {ratio(whole, coded):.1f}× faster"),
    ):
        middle_s = statistics.median(times)
        rate = "" if times is whole else f"{work / middle_s:6.1f} GFLOP/s"
        print(f"{name:40}{1e6 * middle_s:7.0f} µs {rate:17}{remark}".rstrip())


def solution() -> None:
    """Measure least squares: the factorisation against numpy's pseudoinverse, and all against a GEMM."""
    elements = 1 << 16
    code = codes.design("net", workers=MANY, blocks=MANY, weight=W)
    decoder = decoders.create("least_squares", blocks=MANY, block_shape=(elements,), dtype="float32")
    values, factors = np.ascontiguousarray(code.values, F4), factor.Factorisation(MANY, MANY)
    words = [(code.indices[row : row + 1], values[row : row + 1]) for row in range(MANY)]
    payloads, coefficients = array(MANY, 1, elements), array(MANY, MANY)
    result = np.empty((MANY, elements), F4)

    def add() -> None:
        factors.reset()
        for row in code.matrix:
            factors.add(row)

    def solve() -> None:
        decoder.reset()
        for pair, payload in zip(words, payloads, strict=True):
            decoder.add_sparse(*pair, payload)
        decoder.solve()

    adding, anew = time_in_turn([add, partial(np.linalg.pinv, code.matrix)])
    print(
        f"\nFactorisation, k = {MANY}: {1e6 * statistics.median(adding) / MANY:.1f} µs an add; numpy's "
        f"pseudoinverse of all {MANY} codewords anew {1e6 * statistics.median(anew):.0f} µs"
    )
    mine, gemm = time_in_turn([solve, partial(np.matmul, coefficients, payloads[:, 0], out=result)])
    print(
        f"Least squares, k = {MANY}, blocks of {elements}: {MANY} arrivals and the gradient "
        f"{1e3 * statistics.median(mine):.1f} ms, its GEMM alone {1e3 * statistics.median(gemm):.1f} ms: "
        f"{100 * ratio(gemm, mine):.0f} % of it reached"
    )
