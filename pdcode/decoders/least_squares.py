"""The least-squares decoder: the minimum-norm solution over all arrivals."""

from typing import ClassVar

import numpy as np

from ..config import DecoderTable
from .base import Decoder
from .linear import LinearDecoder


class LeastSquaresDecoder(LinearDecoder):
    """Least-squares decoder: ĝ = G⁺ y, exact for every prefix of the arrivals, of any rank.

    A complete orthogonal factorisation of the codewords is updated with each codeword, O(k·q) in float64;
    payloads are read once, when the gradient is needed. `captured` is rank/k. Codewords may be zero, repeated
    or of any norm; codewords of larger norm have more weight where payloads contradict each other.
    """

    def coefficients(self) -> np.ndarray:
        inverse: np.ndarray = self._factors.pseudoinverse()
        return inverse.T


class LeastSquaresTable(DecoderTable, tag="least_squares"):
    """The minimum-norm least-squares solution over all arrivals."""

    makes: ClassVar[type[Decoder]] = LeastSquaresDecoder
