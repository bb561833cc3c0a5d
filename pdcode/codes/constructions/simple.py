"""The simple families: uncoded, repetition, pairs, random."""

import numpy as np

from ...util.errors import InputError, expected
from ...util.memory import ensure_fits
from .. import keyed
from ..family import Family, Size

ENTRIES = ("rademacher", "gaussian")


def uncoded(rows: int, blocks: int, weight: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make rows of one block: row i is block i mod k. With k = 1 every worker sends the full gradient."""
    return np.arange(rows)[:, None] % blocks, np.ones((rows, 1))


def pairs(rows: int, blocks: int, weight: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make a ring of signed pairs: row i is (e_a + s_a e_b) / √2 with a = i mod k, b = a + 1 mod k.

    Every other lap of the ring has the signs -s_a. One lap has determinant (1 - Π(-s_a)) / √2^k, so it has
    full rank exactly if an odd number of the s_a are +1 (the signed cycle is unbalanced). All signs are
    random but the last, which is chosen to make it odd. Hence n ≥ k rows have rank k, and any 2k rows from a
    multiple of k are tight.
    """
    ring = keyed.signs(seed, keyed.SIGNS, 0, (blocks,))
    if np.count_nonzero(ring > 0) % 2 == 0:
        ring[-1] = -ring[-1]
    lap, first = np.divmod(np.arange(rows), blocks)
    second = np.where(lap % 2, -ring[first], ring[first])
    indices = np.stack([first, (first + 1) % blocks], axis=1)
    return indices, np.stack([np.ones(rows), second], axis=1) / np.sqrt(2.0)


def _even_supports(rows: int, blocks: int, weight: int, seed: int) -> np.ndarray:
    """Draw supports in which all blocks occur equally often (± 1): a row takes the least used blocks."""
    ensure_fits("balanced = true", f"a balanced code of {rows} rows over {blocks} blocks", 16 * rows * blocks)
    indices, used = np.empty((rows, weight), np.int64), np.zeros(blocks)
    ties = keyed.uniforms(seed, keyed.SUPPORTS, 0, (rows, blocks))
    for row, tie in zip(indices, ties, strict=True):
        row[:] = np.argsort(used + tie)[:weight]
        used[row] += 1
    return indices


def random(
    rows: int, blocks: int, weight: int, seed: int, entries: str = "rademacher", balanced: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows of w distinct blocks, keyed by the seed.

    Supports are drawn by Floyd's algorithm (Bentley and Floyd, "A sample of brilliance", CACM 1987), for all
    rows at once. The entries are ±1/√w (``rademacher``), or normal (Box and Muller 1958) and then scaled to
    norm 1 (``gaussian``). In a balanced code all blocks occur equally often (± 1), which repairs the rank at
    low weight.
    """
    if entries not in ENTRIES:
        raise InputError(f"entries: {expected(entries, ENTRIES)}")
    if not isinstance(balanced, bool):
        raise InputError(f"balanced = {balanced!r}: neither true nor false")
    if balanced:
        indices = _even_supports(rows, blocks, weight, seed)
    else:
        indices = np.empty((rows, weight), np.int64)
        draws = keyed.uniforms(seed, keyed.SUPPORTS, 0, (weight, rows))
        for t in range(weight):
            last = blocks - weight + t
            pick = (draws[t] * (last + 1)).astype(np.int64)
            taken = (indices[:, :t] == pick[:, None]).any(axis=1)
            indices[:, t] = np.where(taken, last, pick)
    if entries == "rademacher":
        return indices, keyed.signs(seed, keyed.SIGNS, 0, (rows, weight)) / np.sqrt(weight)
    radius, angle = keyed.uniforms(seed, keyed.SIGNS, 1, (2, rows, weight))
    values = np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    if not norms.all():  # a row drawn as exactly 0 has no direction
        values[~norms[:, 0].astype(bool), 0] = norms[norms == 0] = 1.0
    return indices, values / norms


def repeated_coherence(rows: int, blocks: int, weight: int) -> float:
    """Return the coherence: 1 as soon as a block is repeated."""
    return float(rows > blocks)


def pairs_coherence(rows: int, blocks: int, weight: int) -> float:
    """Return the coherence: ½ of neighbours on the ring, and 1 from the third lap on."""
    if rows > 2 * blocks or (blocks == 2 and rows > 2):
        return 1.0
    return 0.5 if blocks > 2 else 0.0


UNCODED = Family(
    "uncoded",
    "a block a row, in turn",
    uncoded,
    lambda blocks, weight: [Size(1)],
    coherence=repeated_coherence,
)
REPETITION = Family(
    "repetition",
    "each block in n/k rows",
    uncoded,
    lambda blocks, weight: [Size(1, least=blocks, step=blocks)],
    coherence=repeated_coherence,
)
PAIRS = Family(
    "pairs",
    "signed pairs of neighbours on a ring of blocks",
    pairs,
    lambda blocks, weight: [Size(2, least=blocks)] if blocks > 1 else [],
    period=lambda blocks: 2 * blocks,
    coherence=pairs_coherence,
)
RANDOM = Family(
    "random",
    "random supports with signs or Gaussian entries, any weight",
    random,
    lambda blocks, weight: [Size(weight or min(4, blocks))] if (weight or 1) <= blocks else [],
    options=frozenset({"entries", "balanced"}),
    period=lambda blocks: 1,
    tight=False,
)
