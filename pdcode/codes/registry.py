"""Registry of the families of codes."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

from ..config import kinds
from ..util.errors import InputError
from .constructions import energy, equiangular, graph, hadamard, kerdock, lattices, net, simple
from .family import Family, Rows, Size


def _optimized(*size: Any, **options: Any) -> Rows:
    from .optimise.packing import optimized  # only this family needs the optimiser and scipy

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
    """Register a family, such as a plug-in's.

    Raises
    ------
    InputError
        If another family has this name.
    """
    if family.name == "auto":
        raise InputError("'auto' of codes is in pdcode already")
    other = FAMILIES.get(family.name, family)
    if other is not family:
        raise InputError(f"'{family.name}' of codes is in {inspect.getfile(other.build)} already")
    FAMILIES[family.name] = family


def find(name: Any) -> Family | None:
    """Return a family by its name, or None; includes entry points of installed packages."""
    if not isinstance(name, str) or name in FAMILIES:
        return FAMILIES.get(name)
    family = kinds.find("codes", name)
    if isinstance(family, Family):
        register(family)
    return FAMILIES.get(name)


def families() -> list[Family]:
    """Return all families; those of installed packages last, without those that cannot be imported."""
    found: list[Family] = []
    for name in dict.fromkeys([*FAMILIES, *kinds.names("codes")]):
        with suppress(InputError):
            if (family := find(name)) is not None:
                found.append(family)
    return found


def family_of(name: Any) -> Family:
    """Return a family by its name; raise InputError if there is none."""
    family = find(name)
    if family is None:
        known = ", ".join(each.name for each in families())
        raise InputError(f"family = {name!r}: not one of {known}, auto")
    return family
