"""The adjoint decoder: a scaled sum of g_i ⊗ y_i."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..config import DecoderTable
from ..util.errors import InputError
from .adding import AddingDecoder
from .base import Context, Decoder, finite_float, positive_int

SUMMING = "add_sparse", "added", "gradient", "solve", "reset"


class AdjointDecoder(AddingDecoder):
    """Adjoint decoder: ĝ = c Σ g_i ⊗ y_i over the arrivals, O(w·e) for each codeword.

    With c = k/q (`scale` = "mean") it is unbiased if a random set of rows of a tight code arrives; a
    number as `scale` is a constant c. `mean_of` = n is c = 1/n instead: the mean over workers with
    error-feedback memory, where no part of a gradient is lost and nothing must be scaled up. With `rows` = n
    rows of the (tight) code, the captured fraction of q distinct rows is q / (k + (q-1)(n-k)/(n-1)). It
    stores no payloads, and records which blocks it touched. With the capability `only_scales` the gradient is
    the sum of arrivals times `scale_of` their number.
    """

    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **AddingDecoder.covers,
        "only_scales": (*SUMMING, "scale", "scale_of", "captured", "captured_of"),
    }
    only_scales: ClassVar[bool] = True

    clears = True
    options = (*Decoder.options, "scale", "mean_of", "rows")
    touched: list[np.ndarray]

    def __init__(
        self,
        *shape: Any,
        scale: str | float = "mean",
        mean_of: int | None = None,
        rows: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(*shape, **common)
        if isinstance(scale, str) and scale != "mean":
            raise InputError(f"decoder.scale = {scale!r}: neither 'mean' nor a number")
        if mean_of is not None and scale != "mean":
            raise InputError(f"decoder.mean_of = {mean_of}: scale is given too")
        self._constant: float | None = None
        if mean_of is not None:
            self.senders = positive_int("decoder.mean_of", mean_of)
            self._constant = 1 / self.senders
        elif not isinstance(scale, str):
            self._constant = finite_float("decoder.scale", scale)
        rows = None if rows is None else positive_int("decoder.rows", rows)
        # Fewer rows than blocks cannot be tight: they are assumed to be orthogonal.
        self._overlap = (rows - self.blocks) / (rows - 1) if rows is not None and rows > self.blocks else 0.0
        self._captured = 0, 0.0  # number of codewords, and the fraction that they capture
        self.touched = []

    @property
    def scale(self) -> float:
        constant = self._constant  # checked first, as asynchronous runs need the scale at every arrival
        return self.scale_of(self.count) if constant is None else constant

    def scale_of(self, count: int) -> float:
        """Return `scale` after a number of codewords."""
        if self._constant is not None:
            return self._constant
        return self.blocks / count if count else 1.0

    @property
    def captured(self) -> float:
        count = self.count
        if count != self._captured[0]:  # cached, as asynchronous runs need the same few numbers repeatedly
            self._captured = count, self.captured_of(count)
        return self._captured[1]

    def captured_of(self, count: int) -> float:
        """Return `captured` after a number of codewords."""
        return min(1.0, count / (self.blocks + (count - 1) * self._overlap)) if count else 0.0

    def reset(self) -> None:
        """Begin a new update; no work after a step, which has already zeroed the accumulator."""
        if self.touched:
            self.accumulator.fill(0)
            self.touched.clear()
        self.count = 0


class AdjointTable(DecoderTable, tag="adjoint"):
    """A scaled sum of the arrivals; a plain sum with memory ``worker``."""

    makes: ClassVar[type[Decoder]] = AdjointDecoder
    relays: ClassVar[bool] = True
    adds: ClassVar[bool] = True

    def options(self, context: Context) -> dict[str, Any]:
        return {"mean_of": context.mean_of, "rows": context.rows}
