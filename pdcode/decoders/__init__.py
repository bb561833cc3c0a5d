"""Decoders: from codewords and payloads, in the order in which they arrive, to a gradient."""

from __future__ import annotations

from typing import Any

from ..util.errors import InputError
from .adjoint import Adjoint
from .base import Decoder
from .least_squares import LeastSquares
from .mmse import Mmse
from .peeling import Peeling
from .residual import Residual
from .summing import Summing
from .tracking import Tracking

__all__ = ["KINDS", "Decoder", "create"]

KINDS: dict[str, type[Decoder]] = {
    "adjoint": Adjoint,
    "least_squares": LeastSquares,
    "mmse": Mmse,
    "peeling": Peeling,
    "residual": Residual,
    "summing": Summing,
    "tracking": Tracking,
}


def create(
    kind: str, blocks: int, block_shape: tuple[int, ...], dtype: Any = "float32", **options: Any
) -> Decoder:
    """Make a decoder.

    Parameters
    ----------
    kind : str
        ``adjoint``, ``least_squares``, ``mmse``, ``peeling``, ``residual``, ``summing`` or ``tracking``.
    blocks : int
        Number of blocks k.
    block_shape : tuple of int
        Shape of a block of the gradient.
    dtype : dtype
        float32 or float64: of payloads and gradient.
    **options
        ``length``: elements of the gradient if the last blocks are ragged (default: k blocks in full).
        adjoint: ``scale``, ``mean_of``, ``rows``. summing: ``mean_of``. tracking: ``step``.
        least_squares, mmse, peeling, residual: ``copy``, ``capacity``.
        mmse: ``covariance``, ``noise``, ``decay``, ``sample``.
        residual: ``tolerance``, ``faults``, ``checks``.

    Returns
    -------
    Decoder

    Raises
    ------
    InputError
        If the kind or an option is unknown, or a value is impossible.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"decoder.kind = {kind!r}: not one of {', '.join(KINDS)}")
    known = KINDS[kind].options
    for name in options.keys() - set(known):
        raise InputError(f"decoder.{name} = {options[name]!r}: not an option of {kind}: {', '.join(known)}")
    return KINDS[kind](blocks, block_shape, dtype, **options)
