"""Energy codes: supports drawn by block energies, and the energies that rank 0 publishes.

Row i contains block i mod k, so that no block is left out, and w-1 more, drawn without replacement with
probability ∝ E_j^a. Its entries are ± E_j^½ over their norm: blocks contribute in proportion to their energy.
With unequal energies the relevant quantity is the joint information ½ ln det(2πe GΣGᵀ), Σ = diag(E), not the
coherence; decode by `mmse` with the same energies.

Trials, k = 32, E_j = j^-2, n = 64, w = 4: with a = ½ 90 % of the energy is captured after .22k random
arrivals and 99 % after .78k; with a = ¾ after .195k and .83k; with a = 1 after .19k and .90k; repetition
needs 1.41k and 1.79k. The default is a = ½; a larger a favours the first arrivals over the last.
"""

import numpy as np
import numpy.typing as npt

from ...util.errors import InputError
from ...util.memory import ensure_fits
from ...util.stateful import Stateful
from .. import keyed
from ..family import Family, Size

MIN_ENERGY = 1e-12  # lower bound on energies, relative to the largest: smaller ones would never be drawn


def _scaled(energies: npt.ArrayLike | None, blocks: int) -> np.ndarray:
    """Check the energies, and scale the largest to 1; float64, shape (k,), all positive."""
    if energies is None:
        return np.ones(blocks)
    try:
        array = np.asarray(energies, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"energies = {energies!r}: must be {blocks} numbers, one a block") from None
    if array.shape != (blocks,):
        raise InputError(f"energies: shape {array.shape}; must be ({blocks},), one energy a block")
    if not (np.isfinite(array) & (array >= 0)).all():
        j = int(np.argmin(np.isfinite(array) & (array >= 0)))
        raise InputError(f"energies[{j}] = {array[j]}: must be finite and not negative; nearest: 0")
    top = array.max()
    return np.maximum(array / top, MIN_ENERGY) if top > 0 else np.ones(blocks)


def energy(
    rows: int,
    blocks: int,
    weight: int,
    seed: int,
    energies: npt.ArrayLike | None = None,
    exponent: float = 0.5,
    epoch: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Make the sparse rows of an energy code; block i mod k comes first in row i.

    The w-1 other blocks are those with the largest ln(u_j) / p_j, u_j uniform (Efraimidis and Spirakis,
    "Weighted random sampling with a reservoir", Information Processing Letters 2006).

    Parameters
    ----------
    energies : array_like, shape (k,), optional
        Energy of each block, in any unit, not negative; by default all equal. They are raised to at least
        1e-12 of the largest.
    exponent : float
        a ≥ 0, see the module; 0 draws uniformly.
    epoch : int
        Key of the draw in addition to the seed: each epoch has other supports and signs.
    """
    if not isinstance(exponent, int | float | np.number):
        raise InputError(f"exponent = {exponent!r}: must be a number; nearest: 0.5")
    if not (np.isfinite(exponent) and exponent >= 0):
        raise InputError(f"exponent = {exponent}: must be finite and not negative; nearest: 0")
    if not isinstance(epoch, int | np.integer) or not 0 <= epoch < 2**63:
        raise InputError(f"epoch = {epoch!r}: not a whole number from 0 to 2^63 - 1; nearest: 0")
    ensure_fits(f"workers = {rows}, blocks = {blocks}", "this code", 64 * rows * blocks)
    scaled = _scaled(energies, blocks)
    own = np.arange(rows) % blocks
    draws = np.log1p(-keyed.uniforms(seed, keyed.SUPPORTS, epoch, (rows, blocks))) / scaled**exponent
    draws[np.arange(rows), own] = np.inf  # 1 - u is in (0, 1]: all others are finite and at most 0
    if weight < blocks:
        indices = np.argpartition(-draws, weight - 1, axis=1)[:, :weight]
    else:
        indices = np.broadcast_to(np.arange(blocks), (rows, blocks))
    order = np.argsort(-np.take_along_axis(draws, indices, axis=1), axis=1, kind="stable")
    indices = np.take_along_axis(indices, order, axis=1)
    values = np.sqrt(scaled[indices]) * keyed.signs(seed, keyed.SIGNS, epoch, (rows, weight))
    return indices, values / np.linalg.norm(values, axis=1, keepdims=True)


ENERGY = Family(
    "energy",
    "one own block, the others drawn by block energies, any weight; decode by mmse",
    energy,
    lambda blocks, weight: [Size(weight or min(4, blocks))] if (weight or 1) <= blocks else [],
    options=frozenset({"energies", "exponent", "epoch"}),
    period=lambda blocks: 1,
    tight=False,
)


class BlockEnergies(Stateful):
    """Running estimate of the block energies, from which rank 0 redraws energy codes.

    Energies are estimated from payloads. Decoded gradients would be biased: a decoder sets blocks without
    arrivals to zero. For uncorrelated blocks ‖y_i‖² = Σ_j g_ij² E_j in the mean. The energies of a payload's
    blocks are corrected by a projection on these equations, damped by 1 - `decay` (Kaczmarz, or Cimmino if
    several rows share a block: the mean of their corrections). `floor` is a lower bound on published
    energies, as a fraction of the mean energy: every block stays in some codewords, and an increase of its
    energy is noticed.
    """

    state_names = ("_energies", "_known")

    def __init__(self, blocks: int, decay: float = 0.9, floor: float = 0.05) -> None:
        if blocks < 1:
            raise InputError(f"blocks = {blocks}: not a positive whole number; nearest: 1")
        if not 0 <= decay < 1:
            raise InputError(f"decay = {decay}: must be at least 0 and less than 1; nearest: 0 or 0.99")
        if not 0 < floor <= 1:
            raise InputError(f"floor = {floor}: must be more than 0 and at most 1; nearest: 0.05 or 1")
        self.decay, self.floor = decay, floor
        self._energies, self._known = np.ones(blocks), False

    @property
    def energies(self) -> np.ndarray:
        """Energies, float64, shape (k,), with mean 1 before the floor; all 1 before the first payload."""
        mean = self._energies.mean()
        if not mean > 0:
            return np.ones(len(self._energies))
        return np.maximum(self._energies / mean, self.floor)

    def update(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        """Update the energies from codewords (r, w), padded with value 0, and their payload (r, …).

        Rows of the payload that are not finite, or whose square overflows, are ignored.
        """
        flat = payload.reshape(len(indices), -1)
        norms = np.einsum("ie,ie->i", flat, flat).astype(np.float64)
        squares = values.astype(np.float64) ** 2
        power = np.einsum("iw,iw->i", squares, squares)
        valid = np.isfinite(norms) & (power > 0)
        if not valid.any():
            return
        index, squares, norms, power = indices[valid], squares[valid], norms[valid], power[valid]
        if not self._known:  # start in the payloads' unit; codewords have unit norm
            self._energies.fill(norms.mean())
            self._known = True
        steps = (norms - (squares * self._energies[index]).sum(axis=1)) / power
        blocks, size = index.ravel(), len(self._energies)
        sums = np.bincount(blocks, (steps[:, None] * squares).ravel(), size)
        counts = np.bincount(blocks, (squares > 0).ravel(), size)
        self._energies += (1 - self.decay) * sums / np.maximum(counts, 1)
        np.maximum(self._energies, 0, out=self._energies)
