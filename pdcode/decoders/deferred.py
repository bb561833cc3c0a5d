"""What decoders share that leave payloads where they were received until the gradient is asked for."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

import numpy as np

from .base import Decoder, count_of
from .received import Received


class Structure(Protocol):
    """What is kept of the codewords."""

    def add_sparse(self, indices: np.ndarray, values: np.ndarray) -> object: ...
    def reset(self) -> None: ...


class Deferred(Decoder):
    """A decoder whose arrivals cost work on the codewords alone.

    Parameters
    ----------
    blocks, block_shape, dtype, length
        As for `Decoder`.
    copy : bool
        Whether `add_sparse` copies payloads. If not, a payload must stay unchanged until `reset`; `add`
        copies in any case.
    capacity : int, optional
        Codewords between two resets for which room is made at once (default 2k); it grows when needed.
    """

    options = (*Decoder.options, "copy", "capacity")

    def __init__(self, *shape: Any, copy: bool = False, capacity: int | None = None, **common: Any) -> None:
        super().__init__(*shape, **common)
        room = 2 * self.blocks if capacity is None else count_of("decoder.capacity", capacity)
        self._received = Received(self.elements, self.dtype, copy, room)
        self._structure = self._prepare(room)

    @abstractmethod
    def _prepare(self, room: int) -> Structure:
        """Make what keeps the codewords, with room for so many at once."""

    def add_sparse(self, indices: np.ndarray, values: np.ndarray, payload: np.ndarray) -> None:
        self._received.check(payload, len(indices))
        self._structure.add_sparse(indices, values)  # raises before it changes anything
        self._received.add(payload)
        self.count += len(indices)

    def reset(self) -> None:
        """Begin a new update; references to payloads are given up."""
        self._received.clear()
        self._structure.reset()
        self.count = 0
