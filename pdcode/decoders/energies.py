"""Block energies and noise, estimated from the payloads of earlier updates."""

import numpy as np

from ..util.stateful import Stateful

FLOOR = 1e-9  # lower bound on noise and block energies, as a fraction of the mean block energy
STEPS = 20  # EM steps at the first update; one at each later update


def expectation_maximisation(
    codewords: np.ndarray, payloads: np.ndarray, energies: np.ndarray, noise: float
) -> tuple[np.ndarray, float]:
    """Make one EM step for y = Gd + ε, d ~ N(0, diag(energies)), ε ~ N(0, noise·I), column by column.

    The codewords G are (q, k), the payloads y (q, c): sampled elements; tens of them suffice. The likelihood
    of the payloads never falls (Dempster, Laird and Rubin, JRSS B 1977). Blocks that occur in no payload keep
    their energies. The energies, mean squares of the blocks' elements, and the noise variance must be
    positive.
    """
    coded = codewords * energies
    gram = coded @ codewords.T + noise * np.eye(len(codewords))
    solved = np.linalg.solve(gram, np.concatenate([coded, payloads], axis=1))
    gain, weighted = solved[:, : len(energies)], solved[:, len(energies) :]
    estimate = coded.T @ weighted
    variance = energies - (coded * gain).sum(axis=0)
    better = np.square(estimate).mean(axis=1) + np.maximum(variance, 0)
    # The residual y - Gĝ is noise·K⁻¹y; its posterior covariance has the trace of noise·(I - noise·K⁻¹).
    spread = (gain * codewords).sum()
    return better, float(
        (noise**2 * np.square(weighted).sum(axis=0).mean() + noise * spread) / len(codewords)
    )


class EmEstimate(Stateful):
    """Running estimate, with exponential decay, of block energies and payload noise.

    Energies or noise that are given are known, and stay; otherwise the `energies` are 1 and the `noise` is 0
    before the first update. `decay`, from 0 to below 1, is the weight of the old estimate after an update.
    """

    state_names = ("energies", "noise", "updates")

    def __init__(
        self, blocks: int, decay: float, noise: float | None = None, energies: np.ndarray | None = None
    ) -> None:
        self.decay = decay
        self._known = energies is not None, noise is not None
        self.energies = np.ones(blocks) if energies is None else energies
        self.noise = 0.0 if noise is None else noise
        self.updates = 0

    def update(self, codewords: np.ndarray, payloads: np.ndarray) -> None:
        """Update the estimates from an update's codecodewords (q, k) and sampled payload elements (q, c)."""
        power = np.square(codewords).sum()
        level = np.square(payloads).mean(axis=1).sum() / power if power else 0.0
        if not level > 0:
            return  # all payloads are zero
        floor = FLOOR * level
        if self.updates == 0:
            start = np.where(self._known[0], self.energies, level)
            first = start, self.noise if self._known[1] else 0.1 * level
            new = self._em_steps(codewords, payloads, *first, floor, STEPS)
            weight = 1.0
        else:
            new = self._em_steps(codewords, payloads, self.energies, self.noise, floor, 1)
            weight = 1 - self.decay
        if not self._known[0]:
            self.energies = np.maximum((1 - weight) * self.energies + weight * new[0], floor)
        if not self._known[1]:
            self.noise = (1 - weight) * self.noise + weight * new[1]
        self.updates += 1

    def _em_steps(
        self,
        codewords: np.ndarray,
        payloads: np.ndarray,
        energies: np.ndarray,
        noise: float,
        floor: float,
        count: int,
    ) -> tuple[np.ndarray, float]:
        for _ in range(count):
            new = expectation_maximisation(
                codewords, payloads, np.maximum(energies, floor), max(noise, floor)
            )
            energies = energies if self._known[0] else new[0]
            noise = noise if self._known[1] else new[1]
        return energies, noise
