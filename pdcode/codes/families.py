"""The simple families: uncoded, repetition, pairs, random. Functions return sparse rows."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from . import keyed


def _weight_is(family: str, weight: int, only: int) -> None:
    if weight != only:
        raise InputError(f"weight = {weight}: the {family} code has weight {only}")


def uncoded(rows: int, blocks: int, weight: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row i is block i mod k, for any n; blocks = 1 is the whole gradient from everyone."""
    _weight_is("uncoded", weight, 1)
    return np.arange(rows)[:, None] % blocks, np.ones((rows, 1))


def repetition(rows: int, blocks: int, weight: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each block n/k times, row i being block i mod k; n is a multiple of k."""
    _weight_is("repetition", weight, 1)
    if rows % blocks:
        below = rows // blocks * blocks
        nearest = f"{below} or {below + blocks}" if below else f"{blocks}"
        raise InputError(
            f"workers = {rows}: repetition needs a multiple of {blocks} blocks; nearest: {nearest}"
        )
    return uncoded(rows, blocks, weight, seed)


def pairs(rows: int, blocks: int, weight: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ring of signed pairs: row i is (e_a + s_a e_b) / √2 with a = i mod k, b = a + 1 mod k.

    Every other lap of the ring has the signs -s_a. One lap has determinant (1 - Π(-s_a)) / √2^k, so it has
    full rank exactly if an odd number of the s_a are +1 (the signed cycle is unbalanced). The signs are
    random but for the last, which sees to that. Hence n ≥ k rows have rank k, and any 2k from a multiple of k
    are tight.
    """
    _weight_is("pairs", weight, 2)
    if blocks < 2:
        raise InputError(f"blocks = {blocks}: pairs need at least 2 blocks")
    if rows < blocks:
        raise InputError(f"workers = {rows}: pairs need a row a block for full rank; nearest: {blocks}")
    ring = keyed.signs(seed, keyed.SIGNS, 0, (blocks,))
    if np.count_nonzero(ring > 0) % 2 == 0:
        ring[-1] = -ring[-1]
    lap, first = np.divmod(np.arange(rows), blocks)
    second = np.where(lap % 2, -ring[first], ring[first])
    indices = np.stack([first, (first + 1) % blocks], axis=1)
    return indices, np.stack([np.ones(rows), second], axis=1) / np.sqrt(2.0)


def random(rows: int, blocks: int, weight: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each row has w distinct random blocks with entries ±1/√w (sparse Rademacher), keyed by the seed.

    Supports are drawn by Floyd's algorithm (Bentley and Floyd, "A sample of brilliance", CACM 1987), all rows
    at once.
    """
    draws = keyed.uniforms(seed, keyed.SUPPORTS, 0, (weight, rows))
    indices = np.empty((rows, weight), np.int64)
    for t in range(weight):
        last = blocks - weight + t
        pick = (draws[t] * (last + 1)).astype(np.int64)
        taken = (indices[:, :t] == pick[:, None]).any(axis=1)
        indices[:, t] = np.where(taken, last, pick)
    return indices, keyed.signs(seed, keyed.SIGNS, 0, (rows, weight)) / np.sqrt(weight)
