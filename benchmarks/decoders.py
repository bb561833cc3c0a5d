"""Benchmarks of decoders: cost of an arrival, and cost of the gradient relative to its limit."""

from __future__ import annotations

import statistics
from functools import partial

import numpy as np

from pdcode import codes, decoders
from pdcode.bench.machine import processor
from pdcode.decoders import Decoder
from pdcode.decoders.payloads import threads

from .material import F4, array
from .timing import Work, ratio, time_in_turn

SIZES = ((16, 4, 1 << 16), (64, 4, 1 << 12), (64, 4, 1 << 16), (256, 4, 1 << 12))  # k, w, elements of a block
KINDS = ("least_squares", "mmse", "residual", "peeling", "tracking", "adjoint")
MANY, LARGE = 64, 1_000_000  # blocks and their elements, for least squares against its GEMM
FOLDING = ((8, 1, 1 << 22), (64, 1, 1 << 18), (256, 16, 1 << 12), (256, 16, 785))  # k, r, elements


class Arrivals:
    """Codewords of a net and payloads, each payload in its own memory, as if received."""

    def __init__(self, k: int, w: int, elements: int, rows: int = 1, single: bool = False) -> None:
        code = codes.design("net", workers=k, blocks=k, weight=w)
        values = np.ascontiguousarray(code.values, F4)
        self.codewords = [(code.indices[i : i + rows], values[i : i + rows]) for i in range(0, k, rows)]
        if single:  # peeling starts from codewords of one block
            self.codewords[0] = np.zeros((rows, w), np.int32), np.eye(rows, w, dtype=F4)
        matrix = np.zeros((len(self.codewords), k), F4)
        for row, (indices, weights) in zip(matrix, self.codewords, strict=True):
            np.add.at(row, indices[0], weights[0])
        truth = array(k, elements)
        self.payloads = [np.ascontiguousarray(row @ truth).reshape(1, -1).repeat(rows, 0) for row in matrix]
        self.pairs = list(zip(self.codewords, self.payloads, strict=True))

    def fold(self, decoder: Decoder) -> None:
        """Add the arrivals of an update."""
        decoder.reset()
        for (indices, values), payload in self.pairs:
            decoder.add_sparse(indices, values, payload)

    def decode(self, decoder: Decoder) -> None:
        """Decode an update: all arrivals and the gradient."""
        self.fold(decoder)
        decoder.solve()


def make(kind: str, k: int, elements: int) -> Decoder:
    """Make a decoder; mmse has block energies and noise."""
    options = {"covariance": 1 / np.arange(1.0, k + 1), "noise": 0.01} if kind == "mmse" else {}
    return decoders.create(kind, k, (elements,), F4, **options)


def time_arrivals() -> None:
    """Measure `add_sparse`, in µs."""
    print("\nAn arrival (one codeword), mean over an update of k arrivals, µs")
    print(f"{'k':>5}{'w':>4}{'block':>8}" + "".join(f"{kind:>15}" for kind in KINDS))
    for k, w, elements in SIZES:
        arrivals = Arrivals(k, w, elements, single=True)
        works: list[Work] = [partial(arrivals.fold, make(kind, k, elements)) for kind in KINDS]
        cells = (f"{1e6 * statistics.median(times) / k:15.1f}" for times in time_in_turn(works, 5))
        print(f"{k:5}{w:4}{elements:8}" + "".join(cells), flush=True)


def time_gradients() -> None:
    """Measure k arrivals and the gradient against numpy's GEMM of this shape, with payloads in one matrix."""
    print(
        f"\nThe gradient, k = {MANY}, {MANY} arrivals, blocks of {LARGE}: {MANY} × {MANY} × {LARGE}; "
        f"{threads()} thread(s)"
    )
    print(f"{'decoder':40}{'ms':>8}{'GFLOP/s':>10}{'GEMM ms':>10}{'of the GEMM':>13}")
    arrivals = Arrivals(MANY, 4, LARGE)
    matrix, together = array(MANY, MANY), np.concatenate(arrivals.payloads)
    result = np.empty((MANY, LARGE), F4)
    gemm = partial(np.matmul, matrix, together, out=result)
    for kind in ("least_squares", "mmse", "residual"):
        decoder = make(kind, MANY, LARGE)
        report(f"{kind}, arrivals and solve", partial(arrivals.decode, decoder), gemm)
    decoder = make("least_squares", MANY, LARGE)
    out = np.empty_like(result)

    def gradient() -> None:
        arrivals.fold(decoder)
        decoder.gradient(out)

    report("least_squares, arrivals and gradient", gradient, gemm)
    robust = make("residual", MANY, LARGE)

    def redundant() -> None:
        arrivals.fold(robust)
        for (indices, values), payload in arrivals.pairs[:4]:  # duplicates are checks too
            robust.add_sparse(indices, values, payload)
        robust.solve()

    report("residual, with 4 redundant arrivals", redundant, gemm)


def report(name: str, work: Work, gemm: Work) -> None:
    """Print a line with time, speed and fraction of the GEMM's speed."""
    mine, limit = time_in_turn([work, gemm], 7)
    middle = statistics.median(mine)
    print(
        f"{name:40}{1e3 * middle:8.1f}{2e-9 * MANY * MANY * LARGE / middle:10.1f}"
        f"{1e3 * statistics.median(limit):10.1f}{100 * ratio(limit, mine):11.0f} %",
        flush=True,
    )


def time_copies() -> None:
    """Measure tracking and adjoint against numpy's copy of the same number of bytes."""
    print("\nAdding a payload, w = 4, against numpy's copy that moves the same number of bytes")
    print(f"{'decoder':12}{'k':>5}{'r':>4}{'block':>9}{'GB/s':>8}{'copy GB/s':>11}{'of copy':>9}")
    for k, rows, elements in FOLDING:
        arrivals = Arrivals(k, 4, elements, rows)
        (indices, values), payload = arrivals.pairs[0]
        moved = payload.nbytes * (1 + 2 * 4)
        source = np.ones(moved // 8, F4)
        copy = partial(np.copyto, np.empty_like(source), source)
        for kind in ("tracking", "adjoint"):
            decoder = make(kind, k, elements)
            mine, limit = time_in_turn([partial(add_again, decoder, indices, values, payload), copy], 7)
            speeds = (1e-9 * moved / statistics.median(times) for times in (mine, limit))
            print(
                f"{kind:12}{k:5}{rows:4}{elements:9}{next(speeds):8.1f}{next(speeds):11.1f}"
                f"{100 * ratio(limit, mine):7.0f} %",
                flush=True,
            )


def add_again(decoder: Decoder, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
    """Add the same arrival once more."""
    decoder.add_sparse(indices, values, payload)
    if decoder.touched is not None:
        decoder.touched.clear()


def run() -> int:
    """Measure, and print the tables."""
    print("float32; the median of rounds in turn. " + processor())
    time_arrivals()
    time_gradients()
    time_copies()
    return 0
