"""Errors and erasures of Reed–Solomon codes modulo 2³¹ - 1, as `galois` corrects them."""

import galois
import numpy as np

from pdcode.encoded.field_code import PRIMES, FieldCode, product

PYTHON = "python-calculate"  # to compile its decoder takes galois nine seconds
COUNT, DIMENSION = 21, 9


def test_random_words() -> None:
    """To galois erasures are errors, so there are half as many of both as ours could correct."""
    theirs = galois.ReedSolomon(COUNT, DIMENSION, field=galois.GF(PRIMES[31], compile=PYTHON))
    generator, random = int(theirs.alpha), np.random.default_rng(3)
    points = [pow(generator, COUNT - 1 - place, PRIMES[31]) for place in range(COUNT)]
    code = FieldCode(points, DIMENSION, PRIMES[31])
    sent = np.array(theirs.encode(theirs.field.Random((300, DIMENSION), seed=1)))
    received, left = sent.copy(), []
    for word in received:
        damaged = random.choice(COUNT, random.integers(0, 7), replace=False)
        erased = damaged[: random.integers(0, len(damaged) + 1)]
        word[damaged] = random.integers(0, PRIMES[31], len(damaged))
        left.append(np.setdiff1d(np.arange(COUNT), erased))
    messages = np.array(theirs.decode(theirs.field(received)))
    for word, rows, message, whole in zip(received, left, messages, sent, strict=True):
        symbols = word[rows].astype(np.uint64)[:, None]
        wrong = code.locate(rows, symbols, (len(rows) - DIMENSION) // 2)
        assert wrong == np.flatnonzero(word[rows] != whole[rows]).tolist()
        right = np.delete(rows, wrong)[:DIMENSION]
        found = product(
            code.combination(right, code.points), word[right].astype(np.uint64)[:, None], PRIMES[31]
        )
        assert found[:DIMENSION, 0].tolist() == message.tolist()
