"""Base of schemes whose codewords are single elements of the gradient: sparsification.

A unit is a layer, cut into blocks of one element; a codeword is one of them, with the entry 1, and its
payload is that element. The payloads of a unit have scales in common, in wire formats with scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ..config import Config, Tables
from ..problems import Problem
from ..problems.partition import Unit
from ..util.errors import InputError
from .base import Scheme


class SingleElements(Scheme):
    """Elements of each layer's gradient, with error feedback.

    Attributes
    ----------
    decoders_of : tuple of str
        Kinds of decoders that can be used; the others keep a matrix of the size of θ squared.
    """

    fused = False
    unused: ClassVar[tuple[str, ...]] = ("code",)
    decoders_of: ClassVar[tuple[str, ...]] = ("adjoint", "summing")
    tables: ClassVar[Tables] = {
        "code": {"family": "uncoded", "blocks": 1, "rotate": False},
        "memory": {"kind": "worker"},
        "wire": {"dtype": "int8"},
    }
    candidates: ClassVar[Mapping[str, Sequence[Any]]] = {"share": (0.0025, 0.01, 0.05)}

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        if config.decoder.kind not in cls.decoders_of:
            kinds = " or ".join(f"'{kind}'" for kind in cls.decoders_of)
            raise InputError(f"decoder.kind: '{config.decoder.kind}': scheme '{cls.name}' needs {kinds}")
        if config.update.by_fraction:
            raise InputError(
                f"update.mode: '{config.update.mode}' is undefined with scheme '{cls.name}', whose tasks may "
                "send the same elements"
            )

    def units(self, problem: Problem) -> Sequence[Unit]:
        return [Unit(layer.offset, layer.length, layer.length) for layer in problem.layers]
