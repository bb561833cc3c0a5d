"""Base of decoders that read payloads only when the gradient is asked for."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from .base import Decoder, positive_int
from .payloads import PayloadStore


class Structure(Protocol):
    """State of a decoder's codewords, such as a factorisation."""

    def add_sparse(self, indices: np.ndarray, values: np.ndarray) -> object: ...
    def reset(self) -> None: ...


class DeferredDecoder(Decoder):
    """Decoder that processes only the codewords at an arrival, and the payloads when it solves.

    With `copy`, `add_sparse` copies its arrays; if not, they must stay unchanged until `reset`. `add` always
    copies. `capacity` is the number of codewords between two resets for which memory is allocated in
    advance (default 2k); it grows on demand.
    """

    options = (*Decoder.options, "copy", "capacity")
    state_names = (*Decoder.state_names, "_received", "_codewords")

    def __init__(self, *shape: Any, copy: bool = False, capacity: int | None = None, **common: Any) -> None:
        super().__init__(*shape, **common)
        rows = 2 * self.blocks if capacity is None else positive_int("decoder.capacity", capacity)
        self._received = PayloadStore(self.elements, self.dtype, copy, rows)
        self._codewords: list[tuple[np.ndarray, np.ndarray]] = []
        self._structure = self._prepare(rows)

    @abstractmethod
    def _prepare(self, capacity: int) -> Structure:
        """Make the structure of the codewords, with memory for `capacity` of them."""

    def copy_payloads(self) -> None:
        self._received.copy = True

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        self._received.check(payload, len(indices))
        if self._received.copy:
            indices, values = indices.copy(), values.copy()
        self._structure.add_sparse(indices, values)  # raises before it changes anything
        self._received.add(payload)
        self._codewords.append((indices, values))
        self.count += len(indices)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._structure.reset()
        for indices, values in self._codewords:
            self._structure.add_sparse(indices, values)

    def reset(self) -> None:
        """Begin a new update and release the payloads."""
        self._received.clear()
        self._codewords.clear()
        self._structure.reset()
        self.count = 0
