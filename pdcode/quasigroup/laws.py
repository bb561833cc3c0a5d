"""Laws of symbols of Z_m, and their entropies."""

import math

import numpy as np

Law = np.ndarray
"""Probabilities of 0 … m - 1, shape (m,), or of several laws, shape (…, m)."""


def entropy(law: np.ndarray) -> np.ndarray:
    """Return the entropy of a law, or of each of several, in bits."""
    return -(law * np.log2(np.where(law > 1e-15, law, 1))).sum(axis=-1)


def conditional_entropy(law: Law, divisor: int) -> np.ndarray:
    """Return H(X | X modulo `divisor`) in bits; the divisor divides m."""
    return entropy(law) - entropy(modulo(law, divisor))


def modulo(law: Law, divisor: int) -> Law:
    """Return the law of X modulo a divisor of m."""
    return law.reshape(*law.shape[:-1], -1, divisor).sum(axis=-2)


def sum_law(first: Law, second: Law) -> Law:
    """Return the law of the sum modulo m of two independent symbols."""
    product = np.fft.fft(first) * np.fft.fft(second)
    return np.clip(np.fft.ifft(product).real, 0, 1)


def rounded_normal(deviation: float, modulus: int) -> Law:
    """Return the law of a rounded normal number modulo m."""
    half = modulus * (1 + math.ceil(8 * deviation / modulus))
    ends = [math.erf((number - 0.5) / (math.sqrt(2) * deviation)) for number in range(-half, half + 1)]
    return np.diff(ends).reshape(-1, modulus).sum(axis=0) / 2


def log_likelihoods(received: np.ndarray, noise: Law) -> np.ndarray:
    """Return log P(received | c sent) over a channel that adds noise, for c = 0 … m - 1.

    Parameters
    ----------
    received : ndarray of int, shape (…)
    noise : ndarray, shape (m,)

    Returns
    -------
    ndarray of float32, shape (…, m)
        At least -100.
    """
    modulus = len(noise)
    numbers = np.arange(modulus)
    table = np.log(np.maximum(noise, 1e-43))[(numbers[:, None] - numbers) % modulus]
    return np.asarray(table, np.float32)[received]
