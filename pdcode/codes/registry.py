"""The families of codes by name."""

from __future__ import annotations

from typing import Any

from ..util.errors import InputError
from .constructions import energy, equiangular, graph, hadamard, kerdock, lattices, net, simple
from .family import Family, Rows, Size


def _optimized(*size: Any, **options: Any) -> Rows:
    from .optimise.packing import optimized  # nobody else needs the optimiser, nor scipy

    return optimized(*size, **options)


OPTIMIZED = Family(
    "optimized",
    "least coherence by numerical search, k ≤ 64",
    _optimized,
    lambda blocks, weight: [Size(weight or blocks)] if (weight or 1) <= blocks <= 64 else [],
    options=frozenset({"restarts", "seconds", "supports", "processes", "state", "progress"}),
    period=lambda blocks: 1,
    tight=False,
)

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        simple.UNCODED,
        simple.REPETITION,
        simple.PAIRS,
        simple.RANDOM,
        net.NET,
        graph.GRAPH,
        equiangular.STEINER,
        equiangular.SIMPLEX_LINES,
        equiangular.TREMAIN,
        lattices.HAAR_SIMPLEX,
        lattices.ICOSAHEDRON,
        lattices.DK,
        lattices.E8,
        kerdock.KERDOCK,
        hadamard.HADAMARD,
        OPTIMIZED,
        energy.ENERGY,
    )
}


def register(family: Family) -> None:
    """Add a family, such as a plug-in's.

    Raises
    ------
    ValueError
        If there is another of its name.
    """
    if FAMILIES.setdefault(family.name, family) is not family or family.name == "auto":
        raise ValueError(f"there is a family of codes named {family.name!r} already")


def family_of(name: Any) -> Family:
    """Return a family by its name; InputError if there is none."""
    if not isinstance(name, str) or name not in FAMILIES:
        raise InputError(f"family = {name!r}: not one of {', '.join(FAMILIES)}, auto")
    return FAMILIES[name]
