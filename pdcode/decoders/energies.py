"""Block energies and noise, estimated from the payloads of earlier updates."""

from __future__ import annotations

import numpy as np

FLOOR = 1e-9  # lower bound on noise and block energies, as a fraction of the mean block energy
STEPS = 20  # EM steps at the first update; one at each later update


def expectation_maximisation(
    words: np.ndarray, payloads: np.ndarray, energies: np.ndarray, noise: float
) -> tuple[np.ndarray, float]:
    """Make one EM step for y = Gd + ε, d ~ N(0, diag(energies)), ε ~ N(0, noise·I), column by column.

    The likelihood of the payloads never falls (Dempster, Laird and Rubin, JRSS B 1977). Blocks that occur in
    no payload keep their energies.

    Parameters
    ----------
    words : ndarray, shape (q, k)
        Codewords G.
    payloads : ndarray, shape (q, c)
        Sampled elements of each payload; tens of columns suffice.
    energies : ndarray, shape (k,)
        Mean square of an element of each block, positive.
    noise : float
        Noise variance per element of a payload, positive.

    Returns
    -------
    energies : ndarray, shape (k,)
    noise : float
    """
    coded = words * energies
    gram = coded @ words.T + noise * np.eye(len(words))
    solved = np.linalg.solve(gram, np.concatenate([coded, payloads], axis=1))
    gain, weighted = solved[:, : len(energies)], solved[:, len(energies) :]
    estimate = coded.T @ weighted
    variance = energies - (coded * gain).sum(axis=0)
    better = np.square(estimate).mean(axis=1) + np.maximum(variance, 0)
    # The residual y - Gĝ is noise·K⁻¹y; its posterior covariance has the trace of noise·(I - noise·K⁻¹).
    spread = (gain * words).sum()
    return better, float((noise**2 * np.square(weighted).sum(axis=0).mean() + noise * spread) / len(words))


class EmEstimate:
    """Running estimate, with exponential decay, of block energies and payload noise.

    Parameters
    ----------
    blocks : int
        Number of blocks k.
    decay : float
        Weight of the old estimate after an update, from 0 to below 1.
    noise : float, optional
        Noise variance, if known; otherwise estimated.
    energies : ndarray, shape (k,), optional
        Energies, if known; otherwise estimated.

    Attributes
    ----------
    energies : ndarray, shape (k,)
        Current energies; all 1 before the first update.
    noise : float
        Current noise variance; 0 before the first update, unless known.
    """

    def __init__(
        self, blocks: int, decay: float, noise: float | None = None, energies: np.ndarray | None = None
    ) -> None:
        self.decay = decay
        self._known = energies is not None, noise is not None
        self.energies = np.ones(blocks) if energies is None else energies
        self.noise = 0.0 if noise is None else noise
        self.updates = 0

    def update(self, words: np.ndarray, payloads: np.ndarray) -> None:
        """Update the estimates from an update's codewords (q, k) and sampled payload elements (q, c)."""
        power = np.square(words).sum()
        level = np.square(payloads).mean(axis=1).sum() / power if power else 0.0
        if not level > 0:
            return  # nothing but zeros arrived
        floor = FLOOR * level
        if self.updates == 0:
            start = np.where(self._known[0], self.energies, level)
            first = start, self.noise if self._known[1] else 0.1 * level
            new = self._steps(words, payloads, *first, floor, STEPS)
            share = 1.0
        else:
            new = self._steps(words, payloads, self.energies, self.noise, floor, 1)
            share = 1 - self.decay
        if not self._known[0]:
            self.energies = np.maximum((1 - share) * self.energies + share * new[0], floor)
        if not self._known[1]:
            self.noise = (1 - share) * self.noise + share * new[1]
        self.updates += 1

    def _steps(
        self,
        words: np.ndarray,
        payloads: np.ndarray,
        energies: np.ndarray,
        noise: float,
        floor: float,
        count: int,
    ) -> tuple[np.ndarray, float]:
        for _ in range(count):
            new = expectation_maximisation(words, payloads, np.maximum(energies, floor), max(noise, floor))
            energies = energies if self._known[0] else new[0]
            noise = noise if self._known[1] else new[1]
        return energies, noise
