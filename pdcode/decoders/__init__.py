"""Decoders: estimates of a gradient from codewords and payloads, updated with each arrival."""

from typing import Any

from ..config import DecoderTable, kinds
from ..util.errors import InputError, expected
from .base import Context, Decoder

__all__ = ["Context", "Decoder", "DecoderTable", "create"]


def create(
    kind: str, blocks: int, block_shape: tuple[int, ...], dtype: Any = "float32", **options: Any
) -> Decoder:
    """Make a decoder.

    Parameters
    ----------
    kind : str
        ``adjoint``, ``least_squares``, ``mmse``, ``peeling``, ``residual``, ``summing``, ``tracking``, or
        the kind of a plug-in.
    blocks : int
        Number of blocks k.
    block_shape : tuple of int
        Shape of a block of the gradient.
    dtype : dtype
        Type of payloads and gradient, float32 or float64.
    **options
        ``length``: elements of the gradient if the last blocks are short (default: k full blocks).
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
    table = kinds.find("decoders", kind)
    if table is None:
        raise InputError(f"decoder.kind: {expected(kind, kinds.names('decoders'))}")
    decoder: type[Decoder] = table.makes
    for name in options.keys() - set(decoder.options):
        raise InputError(
            f"decoder.{name} = {options[name]!r}: not an option of {kind}: {', '.join(decoder.options)}"
        )
    return decoder(blocks, block_shape, dtype, **options)
