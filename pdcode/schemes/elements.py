"""Base of schemes whose codewords are single elements of the gradient: sparsification.

A unit is a layer, cut into blocks of one element. A codeword is one of them with the entry 1, and its payload
is that element. In wire formats with scales, the payloads of a unit share scales.
"""

from collections.abc import Sequence
from typing import ClassVar

from ..config import Candidates, Fraction, Table, Tables
from ..config.requirements import Needs, lacking, one_of
from ..problems import Problem
from ..transport.units import Unit
from .base import COUNTING_MODE, UNCODED, WHITENING, Scheme

NO_SQUARE_MATRIX = "has as many codewords as parameters, and other decoders hold a square matrix of them"


class SingleElements(Scheme):
    """Elements of each layer's gradient, with error feedback."""

    unused: ClassVar[tuple[str, ...]] = ("code", *WHITENING)
    requires: ClassVar[Needs] = {
        "decoder.kind": one_of("adjoint", "summing", why=NO_SQUARE_MATRIX),
        "update.mode": lacking("by_fraction", COUNTING_MODE, "may send the same elements in several tasks"),
    }
    tables: ClassVar[Tables] = {**UNCODED, "memory": {"kind": "worker"}, "wire": {"dtype": "int8"}}

    class Options(Table):
        """Keys of ``[scheme] options``."""

        share: Fraction = 0.01  #: fraction of a layer's elements that a task sends, rounded up

        candidates: ClassVar[Candidates] = {"share": (0.0025, 0.004, 0.01, 0.02, 0.05)}

    def units(self, problem: Problem) -> Sequence[Unit]:
        return [Unit(layer.offset, layer.length, layer.length) for layer in problem.layers]
