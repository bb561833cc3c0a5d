"""Look-ahead: a worker computes its gradient at θ less a share of the step that its memory would make.

Where steps are linear in the gradients, that step is the learning rate times the residual. Steps along signs
or orthogonalised momenta have a length of their own: the step is then along the residual of each layer's
weights, and of its biases, and as long as a step of rank 0, if all of the vector to send is residual.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ..kernels import optimize
from ..transport.units import Blocks

Lengths = tuple[float | None, float | None]
"""Lengths of steps of a layer's weights and biases at learning rate 1; None: the gradient's length."""


class LookAhead:
    """Point at which a worker computes its gradient.

    Parameters
    ----------
    share : float
        Share of a step, times the learning rate.
    factor : callable
        The factor on the learning rate at a version of θ.
    size : int
        Elements of θ.
    dtype : dtype
    layers : sequence of Blocks
    lengths : sequence of pairs of float or None
        Lengths of a step of each layer.

    Attributes
    ----------
    vector : callable
        The vector of θ's size that a residual stands for; by default itself.
    """

    def __init__(
        self,
        share: float,
        factor: Callable[[int], float],
        size: int,
        dtype: np.dtype,
        layers: Sequence[Blocks] = (),
        lengths: Sequence[Lengths] = (),
    ) -> None:
        self.share, self._factor, self._point = share, factor, np.zeros(size, dtype)
        self.vector: Callable[[np.ndarray], np.ndarray] = lambda residual: residual
        self._layers: list[tuple[Blocks, Lengths]] = []
        if any(pair != (None, None) for pair in lengths):
            self._layers = list(zip(layers, lengths, strict=True))

    def point(
        self, theta: np.ndarray, residual: np.ndarray, version: int, whole: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the point, shape (size,), for a task at a version of θ; the same array every time.

        `whole` is the vector along which rank 0 would step if it had all of it; by default the residual.
        """
        share, point, residual = self.share * self._factor(version), self._point, self.vector(residual)
        if not self._layers:
            optimize.look_ahead(point, theta, residual, share)
            return point
        for layer, lengths in self._layers:
            for part, length in zip((layer.unbiased, layer.biases), lengths, strict=True):
                scale = share
                if length is not None:
                    norm = float(np.linalg.norm(part(residual if whole is None else whole)))
                    scale *= length / norm if norm else 0.0
                np.multiply(part(residual), -scale, out=part(point))
        return np.add(point, theta, out=point)
