"""Base of decoders that only add g_i ⊗ y_i to their accumulator."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..kernels import decode
from .base import Decoder


class AddingDecoder(Decoder):
    """Decoder whose accumulator is Σ g_i ⊗ y_i over arrivals: O(w·e) for each codeword.

    If all decoders of a state have the capability `only_adds`, an arrival is added to all of them in one call
    (`kernels.decode.Accumulators`). `target` is a view of the accumulator without padding.
    """

    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {**Decoder.covers, "only_adds": ("add_sparse", "added")}
    only_adds: ClassVar[bool] = True

    def __init__(self, *shape: Any, **common: Any) -> None:
        super().__init__(*shape, **common)
        self.target = self.accumulator[: self.length]

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        decode.adjoint_decode(self.target, indices, values, payload, 1.0)
        self.added(indices)

    def added(self, indices: np.ndarray) -> None:
        """Record codewords, with indices (r, w), whose payloads have been added to the accumulator."""
        if self.touched is not None:
            self.touched.append(indices)
        self.count += len(indices)
