"""The MMSE decoder: the linear estimate of least mean square error."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from ..config import DecoderTable, NonNegative
from ..kernels import mmse
from ..util.errors import InputError
from .base import Decoder, finite_float, positive_int
from .covariances import covariance_of, root_of, variance_of
from .energies import EmEstimate
from .linear import LinearDecoder


class MmseDecoder(LinearDecoder):
    """MMSE decoder: ĝ = ΣGᵀ(GΣGᵀ + σ²I)⁻¹ y, for blocks of covariance Σ and payload noise of variance σ².

    No linear estimate has a smaller mean square error, for any distribution with these moments (Gauss and
    Markov). σ² = 0 is the limit: the gradient of least ĝᵀΣ⁻¹ĝ among those that fit the payloads; with Σ = I
    that is least squares. An arrival costs O(k·(k + q)) in float64: the covariance is updated in square-root
    form.

    `covariance` is Σ, or its diagonal: mean squares of the elements of the blocks; `noise` is σ², in the same
    unit. If Σ or σ² is not given, it is estimated from the payloads of earlier updates: one EM step at each
    `reset`, on `sample` elements of each payload, for block energies (a diagonal Σ) and σ²; the old estimate
    has the weight `decay`. Until the first `reset` the decoder is least squares. σ² is identifiable only if
    arrivals are redundant or supports overlap. `energies` and `noise` are the diagonal of Σ and σ² of this
    update.
    """

    options = (*LinearDecoder.options, "covariance", "noise", "decay", "sample")
    state_names = (*LinearDecoder.state_names, "_estimate", "_updates", "_room")

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
        if not 0 <= finite_float("decoder.decay", decay) < 1:
            raise InputError(f"decoder.decay = {decay}: not from 0 to below 1")
        try:
            prior = None if covariance is None else covariance_of(covariance, self.blocks)
            variance = None if noise is None else variance_of(noise)
        except InputError as error:
            raise InputError(f"decoder.{error}") from None
        self.sample = min(positive_int("decoder.sample", sample), self.elements)
        self._learns = prior is None or variance is None
        self._estimate = EmEstimate(
            self.blocks, float(decay), variance, None if prior is None else np.diagonal(prior).copy()
        )
        self._root: np.ndarray | None = None  # square root of a given covariance
        if prior is not None:
            root = root_of(prior)
            self._root = np.diagonal(root).copy() if not (root - np.diag(np.diagonal(root))).any() else root
        self._updates = 0
        self._room = common.get("capacity") or 2 * self.blocks
        self._posterior = self._prior()

    def _prior(self) -> mmse.Posterior:
        """Return the prior of the next update."""
        self.energies, self.noise = self._estimate.energies, self._estimate.noise
        root = np.sqrt(self.energies) if self._root is None else self._root
        return mmse.Posterior(self.blocks, self._room, root, self.noise)

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        super().add_sparse(indices, values, payload)
        self._posterior.add_sparse(indices, values)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._posterior = self._prior()
        for indices, values in self._codewords:
            self._posterior.add_sparse(indices, values)

    def coefficients(self) -> np.ndarray:
        gain: np.ndarray = self._posterior.gain()
        return gain.T

    @property
    def captured(self) -> float:
        """Captured fraction of the gradient's energy: 1 - tr(P)/tr(Σ), P the posterior covariance."""
        total, remaining = self._posterior.total, self._posterior.remaining
        return min(1.0, max(0.0, 1 - remaining / total)) if total > 0 else 1.0

    def reset(self) -> None:
        """Update the estimates from this update's payloads, release the payloads and begin a new update."""
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


class MmseTable(DecoderTable, tag="mmse"):
    """The linear estimate of least mean square error."""

    makes: ClassVar[type[Decoder]] = MmseDecoder
    adapts: ClassVar[bool] = True

    noise: NonNegative | None = None  #: noise variance σ² per element of a payload; none: estimated
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.9  #: weight of the old block energies after an update
