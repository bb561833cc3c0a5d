"""The families of codes: one record each."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from ..util.errors import InputError
from . import equiangular, families, graph, hadamard, kerdock, lattices, net
from .sizes import Shape

Rows = tuple[np.ndarray, np.ndarray]


class Family(NamedTuple):
    """How a family is made, and what it promises."""

    build: Callable[..., Rows]  # (n, k, w, seed, **options) -> sparse rows
    weight: Callable[[int, int], int] | None = (
        None  # default for n rows and k blocks; none: as the shapes say
    )
    options: frozenset[str] | str = frozenset()  # or the module, imported late, whose OPTIONS they are
    period: Callable[[int], int] | None = lambda blocks: (
        blocks
    )  # rows of a whole round, tight; none: `shapes`
    shapes: Callable[[int], list[Shape]] | None = None  # k -> sizes; none: not for `auto`
    coherence: Callable[[int, int, int], float | None] = lambda rows, blocks, weight: None  # closed form
    checks: bool = False  # whether `build` itself refuses impossible sizes, naming the nearest
    any_weight: bool = False  # whether all weights up to k can be
    tight: bool = True  # whether whole rounds are tight

    @property
    def option_names(self) -> frozenset[str]:
        """Names of the options."""
        if isinstance(self.options, str):
            names: frozenset[str] = import_module(f".{self.options}", __package__).OPTIONS
            return names
        return self.options


def _late(module: str, function: str) -> Callable[..., Rows]:
    """Return a builder that is imported when it is used, as it needs modules that workers do without."""

    def build(*arguments: Any, **options: Any) -> Rows:
        rows: Rows = getattr(import_module(f".{module}", __package__), function)(*arguments, **options)
        return rows

    return build


FAMILIES: dict[str, Family] = {
    "uncoded": Family(
        families.uncoded,
        lambda rows, blocks: 1,
        shapes=lambda blocks: families.any_rows(1),
        coherence=families.repeated_coherence,
        checks=True,
    ),
    "repetition": Family(
        families.repetition, lambda rows, blocks: 1, coherence=families.repeated_coherence, checks=True
    ),
    "pairs": Family(
        families.pairs,
        lambda rows, blocks: 2,
        period=lambda blocks: 2 * blocks,
        shapes=families.pairs_shapes,
        coherence=families.pairs_coherence,
        checks=True,
    ),
    "random": Family(
        families.random,
        lambda rows, blocks: min(4, blocks),
        frozenset({"entries", "balanced"}),
        period=lambda blocks: 1,
        checks=True,
        any_weight=True,
        tight=False,
    ),
    "net": Family(
        net.net,
        net.default_weight,
        frozenset({"dither"}),
        shapes=net.shapes,
        coherence=net.coherence,
        checks=True,
    ),
    "graph": Family(
        graph.graph,
        options=frozenset({"degree", "kind"}),
        period=lambda blocks: 1,
        shapes=graph.shapes,
        coherence=lambda rows, blocks, weight: 0.5,
        tight=False,
    ),
    "steiner": Family(
        equiangular.steiner_frame,
        period=None,
        shapes=equiangular.steiner_shapes,
        coherence=lambda rows, blocks, weight: 1 / weight,
    ),
    "simplex-lines": Family(
        equiangular.simplex_lines,
        period=None,
        shapes=equiangular.lines_shapes,
        coherence=lambda rows, blocks, weight: 1 / weight,
    ),
    "tremain": Family(
        equiangular.tremain,
        period=None,
        shapes=equiangular.tremain_shapes,
        coherence=lambda rows, blocks, weight: 2 / (weight + 2),  # 1/(r₀ + 2) with w = v + 1 = 2 r₀ + 2
    ),
    "haar-simplex": Family(
        lattices.haar_simplex,
        period=None,
        shapes=lattices.haar_shapes,
        coherence=lambda rows, blocks, weight: 1 / blocks,
    ),
    "icosahedron": Family(
        lattices.icosahedron,
        period=None,
        shapes=lattices.icosahedron_shapes,
        coherence=lambda rows, blocks, weight: 1 / sqrt(5.0),
    ),
    "dk": Family(
        lattices.dk, period=lattices.dk_period, shapes=lattices.dk_shapes, coherence=lattices.dk_coherence
    ),
    "e8": Family(lattices.e8, shapes=lattices.e8_shapes, coherence=lattices.e8_coherence),
    "kerdock": Family(kerdock.kerdock, shapes=kerdock.shapes, coherence=kerdock.coherence),
    "hadamard": Family(hadamard.dense, shapes=hadamard.shapes, coherence=hadamard.coherence),
    "optimized": Family(
        _late("packing", "optimized"),
        lambda rows, blocks: blocks,
        "packing",
        period=lambda blocks: 1,
        checks=True,
        any_weight=True,
        tight=False,
    ),
    "energy": Family(
        _late("energy", "energy"),
        lambda rows, blocks: min(4, blocks),
        "energy",
        period=lambda blocks: 1,
        checks=True,
        any_weight=True,
        tight=False,
    ),
}


def family_of(name: str) -> Family:
    """Record of a family; InputError for other names."""
    if not isinstance(name, str) or name not in FAMILIES:
        raise InputError(f"family = {name!r}: not one of {', '.join(FAMILIES)}, auto")
    return FAMILIES[name]
