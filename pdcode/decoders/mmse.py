"""The mmse decoder: the linear estimate with least mean square error."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from ..codes.quality.information import covariance_of, root_of, variance_of
from ..config.tables import DecoderTable as Table
from ..config.tables import NonNegative
from ..kernels import mmse
from ..util.errors import InputError
from .base import Decoder, count_of, number_of
from .energies import Energies
from .linear import Linear


class Mmse(Linear):
    """ĝ = ΣGᵀ(GΣGᵀ + σ²I)⁻¹ y, for blocks of covariance Σ and payloads with noise of variance σ².

    No linear estimate has a smaller mean square error, for any distribution with these moments (Gauss and
    Markov). For σ² = 0 it is the limit: of all gradients that fit the payloads the one of least ĝᵀΣ⁻¹ĝ; with
    Σ = I that is least squares. An arrival costs O(k·(k + q)) in float64: the covariance is updated in
    square-root form.

    What is not given of Σ and σ² is estimated from the payloads of earlier updates, by a step of EM at each
    `reset` on samples of the payloads: block energies (a diagonal Σ) and σ². Until the first `reset` it is
    least squares. σ² can be told from the energies only as far as arrivals are redundant or supports overlap.

    Parameters
    ----------
    blocks, block_shape, dtype, length, copy, capacity
        As for `Linear`.
    covariance : array_like, shape (k,) or (k, k), optional
        Energies of an element of each block, or their covariance Σ.
    noise : float, optional
        σ²: the noise of an element of a payload, in the same unit.
    decay : float
        Share of the old estimate that an update leaves.
    sample : int
        Elements of each payload from which an update is learnt.

    Attributes
    ----------
    energies : ndarray, shape (k,)
        Diagonal of Σ, as it is used for this update.
    noise : float
        σ², as it is used for this update.
    """

    options = (*Linear.options, "covariance", "noise", "decay", "sample")

    def __init__(
        self,
        *shape: Any,
        covariance: Any = None,
        noise: float | None = None,
        decay: float = 0.9,
        sample: int = 512,
        **common: Any,
    ) -> None:
        super().__init__(*shape, **common)
        if not 0 <= number_of("decoder.decay", decay) < 1:
            raise InputError(f"decoder.decay = {decay}: not from 0 to below 1")
        try:
            known = None if covariance is None else covariance_of(covariance, self.blocks)
            variance = None if noise is None else variance_of(noise)
        except InputError as error:
            raise InputError(f"decoder.{error}") from None
        self.sample = min(count_of("decoder.sample", sample), self.elements)
        self._learns = known is None or variance is None
        self._estimate = Energies(
            self.blocks, float(decay), variance, None if known is None else np.diagonal(known).copy()
        )
        self._root: np.ndarray | None = None  # of a covariance that is given
        if known is not None:
            root = root_of(known)
            self._root = np.diagonal(root).copy() if not (root - np.diag(np.diagonal(root))).any() else root
        self._updates = 0
        self._room = common.get("capacity") or 2 * self.blocks
        self._posterior = self._prior()

    def _prior(self) -> mmse.Posterior:
        """The state of knowledge before an update."""
        self.energies, self.noise = self._estimate.energies, self._estimate.noise
        root = np.sqrt(self.energies) if self._root is None else self._root
        return mmse.Posterior(self.blocks, self._room, root, self.noise)

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        super().add_sparse(indices, values, payload)
        self._posterior.add_sparse(indices, values)

    def coefficients(self) -> np.ndarray:
        gain: np.ndarray = self._posterior.gain()
        return gain.T

    @property
    def captured(self) -> float:
        """Share of the gradient's energy that is captured, 1 - tr(P)/tr(Σ), P the posterior covariance."""
        total, remaining = self._posterior.total, self._posterior.remaining
        return min(1.0, max(0.0, 1 - remaining / total)) if total > 0 else 1.0

    def reset(self) -> None:
        """Begin a new update, having learnt from this one; references to payloads are given up."""
        if self._learns and self.count:
            step = self.elements // self.sample
            columns = np.arange(self.sample) * step + self._updates % step
            self._estimate.update(self._factors.codewords, self._received.sample(columns))
            self._updates += 1
            self._room = max(self._room, self.count)
            self._posterior = self._prior()
        else:
            self._posterior.reset()
        super().reset()


class MmseTable(Table, tag="mmse"):
    """The linear estimate with least mean square error."""

    makes: ClassVar[type[Decoder]] = Mmse
    adapts: ClassVar[bool] = True

    noise: NonNegative | None = None  # σ², of an element of a payload; none: estimated
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.9  # of what is remembered of the blocks' energies
