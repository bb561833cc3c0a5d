"""Keyed randomness of codes: signs and permutations as functions of (seed, purpose, epoch)."""

import numpy as np

from ..kernels import philox
from ..util.rng import CODE

SIGNS, SUPPORTS, PERMUTATION = 0, 1, 2
"""Purposes of draws; they take the worker's place in the counter."""


def uniforms(seed: int, purpose: int, epoch: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw numbers in [0, 1), float64, of the given shape."""
    out = np.empty(shape, np.float64)
    philox.uniforms(seed, CODE, purpose, epoch, out.reshape(-1))
    return out


def signs(seed: int, purpose: int, epoch: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draw fair signs -1.0 and 1.0, float64, of the given shape."""
    return np.copysign(1.0, uniforms(seed, purpose, epoch, shape) - 0.5)


def signed_permutation(seed: int, epoch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a permutation of ``range(size)`` (int32) and a sign for each element (float64)."""
    draws = uniforms(seed, PERMUTATION, epoch, (2, size))
    return draws[0].argsort(kind="stable").astype(np.int32), np.copysign(1.0, draws[1] - 0.5)
